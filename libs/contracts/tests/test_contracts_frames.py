import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from gen2act_contracts import frames, pb
from gen2act_contracts.errors import InvalidImage
from gen2act_contracts.frames import Frame, decode, encode_jpeg, encode_raw, resize


def gradient(size: int = 224) -> Frame:
    ramp = np.linspace(0, 255, size, dtype=np.uint8)
    red, green = np.meshgrid(ramp, ramp)
    return Frame(np.stack([red, green, 255 - red], axis=-1))


def jpeg(pixels: NDArray[np.uint8], size: tuple[int, int] | None = None) -> pb.common.Image:
    out = io.BytesIO()
    PillowImage.fromarray(pixels).save(out, format="JPEG")
    width, height = size or (pixels.shape[1], pixels.shape[0])
    return pb.common.Image(
        encoding=pb.common.IMAGE_ENCODING_JPEG, width=width, height=height, data=out.getvalue()
    )


def png_header(side: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


def with_claimed_side(data: bytes, side: int) -> bytes:
    """The JPEG with another size written into its frame header (a decompression bomb)."""
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + struct.pack(">HH", side, side) + data[at + 9 :]


def test_raw_is_lossless_and_jpeg_is_close() -> None:
    frame = gradient()

    assert (decode(encode_raw(frame)).pixels == frame.pixels).all()
    error = np.abs(decode(encode_jpeg(frame)).pixels.astype(int) - frame.pixels)
    assert error.mean() < 3


def test_channels_keep_their_order() -> None:
    red = Frame(np.full((32, 32, 3), (250, 5, 5), dtype=np.uint8))

    assert decode(encode_jpeg(red)).pixels[16, 16, 0] > 200


def test_a_grey_jpeg_becomes_rgb() -> None:
    assert decode(jpeg(np.full((32, 32), 77, dtype=np.uint8))).pixels.shape == (32, 32, 3)


def test_pixels_cannot_be_written_and_the_callers_array_still_can() -> None:
    own = np.zeros((16, 16, 3), dtype=np.uint8)
    frame = Frame(own)

    with pytest.raises(ValueError, match="read-only"):
        frame.pixels[0, 0, 0] = 1
    own[0, 0, 0] = 1


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((16, 16), dtype=np.uint8),
        np.zeros((16, 16, 4), dtype=np.uint8),
        np.zeros((16, 16, 3), dtype=np.float32),
        np.zeros((16, 17, 3), dtype=np.uint8),
        np.zeros((1, 1, 3), dtype=np.uint8),
        np.zeros((2049, 2049, 3), dtype=np.uint8),
    ],
)
def test_what_is_no_square_rgb_image_is_no_frame(pixels: NDArray[np.uint8]) -> None:
    with pytest.raises(InvalidImage):
        Frame(pixels)


def test_a_jpeg_cut_anywhere_is_refused() -> None:
    whole = encode_jpeg(gradient(64))

    for length in [*range(1, len(whole.data) - 2, 97), len(whole.data) // 2]:
        cut = pb.common.Image()
        cut.CopyFrom(whole)
        cut.data = whole.data[:length]
        with pytest.raises(InvalidImage):
            decode(cut)


def test_jpegs_with_broken_bytes_are_decoded_or_refused_but_nothing_else() -> None:
    whole = encode_jpeg(gradient(32))
    random = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole.data)
        for at in random.integers(0, len(data), size=4):
            data[at] = random.integers(0, 256)
        broken = pb.common.Image()
        broken.CopyFrom(whole)
        broken.data = bytes(data)
        with suppress(InvalidImage):
            assert decode(broken).size == 32


# Pillow warns of 10,000 px a side and refuses 20,000 by itself.
@pytest.mark.parametrize("claimed", [2049, 10_000, 20_000, 65_535])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(claimed: int) -> None:
    image = encode_jpeg(gradient(64))
    image.data = with_claimed_side(image.data, claimed)

    with pytest.raises(InvalidImage, match="declared 64x64"):
        decode(image)
    image.width = image.height = claimed
    with pytest.raises(InvalidImage, match=f"declared image is {claimed}x{claimed}"):
        decode(image)


