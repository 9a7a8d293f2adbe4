"""One square RGB frame and its codecs. Everything is checked before pixels are decoded."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL.JpegImagePlugin import JpegImageFile

from gen2act_contracts.errors import InvalidImage
from gen2act_contracts.gen.gen2act.v1 import common_pb2

MIN_SIDE = 16  # [px]
MAX_SIDE = 2048  # [px]
# JPEG only: a raw frame's size follows from its sides, which are bounded themselves.
MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, eq=False)
class Frame:
    """A square RGB image: `pixels` uint8[S, S, 3], read-only, 16 <= S <= 2048.

    Raises:
        InvalidImage: another shape or dtype.
    """

    pixels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        pixels = np.ascontiguousarray(self.pixels)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise InvalidImage(
                f"frame is {pixels.dtype}{list(pixels.shape)}, expected uint8[S, S, 3]"
            )
        _check_sides(pixels.shape[1], pixels.shape[0])
        # A view, so that freezing the frame does not freeze the caller's own array.
        view = pixels.view()
        view.setflags(write=False)
        object.__setattr__(self, "pixels", view)

    @property
    def size(self) -> int:
        """Side [px]."""
        return int(self.pixels.shape[0])


def _check_sides(width: int, height: int, what: str = "image") -> None:
    if width != height:
        raise InvalidImage(f"{what} is {width}x{height} px, expected a square")
    if not MIN_SIDE <= width <= MAX_SIDE:
        raise InvalidImage(
            f"{what} is {width}x{height} px, expected a side of {MIN_SIDE} to {MAX_SIDE} px"
        )


def encode_jpeg(frame: Frame, quality: int = 90) -> common_pb2.Image:
    """The frame as a JPEG of the given quality (1 to 95)."""
    out = io.BytesIO()
    PillowImage.fromarray(frame.pixels).save(out, format="JPEG", quality=quality)
    return common_pb2.Image(
        encoding=common_pb2.IMAGE_ENCODING_JPEG,
        width=frame.size,
        height=frame.size,
        data=out.getvalue(),
    )


def encode_raw(frame: Frame) -> common_pb2.Image:
    """The frame uncompressed: row-major RGB bytes."""
    return common_pb2.Image(
        encoding=common_pb2.IMAGE_ENCODING_RAW_RGB8,
        width=frame.size,
        height=frame.size,
        data=frame.pixels.tobytes(),
    )


def decode(image: common_pb2.Image, *, expected_size: int | None = None) -> Frame:
    """Pixels of a received image.

    Args:
        image: from a peer, not trusted.
        expected_size: [px] the only side accepted; None: any in [16, 2048].

    Raises:
        InvalidImage: too many bytes, not square, a side out of range or other than declared,
            truncated, or not an image. Limits are checked on the header, before decoding.
    """
    if not image.data:
        raise InvalidImage("image has no data")
    _check_sides(image.width, image.height, "declared image")
    if expected_size is not None and image.width != expected_size:
        raise InvalidImage(
            f"image is {image.width}x{image.height} px, expected {expected_size}x{expected_size}"
        )
    if image.encoding == common_pb2.IMAGE_ENCODING_RAW_RGB8:
        return _decode_raw(image)
    if image.encoding == common_pb2.IMAGE_ENCODING_JPEG:
        return _decode_jpeg(image)
    raise InvalidImage(f"image encoding {image.encoding}, expected JPEG (1) or RAW_RGB8 (2)")


def _decode_raw(image: common_pb2.Image) -> Frame:
    expected = image.width * image.height * 3
    if len(image.data) != expected:
        raise InvalidImage(
            f"raw image of {image.width}x{image.height} px has {len(image.data)} bytes, "
            f"expected {expected}"
        )
    pixels = np.frombuffer(image.data, dtype=np.uint8)
    return Frame(pixels.reshape(image.height, image.width, 3))


def _decode_jpeg(image: common_pb2.Image) -> Frame:
    if len(image.data) > MAX_BYTES:
        raise InvalidImage(f"JPEG has {len(image.data)} bytes, at most {MAX_BYTES} accepted")
    try:
        # The reader itself, not `Image.open`: that would try other formats, and warn of large
        # sides (which are refused here anyway) through filters that are not safe across threads.
        with JpegImageFile(io.BytesIO(image.data)) as opened:
            if opened.size != (image.width, image.height):
                raise InvalidImage(
                    f"JPEG is {opened.size[0]}x{opened.size[1]} px, "
                    f"declared {image.width}x{image.height}"
                )
            rgb = opened if opened.mode == "RGB" else opened.convert("RGB")
            return Frame(np.asarray(rgb))
    # Pillow raises OSError for truncation and SyntaxError, ValueError or IndexError for broken
    # markers, by which one happens to be broken.
    except (OSError, SyntaxError, ValueError, IndexError) as error:
        raise InvalidImage(f"JPEG cannot be decoded: {error}") from None


def resize(frame: Frame, size: int) -> Frame:
    """The frame at `size` x `size` px; area-averaging when it shrinks, so fine detail does not
    alias. The same frame where the size is right already.
    """
    if size == frame.size:
        return frame
    _check_sides(size, size, "resized image")
    source = PillowImage.fromarray(frame.pixels)
    # Pillow's bilinear filter widens with the scale: an antialiasing triangle when shrinking.
    return Frame(np.asarray(source.resize((size, size), PillowImage.Resampling.BILINEAR)))
