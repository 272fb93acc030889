"""Rendered sprites: a white shape on black, translated, rotated and scaled.

The factors and their order are those of dSprites (Matthey et al., 2017). The images are our own rendering, so results
on them are not results on dSprites.
"""

import numpy as np

from cldis_jax.data.source import DataError, Source

SHAPES = ("square", "ellipse", "heart")
SCALES = np.linspace(0.5, 1, 6, dtype=np.float32)
ANGLES = np.linspace(0, 2 * np.pi, 40, dtype=np.float32)  # as in dSprites, the last angle equals the first
CENTRES = np.linspace(0.25, 0.75, 32, dtype=np.float32)  # in units of the image's side

# Half the extent at scale 1, in units of the image's side. No shape is cut off at any angle.
SQUARE = 0.135
ELLIPSE = (0.20, 0.10)
HEART = 0.15


class Sprites(Source):
    """The 737,280 rendered sprites, uint8 [image_size, image_size, channels] with values 0 and 255."""

    name = "sprites"
    factor_names = ("shape", "scale", "orientation", "x_position", "y_position")
    factor_sizes = (len(SHAPES), len(SCALES), len(ANGLES), len(CENTRES), len(CENTRES))

    def __init__(self, image_size: int = 64, channels: int = 1):
        if image_size < 16:
            raise DataError(f"sprites need at least 16 pixels per side, got image_size={image_size}")
        self.image_size, self.channels = image_size, channels

    def fetch(self, indices: np.ndarray) -> np.ndarray:
        return self.render(self.factors(indices))

    def render(self, factors: np.ndarray) -> np.ndarray:
        """Images uint8 [B, H, W, C] of factor values [B, 5]. A pixel is white if its centre is in the shape."""
        shape, scale, angle, x, y = np.asarray(factors).T
        pixel = (np.arange(self.image_size, dtype=np.float32) + 0.5) / self.image_size
        right = (pixel - CENTRES[x][:, None]) / SCALES[scale][:, None]  # [B, W], relative to the shape's centre
        down = (pixel - CENTRES[y][:, None]) / SCALES[scale][:, None]  # [B, H]
        cos, sin = np.cos(ANGLES[angle])[:, None], np.sin(ANGLES[angle])[:, None]
        # The rotation into the shape's axes is the sum of a term in x and a term in y.
        u = (cos * right)[:, None, :] + (sin * down)[:, :, None]
        v = (-sin * right)[:, None, :] + (cos * down)[:, :, None]

        images = np.zeros(u.shape, bool)
        for kind, inside in enumerate((_in_square, _in_ellipse, _in_heart)):
            chosen = shape == kind
            images[chosen] = inside(u[chosen], v[chosen])
        return np.repeat(images[..., None] * np.uint8(255), self.channels, axis=-1)


def _in_square(u, v):
    return np.maximum(np.abs(u), np.abs(v)) < SQUARE


def _in_ellipse(u, v):
    return np.square(u / ELLIPSE[0]) + np.square(v / ELLIPSE[1]) < 1


def _in_heart(u, v):
    """The sextic heart (a^2 + b^2 - 1)^3 < a^2 b^3 with its point down."""
    a_squared, b = np.square(u / HEART), -v / HEART
    b_squared = b * b
    rim = a_squared + b_squared - 1
    return rim * rim * rim < a_squared * b_squared * b