def test_frames_are_decoded_and_bombs_refused_in_many_threads_at_once() -> None:
    good = encode_jpeg(gradient(64))
    bomb = encode_jpeg(gradient(64))
    bomb.data = with_claimed_side(bomb.data, 10_000)  # Pillow warns, which is an error in tests
    filters = list(warnings.filters)

    def refused(_: int) -> bool:
        with pytest.raises(InvalidImage, match="declared 64x64"):
            decode(bomb)
        return decode(good).size == 64

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(refused, range(400)))
    assert warnings.filters == filters


def test_a_jpeg_of_too_many_bytes_is_refused() -> None:
    image = encode_jpeg(gradient(64))
    image.data += bytes(frames.MAX_BYTES)

    with pytest.raises(InvalidImage, match="at most 4194304"):
        decode(image)


def test_a_jpeg_whose_size_lies_is_refused() -> None:
    with pytest.raises(InvalidImage, match="JPEG is 64x64 px, declared 32x32"):
        decode(jpeg(gradient(64).pixels, size=(32, 32)))


@pytest.mark.parametrize("size", [(64, 48), (48, 64)])
def test_an_image_that_is_not_square_is_refused(size: tuple[int, int]) -> None:
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)

    with pytest.raises(InvalidImage, match="expected a square"):
        decode(jpeg(pixels))
    with pytest.raises(InvalidImage, match=f"JPEG is {size[0]}x{size[1]} px, declared 64x64"):
        decode(jpeg(pixels, size=(64, 64)))


@pytest.mark.parametrize("side", [0, 1, 15, 2049, 2**31])
def test_a_side_out_of_range_is_refused(side: int) -> None:
    for encoding in (pb.common.IMAGE_ENCODING_JPEG, pb.common.IMAGE_ENCODING_RAW_RGB8):
        image = pb.common.Image(encoding=encoding, width=side, height=side, data=b"abc")
        with pytest.raises(InvalidImage, match="16 to 2048"):
            decode(image)


@pytest.mark.parametrize("surplus", [-1, 1])
def test_a_raw_image_with_other_bytes_than_declared_is_refused(surplus: int) -> None:
    image = pb.common.Image(
        encoding=pb.common.IMAGE_ENCODING_RAW_RGB8,
        width=16,
        height=16,
        data=bytes(16 * 16 * 3 + surplus),
    )

    with pytest.raises(InvalidImage, match="expected 768"):
        decode(image)


def test_another_format_than_jpeg_is_refused_even_if_pillow_reads_it() -> None:
    image = pb.common.Image(
        encoding=pb.common.IMAGE_ENCODING_JPEG, width=64, height=64, data=png_header(64)
    )

    with pytest.raises(InvalidImage, match="not a JPEG"):
        decode(image)


def test_an_empty_image_and_an_unknown_encoding_are_refused() -> None:
    with pytest.raises(InvalidImage, match="no data"):
        decode(pb.common.Image())
    with pytest.raises(InvalidImage, match="encoding"):
        decode(pb.common.Image(width=16, height=16, data=bytes(768)))


def test_another_size_than_expected_is_refused() -> None:
    assert decode(encode_raw(gradient(64)), expected_size=64).size == 64
    with pytest.raises(InvalidImage, match="expected 224x224"):
        decode(encode_raw(gradient(64)), expected_size=224)


def test_resize_averages_so_that_fine_detail_does_not_alias() -> None:
    checks = np.zeros((128, 128, 3), dtype=np.uint8)
    checks[::2, ::2] = checks[1::2, 1::2] = 255

    small = resize(Frame(checks), 32)

    assert small.size == 32
    assert np.abs(small.pixels.astype(int) - 127).max() < 8


def test_resize_to_the_same_size_is_the_same_frame() -> None:
    frame = gradient(64)

    assert resize(frame, 64) is frame
    with pytest.raises(InvalidImage):
        resize(frame, 8)
