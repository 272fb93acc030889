"""The conversion of pixels from uint8 to the range of the networks."""

import jax
import jax.numpy as jnp


def to_unit_range(images: jax.Array) -> jax.Array:
    """uint8 images as float32 in [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1.0
