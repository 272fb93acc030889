"""The loop over images, in batches of one size, so that one compiled program serves any number of images."""

from collections.abc import Callable, Iterator

import jax
import numpy as np
from tqdm import tqdm

from cldis_jax.api.bundle import Bundle
from cldis_jax.data import Source
from cldis_jax.models import pixels
from cldis_jax.runtime.errors import NonFiniteError

BATCH = 64  # images encoded at once


def batches(num: int, size: int, name: str = "") -> Iterator[tuple[np.ndarray, int]]:
    """The rows 0..num-1 in batches [size], each with the number of its true rows; the last repeats its last row.

    With a `name` a progress bar is shown.
    """
    starts = range(0, num, size)
    for start in tqdm(starts, name, unit="batch", leave=False, disable=None if name and len(starts) > 1 else True):
        yield np.arange(start, start + size).clip(max=num - 1), min(size, num - start)


def in_batches(
    function: Callable[..., jax.Array], *arrays: np.ndarray, size: int = BATCH, name: str = ""
) -> np.ndarray:
    """`function` of arrays [N, ...], called on `size` rows at a time; returns [N, ...]."""
    results = [
        np.asarray(function(*(array[rows] for array in arrays)))[:count]
        for rows, count in batches(len(arrays[0]), size, name)
    ]
    return np.concatenate(results)


def of_images(
    function: Callable[[jax.Array], jax.Array],
    source: Source,
    indices: np.ndarray,
    *,
    size: int = BATCH,
    name: str = "",
    sharding: jax.sharding.Sharding | None = None,
) -> np.ndarray:
    """`function` of images [B, H, W, C] in [-1, 1], for the source's images at `indices` [N]; returns [N, ...].

    Args:
      sharding: of a batch; by default the batch is on the first device.
    """

    def of_rows(rows):
        return function(pixels.to_unit_range(jax.device_put(source.fetch(rows), sharding)))

    return in_batches(of_rows, indices, size=size, name=name)


def encode(bundle: Bundle, latent: str, source: Source, indices: np.ndarray, **options) -> np.ndarray:
    """Codes [N, d] (z_sem, or the posterior mean for z_disen) of the source's images at `indices` [N].

    Args:
      options: `size`, `name` and `sharding` of `of_images`.

    Raises:
      UserError: the model has no such latent.
      NonFiniteError: a code is not finite.
    """
    options = {"name": "encoding the images"} | options
    codes = of_images(lambda images: bundle.represent(images, latent), source, indices, **options)
    return finite(codes, bundle, "codes")


def finite(values: jax.Array, bundle: Bundle, what: str) -> np.ndarray:
    """`values` [N, ...] that a model gives, as an array.

    Raises:
      NonFiniteError: some are not finite. The message has how many, `what` they are, and whether the parameters are.
    """
    values = np.asarray(values)
    wrong = ~np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    if not wrong.any():
        return values
    leaves = jax.tree.leaves(bundle.ema.params)
    damaged = sum(not np.isfinite(np.asarray(leaf)).all() for leaf in leaves)
    cause = f"nor are {damaged} of its {len(leaves)} arrays of parameters" if damaged else "its parameters are finite"
    raise NonFiniteError(
        f"{wrong.sum()} of {len(wrong)} {what} are not finite at step {bundle.step} of the model ({cause}); "
        "take another checkpoint"
    )
