"""MP4 (H.264) codec for human videos. Needs the extra `video` (PyAV)."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from gen2act_contracts.errors import InvalidVideo

MAX_FRAMES = 512
MAX_SIDE = 2048  # [px]
MAX_BYTES = 32 * 1024 * 1024
# A few megabytes of a still 2048 px picture decode to gigabytes; this fits 5 s of 1080p.
MAX_DECODED_BYTES = 1024 * 1024 * 1024
# Visually lossless for 224 px frames: the policy must see the scene, not the codec.
_CRF = 17
_MAX_FPS = 240


def encode_mp4(frames: NDArray[np.uint8] | Sequence[NDArray[np.uint8]], fps: float) -> bytes:
    """The frames as MP4 (H.264, yuv420p), the same bytes for the same input.

    Args:
        frames: uint8[N, H, W, 3] RGB, or a sequence of uint8[H, W, 3]; N >= 1, H and W even.
        fps: frames per second, in (0, 240].

    Raises:
        InvalidVideo: no frames, odd or differing sizes, another dtype, or fps out of range.
    """
    if len(frames) == 0:
        raise InvalidVideo("video has no frames")
    if not (math.isfinite(fps) and 0 < fps <= _MAX_FPS):
        raise InvalidVideo(f"video has {fps} frames per second, expected (0, {_MAX_FPS}]")
    shape = frames[0].shape
    for index, frame in enumerate(frames):
        if frame.dtype != np.uint8 or frame.shape != shape or frame.ndim != 3 or shape[2] != 3:
            raise InvalidVideo(
                f"frame {index} is {frame.dtype}{list(frame.shape)}, expected uint8[H, W, 3] "
                "of one size"
            )
    if shape[0] % 2 or shape[1] % 2:
        raise InvalidVideo(f"frames are {shape[1]}x{shape[0]} px; 4:2:0 needs even sides")
    out = io.BytesIO()
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(out, mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = shape[0], shape[1]
        stream.pix_fmt = "yuv420p"
        # One thread: how x264 splits work among threads changes the bytes, and the bytes are
        # the video's id.
        stream.thread_count = 1
        stream.options = {"crf": str(_CRF), "preset": "medium", "threads": "1"}
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return out.getvalue()


def decode_mp4(
    data: bytes,
    *,
    max_frames: int = MAX_FRAMES,
    max_side: int = MAX_SIDE,
    max_bytes: int = MAX_BYTES,
) -> tuple[NDArray[np.uint8], float]:
    """Frames and frame rate of an MP4 (any codec the build of FFmpeg knows).

    Args:
        data: not trusted.
        max_frames: more frames are refused, as soon as one too many is met.
        max_side: [px] of width and height.
        max_bytes: of `data`.

    Returns:
        uint8[N, H, W, 3] RGB and frames per second.

    Raises:
        InvalidVideo: a limit is passed, no video stream or no frame in it, or broken data.
    """
    if not data:
        raise InvalidVideo("video has no data")
    if len(data) > max_bytes:
        raise InvalidVideo(f"video has {len(data)} bytes, at most {max_bytes} accepted")
    try:
        # The demuxer is named: guessing would let playlists through, which open other files.
        with av.open(
            io.BytesIO(data), mode="r", format="mov,mp4,m4a,3gp,3g2,mj2", metadata_errors="ignore"
        ) as container:
            if not container.streams.video:
                raise InvalidVideo("file has no video stream")
            stream = container.streams.video[0]
            # Typed as always there, but absent for a codec this FFmpeg does not know.
            if getattr(stream, "codec_context", None) is None:
                raise InvalidVideo("video has an unknown codec")
            _check_video_size(stream.width, stream.height, max_side)
            stream.thread_count = 1
            fps = float(stream.average_rate or stream.guessed_rate or 0)
            frames: list[NDArray[np.uint8]] = []
            for frame in container.decode(stream):
                # A stream may change its size in the middle.
                _check_video_size(frame.width, frame.height, max_side)
                if len(frames) == max_frames:
                    raise InvalidVideo(f"video has more than {max_frames} frames")
                if (len(frames) + 1) * frame.width * frame.height * 3 > MAX_DECODED_BYTES:
                    raise InvalidVideo(
                        f"video of {frame.width}x{frame.height} px is too long: more than "
                        f"{MAX_DECODED_BYTES} bytes decoded"
                    )
                frames.append(np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8))
    except FFmpegError as error:
        raise InvalidVideo(f"video cannot be decoded: {error.strerror}") from None
    if not frames:
        raise InvalidVideo("video has no frames")
    if any(frame.shape != frames[0].shape for frame in frames):
        raise InvalidVideo("video changes its size in the middle")
    if not (math.isfinite(fps) and 0 < fps <= _MAX_FPS):
        raise InvalidVideo(f"video has {fps} frames per second, expected (0, {_MAX_FPS}]")
    return np.stack(frames), fps


def _check_video_size(width: int, height: int, max_side: int) -> None:
    if not (0 < width <= max_side and 0 < height <= max_side):
        raise InvalidVideo(f"video is {width}x{height} px, expected sides of 1 to {max_side} px")
