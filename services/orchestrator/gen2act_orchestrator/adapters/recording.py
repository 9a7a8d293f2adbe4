"""Videos for people: the rollout as MP4, and a check of what they upload."""

from __future__ import annotations

import io
from collections.abc import Sequence

import av
import numpy as np
from av.error import FFmpegError
from PIL import Image, UnidentifiedImageError

from gen2act_contracts.errors import ArtefactMissing, InvalidVideo
from gen2act_contracts.video import encode_mp4

MAX_UPLOAD_BYTES = 32 * 1024 * 1024
_MAX_SIDE = 4096  # [px] as phones record
_MIN_SIDE = 16  # [px]
_MAX_SECONDS = 60.0  # [s]
_MAX_FRAMES = 3600  # a minute at 60 Hz


def encode_rollout(jpegs: Sequence[bytes], fps: float) -> bytes:
    """The recorded frames as one MP4. Slow: not for the event loop.

    Frames that cannot be read are left out; all take the size of the first.

    Raises:
        ArtefactMissing: no frame can be read.
    """
    frames = []
    size: tuple[int, int] | None = None
    for jpeg in jpegs:
        try:
            with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as picture:
                if size is None:
                    # 4:2:0 needs even sides
                    size = (picture.width // 2 * 2, picture.height // 2 * 2)
                rgb = picture.convert("RGB")
                frames.append(np.asarray(rgb if rgb.size == size else rgb.resize(size)))
        except (OSError, ValueError, SyntaxError, UnidentifiedImageError):
            continue
    if not frames:
        raise ArtefactMissing("no frame of the rollout can be read")
    return encode_mp4(frames, fps)


def check_upload(mp4: bytes) -> dict[str, object]:
    """Decode an uploaded recording to its end, one frame in memory at a time. Slow.

    Returns:
        frames, seconds, width and height [px].

    Raises:
        InvalidVideo: no MP4, nothing in it, damaged, or beyond a limit; names the limit.
    """
    if not mp4:
        raise InvalidVideo("the request has no body; send the MP4 file itself as the body")
    try:
        # The demuxer is named: guessing would let playlists through, which open other files.
        with av.open(io.BytesIO(mp4), mode="r", format="mov,mp4,m4a,3gp,3g2,mj2") as container:
            if not container.streams.video:
                raise InvalidVideo("the file has no video stream")
            stream = container.streams.video[0]
            _check_sides(stream.width, stream.height)
            count, first_s, last_s = 0, 0.0, 0.0
            for frame in container.decode(stream):
                _check_sides(frame.width, frame.height)  # a stream may change them on the way
                time_s = frame.time if frame.time is not None else count / 30
                first_s = time_s if count == 0 else first_s
                last_s = max(last_s, time_s)
                count += 1
                if count > _MAX_FRAMES or last_s - first_s > _MAX_SECONDS:
                    raise InvalidVideo(
                        f"the video is longer than {_MAX_SECONDS:.0f} s or {_MAX_FRAMES} frames"
                    )
            width, height = stream.width, stream.height
    except (FFmpegError, ValueError, OSError) as error:
        raise InvalidVideo(f"the body cannot be decoded as an MP4 video: {error}") from None
    if count < 2:
        raise InvalidVideo(f"the video has {count} frames; at least 2 are needed to show motion")
    return {
        "frames": count,
        "seconds": round(last_s - first_s, 3),
        "width": width,
        "height": height,
    }


def _check_sides(width: int, height: int) -> None:
    if not (_MIN_SIDE <= width <= _MAX_SIDE and _MIN_SIDE <= height <= _MAX_SIDE):
        raise InvalidVideo(
            f"the video is {width}x{height} px; sides of {_MIN_SIDE} to {_MAX_SIDE} px are accepted"
        )
