"""Frechet inception distance [Heusel et al. 2017, arXiv 1706.08500], with clean resizing and cached statistics."""

import io
import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from PIL import Image

from cldis_jax.metrics import inception

RESIZES = ("clean", "tensorflow")


class Statistics(NamedTuple):
    """Mean [D] and covariance [D, D] in float64 of the features of `count` images."""

    mean: np.ndarray
    covariance: np.ndarray
    count: int


def frechet_distance(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """|mean1 - mean2|^2 + tr(cov1 + cov2 - 2 (cov1 cov2)^(1/2)), in float64 [Dowson & Landau 1982].

    With cov = A A^T, the trace of the root is the sum of the singular values of A1^T A2. This also holds for singular
    covariances (fewer images than features), whose product may have no root.

    Raises:
      ValueError: the shapes don't fit.
    """
    mean1, cov1, mean2, cov2 = (np.asarray(array, np.float64) for array in (mean1, cov1, mean2, cov2))
    size = mean1.size
    if mean1.shape != (size,) or mean2.shape != (size,) or {cov1.shape, cov2.shape} != {(size, size)}:
        shapes = [array.shape for array in (mean1, cov1, mean2, cov2)]
        raise ValueError(f"two means [D] and covariances [D, D] are needed, got shapes {shapes}")
    trace_of_root = np.linalg.svd(_factor(cov1).T @ _factor(cov2), compute_uv=False).sum()
    difference = mean1 - mean2
    return float(difference @ difference + np.trace(cov1) + np.trace(cov2) - 2 * trace_of_root)


def _factor(covariance: np.ndarray) -> np.ndarray:
    """A [D, rank] with A A^T = covariance. Eigenvalues that are 0 up to rounding are left out."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > values[-1] * len(values) * np.finfo(values.dtype).eps
    return vectors[:, kept] * np.sqrt(values[kept])


def fid(statistics: Statistics, reference: Statistics) -> float:
    """The Frechet distance between two sets of images, from their statistics."""
    return frechet_distance(statistics.mean, statistics.covariance, reference.mean, reference.covariance)


def running_statistics(batches: Iterable[np.ndarray]) -> Statistics:
    """Statistics of features in batches [B, D], with unbiased covariance. The result does not depend on the batches.

    Raises:
      ValueError: fewer than two rows in all.
    """
    count, mean, scatter = 0, 0.0, 0.0
    for batch in batches:
        batch = np.asarray(batch, np.float64)
        batch_mean = batch.mean(axis=0)
        centred = batch - batch_mean
        shift = batch_mean - mean
        total = count + len(batch)
        scatter = scatter + centred.T @ centred + np.multiply.outer(shift, shift) * (count * len(batch) / total)
        mean = mean + shift * (len(batch) / total)
        count = total
    if count < 2:
        raise ValueError(f"the covariance of features needs at least two images, got {count}")
    return Statistics(mean, scatter / (count - 1), count)


def make_features(variables: dict, resize: str = "clean") -> Callable[[np.ndarray], np.ndarray]:
    """A function from images [B, H, W, 3] in [-1, 1] to Inception features [B, 2048].

    Images are rounded to 8 bits, as in a file, and resized to 299x299. `resize` is `clean`, clean-fid's antialiased
    bicubic filter [Parmar et al. 2022], or `tensorflow`, the bilinear filter of the original FID. As in both of these,
    the input of the network is (x - 128) / 128; pytorch-fid's 2 x / 255 - 1 gives slightly different numbers.

    Raises:
      ValueError: unknown resize, or images that are not [B, H, W, 3].
    """
    if resize not in RESIZES:
        raise ValueError(f"resize must be one of {', '.join(RESIZES)}, got {resize!r}")
    apply = jax.jit(inception.InceptionV3().apply)

    def features(images: np.ndarray) -> np.ndarray:
        images = np.asarray(images)
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"FID takes colour images [B, H, W, 3], got shape {images.shape}")
        pixels = np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.float32)
        if resize == "clean":
            resized = np.stack([clean_resize(image, inception.IMAGE_SIZE) for image in pixels])
        else:
            resized = tensorflow_resize(pixels, inception.IMAGE_SIZE)
        return np.asarray(apply(variables, (resized - 128) / 128))

    return features


def clean_resize(image: np.ndarray, size: int) -> np.ndarray:
    """An image [H, W, C] in 0 to 255, resized to [size, size, C] float32 by an antialiased bicubic filter.

    As in clean-fid, cleanfid/resize.py: one channel at a time, in float, clipped to [0, 255] and not rounded.
    """
    channels = [
        np.asarray(Image.fromarray(channel.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC))
        for channel in np.moveaxis(image, -1, 0)
    ]
    return np.clip(np.stack(channels, axis=-1), 0, 255)


def tensorflow_resize(images: jax.Array, size: int) -> jax.Array:
    """Images [B, H, W, C] resized to [B, size, size, C] as in TensorFlow 1: bilinear, top left corners aligned."""
    images = jnp.asarray(images)
    for axis in (1, 2):
        length = images.shape[axis]
        position = np.arange(size, dtype=np.float32) * np.float32(length / size)
        lower = position.astype(np.int32)
        upper = np.minimum(lower + 1, length - 1)
        fraction = (position - lower).reshape([-1 if i == axis else 1 for i in range(4)])
        below, above = jnp.take(images, lower, axis=axis), jnp.take(images, upper, axis=axis)
        images = below + (above - below) * fraction
    return images


def cached_statistics(path: epath.PathLike, compute: Callable[[], Statistics], *, write: bool = True) -> Statistics:
    """Statistics from the .npz file at `path`. If it does not exist they are computed and, with `write`, saved there.

    Statistics of different networks, data sets, images, sizes, crops or resizes need different paths.

    Raises:
      ValueError: the file does not contain FID statistics.
    """
    path = epath.Path(path)
    if not path.exists():
        statistics = compute()
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.{os.getpid()}.npz")
            with partial.open("wb") as file:
                np.savez(file, **statistics._asdict())
            partial.replace(path)
        return statistics
    try:
        with np.load(io.BytesIO(path.read_bytes())) as arrays:
            return Statistics(arrays["mean"], arrays["covariance"], int(arrays["count"]))
    except Exception as error:
        raise ValueError(f"{path} holds no FID statistics ({error}); delete it to compute them again") from error
