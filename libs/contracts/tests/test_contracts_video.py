import io
import wave
from contextlib import suppress

import numpy as np
import pytest
from numpy.typing import NDArray

from gen2act_contracts import video
from gen2act_contracts.errors import InvalidVideo
from gen2act_contracts.video import decode_mp4, encode_mp4


def moving_square(count: int = 20, side: int = 64) -> NDArray[np.uint8]:
    frames = np.full((count, side, side, 3), 40, dtype=np.uint8)
    for index in range(count):
        frames[index, 8:24, index : index + 16] = (220, 60, 30)
    return frames


def test_a_video_comes_back_with_its_frames_and_rate() -> None:
    frames = moving_square()

    back, fps = decode_mp4(encode_mp4(frames, fps=15))

    assert back.shape == frames.shape
    assert back.dtype == np.uint8
    assert fps == 15
    assert np.abs(back.astype(int) - frames).mean() < 3


@pytest.mark.parametrize("fps", [10.0, 3.0, 29.97, 1 / 3])
def test_a_rate_that_is_no_whole_number_survives(fps: float) -> None:
    assert decode_mp4(encode_mp4(moving_square(6), fps))[1] == pytest.approx(fps, rel=1e-3)


def test_a_video_of_one_frame_survives() -> None:
    assert decode_mp4(encode_mp4(moving_square(1), 10))[0].shape == (1, 64, 64, 3)


def test_the_same_frames_give_the_same_bytes() -> None:
    frames = moving_square()

    assert encode_mp4(frames, 15) == encode_mp4(list(frames), 15)


@pytest.mark.parametrize(
    ("frames", "named"),
    [
        (np.zeros((0, 64, 64, 3), np.uint8), "no frames"),
        (np.zeros((2, 65, 64, 3), np.uint8), "even"),
        (np.zeros((2, 64, 64), np.uint8), "expected uint8"),
        (np.zeros((2, 64, 64, 3), np.float32), "expected uint8"),
        ([np.zeros((64, 64, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)], "frame 1"),
    ],
)
def test_frames_that_make_no_video_are_refused(frames: NDArray[np.uint8], named: str) -> None:
    with pytest.raises(InvalidVideo, match=named):
        encode_mp4(frames, 10)


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf"), 10_000.0])
def test_an_impossible_rate_is_refused(fps: float) -> None:
    with pytest.raises(InvalidVideo, match="frames per second"):
        encode_mp4(moving_square(2), fps)


def test_too_many_bytes_are_refused_unread() -> None:
    with pytest.raises(InvalidVideo, match="at most 1000"):
        decode_mp4(encode_mp4(moving_square(), 10), max_bytes=1000)
    with pytest.raises(InvalidVideo, match=f"at most {32 * 1024 * 1024}"):
        decode_mp4(bytes(32 * 1024 * 1024 + 1))


def test_too_many_frames_are_refused() -> None:
    data = encode_mp4(moving_square(20), 10)

    assert len(decode_mp4(data, max_frames=20)[0]) == 20
    with pytest.raises(InvalidVideo, match="more than 19 frames"):
        decode_mp4(data, max_frames=19)


def test_too_large_a_picture_is_refused() -> None:
    with pytest.raises(InvalidVideo, match="64x64 px, expected sides of 1 to 32"):
        decode_mp4(encode_mp4(moving_square(), 10), max_side=32)


def test_a_small_file_that_decodes_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "MAX_DECODED_BYTES", 10 * 64 * 64 * 3)

    assert len(decode_mp4(encode_mp4(moving_square(10), 10))[0]) == 10
    with pytest.raises(InvalidVideo, match="too long"):
        decode_mp4(encode_mp4(moving_square(11), 10))


@pytest.mark.parametrize("data", [b"", b"no video", bytes(1000), b"#EXTM3U\n/etc/passwd\n"])
def test_what_is_no_video_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidVideo):
        decode_mp4(data)


def test_a_truncated_video_is_refused() -> None:
    data = encode_mp4(moving_square(), 10)

    for length in (100, len(data) // 2, len(data) - 100):
        with pytest.raises(InvalidVideo):
            decode_mp4(data[:length])


def test_videos_with_broken_bytes_are_decoded_or_refused_but_nothing_else() -> None:
    whole = encode_mp4(moving_square(8), 10)
    random = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        for at in random.integers(0, len(data), size=8):
            data[at] = random.integers(0, 256)
        with suppress(InvalidVideo):
            assert decode_mp4(bytes(data))[0].ndim == 4


def test_sound_alone_is_refused() -> None:
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(1600))

    with pytest.raises(InvalidVideo):
        decode_mp4(out.getvalue())
