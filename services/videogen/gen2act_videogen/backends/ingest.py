"""A video as people record it → few upright, square, small frames, in bounded memory.

Frames are decoded one at a time and scaled down at once: ten seconds of 1080p are 1.8 GB when
held, 45 MB when kept at 224x224.
"""

from __future__ import annotations

import io

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from gen2act_contracts.errors import InvalidVideo

U8 = npt.NDArray[np.uint8]

MAX_BYTES = 32 << 20
MAX_SIDE_PX = 4096
MIN_SIDE_PX = 16
MAX_DURATION_S = 60.0
MAX_DECODED_FRAMES = 60 * 60  # a minute at 60 frames a second
MAX_KEPT_FRAMES = 64  # the policy samples 16 of them

_TURN = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180}
_TURN[270] = Image.Transpose.ROTATE_270


def read_square_video(data: bytes, size: int) -> tuple[U8, float]:
    """Upright central square of a video, evenly thinned to at most 64 frames.

    Args:
        data: an MP4, MOV, 3GP, WebM, Matroska or AVI file; not trusted.
        size: side of the result S [px].

    Returns:
        uint8 [N, S, S, 3] RGB with the first and the last frame included, and the frame rate that
        keeps the recording's duration.

    Raises:
        InvalidVideo: no video, truncated, or beyond a limit; the limit is named.
    """
    if not data:
        raise InvalidVideo("the uploaded video is empty")
    if len(data) > MAX_BYTES:
        raise InvalidVideo(f"the video has {len(data)} bytes; at most {MAX_BYTES} are read")
    try:
        with av.open(io.BytesIO(data), mode="r", format=_container(data)) as container:
            return _read(container, size)
    except (av.FFmpegError, ValueError, OSError) as error:
        raise InvalidVideo(f"the uploaded data cannot be decoded as a video: {error}") from error


def _container(data: bytes) -> str:
    """The demuxer, named: guessing would let playlists through, which open other files."""
    if data.startswith(b"\x1aE\xdf\xa3"):
        return "matroska,webm"
    if data.startswith(b"RIFF") and data[8:12] == b"AVI ":
        return "avi"
    return "mov,mp4,m4a,3gp,3g2,mj2"


def _read(container: av.container.InputContainer, size: int) -> tuple[U8, float]:
    if not container.streams.video:
        raise InvalidVideo("the uploaded file has no video stream")
    stream = container.streams.video[0]
    width, height = stream.codec_context.width, stream.codec_context.height
    _check_sides(width, height)
    kept: list[U8] = []
    last: U8 | None = None
    stride = 1
    count = 0
    first_s = last_s = 0.0
    for frame in container.decode(stream):
        if count >= MAX_DECODED_FRAMES:
            raise InvalidVideo(f"the video has more than {MAX_DECODED_FRAMES} frames")
        time_s = frame.time if frame.time is not None else float(count) / 30.0
        first_s = time_s if count == 0 else first_s
        last_s = max(last_s, time_s)
        if last_s - first_s > MAX_DURATION_S:
            raise InvalidVideo(f"the video is longer than {MAX_DURATION_S:g} s")
        _check_sides(frame.width, frame.height)  # a stream may change them on the way
        last = _square(frame, size)
        if count % stride == 0:
            kept.append(last)
        count += 1
        if len(kept) > 2 * MAX_KEPT_FRAMES:
            # Twice as many as wanted: halve and go on at half the rate.
            kept, stride = kept[::2], stride * 2
    if last is None:
        raise InvalidVideo("the video has no frames")
    if (count - 1) % stride:
        kept.append(last)
    chosen = np.linspace(0, len(kept) - 1, min(len(kept), MAX_KEPT_FRAMES)).round().astype(int)
    frames = np.stack([kept[index] for index in chosen])
    duration_s = max(last_s - first_s, 1e-3)
    fps = (len(frames) - 1) / duration_s if len(frames) > 1 else 1.0
    return frames, float(np.clip(fps, 1.0, 120.0))


def _check_sides(width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE_PX or max(width, height) > MAX_SIDE_PX:
        raise InvalidVideo(
            f"the video is {width}x{height} px; sides from {MIN_SIDE_PX} to {MAX_SIDE_PX} are read"
        )


def _square(frame: av.VideoFrame, size: int) -> U8:
    picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
    turn = _TURN.get(int(frame.rotation) % 360)  # phones store portrait as turned landscape
    if turn is not None:
        picture = picture.transpose(turn)
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = (left, top, left + side, top + side)
    small = picture.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    return np.asarray(small, dtype=np.uint8)
