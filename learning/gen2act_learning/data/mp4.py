"""Pictures of many episodes in one MP4: clips are encoded apart, joined, and cut out again."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from .errors import DatasetError

U8 = NDArray[np.uint8]

# H.264 at 36 dB and 4 kB a frame of 224 px, 2 ms to encode: below a camera's JPEG, not above it.
# No B-frames: a clip's frames come in order and its first is a key frame, so clips can be joined.
_OPTIONS: dict[str, object] = {"crf": "17", "preset": "veryfast", "bf": "0", "threads": "1"}


def encode_clip(frames: U8, fps: float) -> bytes:
    """uint8 [T, S, S, 3] as an MP4 that can be joined with others of the same size and rate."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        stream.options = dict(_OPTIONS)
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return out.getvalue()


def join_clips(clips: Sequence[bytes], lengths: Sequence[int], fps: float) -> bytes:
    """One MP4 of the clips' packets, nothing encoded anew; frame n stands at n / fps.

    Args:
        clips: of :func:`encode_clip`, all of one size and rate.
        lengths: frames of each clip.
    """
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as target:
        stream: Any = None
        before = 0
        for clip, length in zip(clips, lengths, strict=True):
            with av.open(io.BytesIO(clip), "r") as source:
                video = source.streams.video[0]
                if stream is None:
                    stream = target.add_stream_from_template(video, opaque=True)
                tick = 1 / (Fraction(fps).limit_denominator(1001) * (video.time_base or 1))
                for packet in source.demux(video):
                    if packet.pts is None or packet.dts is None:
                        continue  # the flushing packet at the end
                    packet.pts += int(before * tick)
                    packet.dts += int(before * tick)
                    packet.stream = stream
                    target.mux(packet)
            before += length
    return out.getvalue()


def frame_count(path: Path) -> int:
    """Frames that the file's header speaks of. Raises DatasetError: missing or broken."""
    with _open(path) as container:
        return int(container.streams.video[0].frames)


def decode_frames(path: Path, times_s: NDArray[np.float64], tolerance_s: float) -> U8:
    """The pictures at the given times, uint8 [T, H, W, 3].

    Args:
        times_s: in the file, increasing.
        tolerance_s: a picture this near to a wanted time is the wanted one.

    Raises:
        DatasetError: missing or broken file, or no picture at one of the times.
    """
    found: list[U8] = []
    with _open(path) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        base = stream.time_base
        start_s = max(float(times_s[0]) - tolerance_s, 0.0)
        try:
            container.seek(int(start_s / base), stream=stream)
            for frame in container.decode(stream):
                late_s = float(frame.pts * base) - times_s[len(found)]
                if late_s > tolerance_s:
                    break
                if late_s >= -tolerance_s:
                    found.append(frame.to_ndarray(format="rgb24"))
                    if len(found) == len(times_s):
                        return np.stack(found)
        except FFmpegError as error:
            raise DatasetError(f"{path} cannot be decoded: {error.strerror}") from None
    raise DatasetError(
        f"{path} has no frame at {times_s[len(found)]:.3f} s: frames are missing; record the "
        "episode again or leave it out (`gen2act-data describe --exclude`)"
    )


def _open(path: Path) -> Any:
    if not path.exists():
        raise DatasetError(f"{path} is missing; copy the dataset again, with its videos")
    try:
        container = av.open(str(path), metadata_errors="ignore")
    except FFmpegError as error:
        raise DatasetError(f"{path} cannot be opened: {error.strerror}") from None
    if not container.streams.video:
        container.close()
        raise DatasetError(f"{path} holds no video")
    return container
