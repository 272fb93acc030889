"""LPIPS with AlexNet [Zhang et al. 2018, arXiv 1801.03924], with weights from the user's files.

Structure: richzhang/PerceptualSimilarity, lpips/lpips.py (version 0.1) and torchvision's alexnet.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cldis_jax.metrics import weights

# Torchvision's channel means and deviations on [0, 1], for images in [-1, 1].
SHIFT = np.array([[[[-0.030, -0.088, -0.188]]]], np.float32)
SCALE = np.array([[[[0.458, 0.448, 0.450]]]], np.float32)

LAYERS = {  # index in torchvision's `features` -> (channels, kernel, stride, padding, input channels)
    0: (64, 11, 4, 2, 3),
    3: (192, 5, 1, 2, 64),
    6: (384, 3, 1, 1, 192),
    8: (256, 3, 1, 1, 384),
    10: (256, 3, 1, 1, 256),
}
POOLED = (3, 6)  # layers with a 3x3 max pool of stride 2 before them
LEAST_SIZE = 31  # pixels per side; with fewer the last pool has no output
WHERE = (
    "LPIPS needs torchvision's alexnet-owt-7be5be79.pth (download.pytorch.org/models) and alex.pth "
    "(lpips/weights/v0.1 of richzhang/PerceptualSimilarity)"
)


class AlexNetFeatures(nn.Module):
    """Normalised images [B, H, W, 3] -> the five ReLU outputs that LPIPS compares."""

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        outputs = []
        for index, (channels, kernel, stride, padding, _) in LAYERS.items():
            if index in POOLED:
                x = nn.max_pool(x, (3, 3), strides=(2, 2))
            x = nn.Conv(
                channels,
                (kernel, kernel),
                strides=stride,
                padding=padding,
                precision=jax.lax.Precision.HIGHEST,
                name=f"features_{index}",
            )(x)
            x = nn.relu(x)
            outputs.append(x)
        return outputs


def lpips(params: dict[str, Any], images: jax.Array, reference: jax.Array) -> jax.Array:
    """The LPIPS distance [B] between images and references [B, H, W, 3] in [-1, 1]. Use it under jit for speed.

    Raises:
      ValueError: the shapes differ, or the images are not colour images of at least 31 pixels per side.
    """
    if images.ndim != 4 or images.shape != reference.shape or images.shape[-1] != 3:
        raise ValueError(f"LPIPS compares two [B, H, W, 3] of one shape, got {images.shape} and {reference.shape}")
    if min(images.shape[1:3]) < LEAST_SIZE:
        raise ValueError(f"LPIPS needs images of at least {LEAST_SIZE} pixels a side, got {images.shape}")
    features = [
        AlexNetFeatures().apply({"params": params["alexnet"]}, (x - SHIFT) / SCALE) for x in (images, reference)
    ]
    distance = jnp.zeros(len(images))
    for x, y, weight in zip(*features, params["lin"]):
        squared = jnp.square(_unit(x) - _unit(y))
        distance += jnp.mean(squared @ weight, axis=(1, 2))
    return distance


def _unit(x: jax.Array) -> jax.Array:
    return x / (jnp.sqrt(jnp.sum(x * x, axis=-1, keepdims=True)) + 1e-10)


def convert(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Parameters from the merged state dicts of torchvision's AlexNet (without its classifier) and of LPIPS.

    Raises:
      ValueError: entries are missing, unknown or of another shape; the message names them.
    """
    wanted = {}
    for order, (index, (channels, kernel, _, _, inputs)) in enumerate(LAYERS.items()):
        wanted["kernel", index] = (f"features.{index}.weight", (kernel, kernel, inputs, channels))
        wanted["bias", index] = (f"features.{index}.bias", (channels,))
        wanted["lin", index] = (f"lin{order}.model.1.weight", (1, 1, channels, 1))
    unused = [f"classifier.{index}.{kind}" for index in (1, 4, 6) for kind in ("weight", "bias")]
    arrays = weights.convert(state_dict, wanted, unused, "LPIPS weights")
    alexnet = {
        f"features_{index}": {"kernel": arrays["kernel", index], "bias": arrays["bias", index]} for index in LAYERS
    }
    return {"alexnet": alexnet, "lin": [arrays["lin", index][0, 0, :, 0] for index in LAYERS]}


def load_weights(*paths: str | pathlib.Path) -> dict[str, Any]:
    """Parameters from one or two files with both networks: .pth (needs PyTorch), or .npz with the same names.

    Raises:
      FileNotFoundError: a file does not exist; the message says where to find it.
      ValueError: a file has another format or is of another network.
    """
    merged = {}
    for path in paths:
        merged |= weights.read(path, WHERE)
    return convert(merged)
