"""People's own recordings → upright square frames."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from gen2act_contracts.errors import InvalidVideo
from gen2act_videogen.backends.ingest import MAX_KEPT_FRAMES, read_square_video


def a_recording(
    frames: int = 40, width: int = 128, height: int = 64, fps: int = 20, container: str = "mp4"
) -> bytes:
    """A video whose brightness grows with time and whose left border is red."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.thread_count = 1
        for index in range(frames):
            picture = np.full((height, width, 3), 40 + index * 160 // frames, np.uint8)
            picture[:, : width // 8] = (255, 0, 0)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode())
    return buffer.getvalue()


def turned(data: bytes) -> bytes:
    """The same MP4 with a display matrix that says: turn by a quarter clockwise, as phones do."""
    at = data.index(b"tkhd") + 4 + 40
    fixed = 1 << 16
    matrix = [0, fixed, 0, -fixed, 0, 0, 0, 0, 1 << 30]
    packed = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    return data[:at] + packed + data[at + 36 :]


def test_the_central_square_is_kept_and_scaled() -> None:
    frames, fps = read_square_video(a_recording(), 32)
    assert frames.shape == (40, 32, 32, 3)
    assert frames.dtype == np.uint8
    assert fps == pytest.approx(20, rel=0.05)
    red = (frames[..., 0].astype(int) - frames[..., 1]) > 60
    assert not red.any()  # the red border lies outside of the square


def test_long_recordings_are_thinned_evenly_with_first_and_last_kept() -> None:
    frames, fps = read_square_video(a_recording(frames=333), 32)
    assert len(frames) == MAX_KEPT_FRAMES
    assert len(frames) / fps == pytest.approx(333 / 20, rel=0.05)
    brightness = frames.mean(axis=(1, 2, 3))
    assert np.all(np.diff(brightness) > -1)
    assert np.abs(np.diff(brightness)).max() < 10
    assert brightness[0] == pytest.approx(40, abs=4)
    assert brightness[-1] == pytest.approx(40 + 332 * 160 // 333, abs=4)


def test_a_phone_s_turned_recording_is_put_upright() -> None:
    data = a_recording(width=64, height=64)
    upright, _ = read_square_video(data, 32)
    quarter, _ = read_square_video(turned(data), 32)
    assert upright[0, 16, 1, 0] > 200 > 100 > upright[0, 16, 1, 1]  # red on the left
    assert quarter[0, 1, 16, 0] > 200 > 100 > quarter[0, 1, 16, 1]  # and on top, turned clockwise


def test_other_containers_are_read() -> None:
    frames, _ = read_square_video(a_recording(container="matroska"), 32)
    assert len(frames) == 40


@pytest.mark.parametrize("data", [b"", b"no video", b"\x00" * 4096, a_recording()[:600]])
def test_what_is_no_video_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidVideo):
        read_square_video(data, 32)


def test_playlists_that_name_other_files_are_refused() -> None:
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n"
    with pytest.raises(InvalidVideo):
        read_square_video(playlist, 32)


def test_a_recording_that_ends_early_is_refused_or_read_as_far_as_it_goes() -> None:
    data = a_recording(frames=60, container="matroska")
    frames, _ = read_square_video(data[: len(data) * 2 // 3], 32)
    assert 0 < len(frames) < 60


def test_too_large_pictures_are_refused_with_the_limit() -> None:
    with pytest.raises(InvalidVideo, match="sides from 16 to 4096"):
        read_square_video(a_recording(frames=1, width=4112, height=32), 32)


def test_too_long_recordings_are_refused_with_the_limit() -> None:
    with pytest.raises(InvalidVideo, match="longer than 60 s"):
        read_square_video(a_recording(frames=70, fps=1), 32)
