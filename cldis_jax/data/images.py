"""From an image of any size and mode to the square input of a model."""

import numpy as np
from PIL import Image, ImageOps

from cldis_jax.data.source import DataError

CROPS = ("center", "d2c")
D2C_BOX = (25, 57, 153, 185)  # left, top, right, bottom of Diff-AE's CelebA crop: 128x128 centred at row 121, column 89


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
    image = _plain(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB")
    # Crop before the resize, because the filter of `resize(box=...)` also reads pixels outside the box.
    image = image.crop(crop_box(*image.size, crop))
    image = image.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(image).reshape(size, size, channels)


def _plain(image: Image.Image, mode: str) -> Image.Image:
    """An image of any mode, converted to mode L or RGB."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = Image.fromarray(np.round(np.asarray(image, np.float64) / 257).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)
