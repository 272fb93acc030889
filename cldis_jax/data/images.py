"""From a picture of any size, mode and format to the square of pixels that a model reads."""

import functools
import os
import warnings
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from cldis_jax.data.source import DataError

CROPS = ("center", "d2c")
D2C_BOX = (25, 57, 153, 185)  # left, top, right, bottom of Diff-AE's CelebA crop: 128x128 round row 121, column 89
# Formats that Pillow knows but does not decode itself (EPS would start Ghostscript), or that hold no picture.
NOT_DECODED = ("BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF")
ORIENTATION = 0x0112  # EXIF's tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TWELVE_BITS = "no value above 4095 in a 16-bit image, so it is nearly black; scale the values to 0..65535"
FLOATS = "floating-point values, read as 0..255"

# Pillow's warnings name no file. Images above its limit of pixels are an error, which callers name.
warnings.filterwarnings("ignore", module=r"PIL\.")


@functools.cache
def suffixes() -> dict[str, str]:
    """Format by file suffix in lower case, of every format that is read."""
    Image.init()
    known = Image.registered_extensions()
    return {suffix: known[suffix] for suffix in known if known[suffix] in Image.OPEN.keys() - set(NOT_DECODED)}


@functools.cache
def _formats() -> tuple[str, ...]:
    """Pillow's names of the formats, in the order in which it tries them."""
    wanted = set(suffixes().values())
    return tuple(name for name in Image.ID if name in wanted)


def read(
    file: str | os.PathLike | IO[bytes], image_size: int, channels: int = 3, crop: str = "center"
) -> tuple[np.ndarray, str]:
    """One image file as uint8 [image_size, image_size, channels], and what is odd about its values, or nothing.

    Raises:
      Exception: of any kind, for damaged bytes; the caller knows the file's name.
    """
    try:
        image = Image.open(file, formats=_formats())
    except UnidentifiedImageError:
        raise DataError("not an image of a known format") from None
    with image:
        # JPEGs may be decoded at a fraction of their size if enough pixels remain to resize from.
        side = 3 * image_size
        if crop == "center":
            image.draft(None, (side, side))
        return to_square(image, image_size, channels, crop), oddity(image)


def crop_box(width: int, height: int, crop: str) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) of a square crop.

    Raises:
      DataError: the image is too small for the box of `d2c`.
    """
    if crop == "d2c":
        if width < D2C_BOX[2] or height < D2C_BOX[3]:
            raise DataError(f"data.crop=d2c is for 178x218 CelebA images; this one is {width}x{height}")
        return D2C_BOX
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def to_square(image: Image.Image, size: int, channels: int, crop: str = "center") -> np.ndarray:
    """The image cropped to a square and resized by an antialiasing filter (Lanczos), uint8 [size, size, channels].

    The EXIF orientation is applied, transparent parts become white, and 16-bit greys are scaled to 8 bits.
    """
    image = _upright(image)
    # Cropped first, because the filter of `resize(box=...)` also reads pixels outside the box.
    image = _plain(image.crop(crop_box(*image.size, crop)), "L" if channels == 1 else "RGB")
    image = image.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(image).reshape(size, size, channels)


def oddity(image: Image.Image) -> str:
    """Why the values of a decoded image may not mean what its mode says, or nothing."""
    if image.mode == "F":
        return FLOATS
    if image.mode.startswith("I") and 0 < image.getextrema()[1] < 4096:
        return TWELVE_BITS
    return ""


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as EXIF's orientation asks; the other entries may be damaged."""
    image.load()  # Pillow turns TIFF files here, and removes the entry
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION))
    except Exception:  # a damaged EXIF block raises errors of any kind
        turn = None
    return image if turn is None else image.transpose(turn)


def _plain(image: Image.Image, mode: str) -> Image.Image:
    """An image of any mode, converted to mode L or RGB."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).clip(0, 65535).astype(np.float32)
        image = Image.fromarray(np.round(values / 257).astype(np.uint8))
    if image.mode == "F":
        image = Image.fromarray(np.nan_to_num(np.asarray(image)).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)
