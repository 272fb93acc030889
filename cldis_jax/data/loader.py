"""The split into training and held-out images, and endless shuffled batches in a reproducible order."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from cldis_jax.data.source import DataError, Source


def split(num_images: int, holdout: float) -> tuple[np.ndarray, np.ndarray]:
    """(training indices, held-out indices), both sorted int64. The split is the same on every call, host and run.

    The first round(num_images * holdout) entries of the permutation of PCG64 with seed 0 are held out.

    Raises:
      DataError: holdout is not in [0, 1).
    """
    if not 0 <= holdout < 1:
        raise DataError(f"data.holdout is a share of the images and must be in [0, 1), got {holdout}")
    order = np.random.Generator(np.random.PCG64(0)).permutation(num_images)
    num_held_out = round(num_images * holdout)
    return np.sort(order[num_held_out:]), np.sort(order[:num_held_out])


class Parts(NamedTuple):
    """Indices of the images of a set, each sorted int64."""

    train: np.ndarray
    held_out: np.ndarray  # as the training images, but never trained on
    combinations: np.ndarray  # with a combination of two factors that is never trained on


def parts(source: Source, data: ConfigDict) -> Parts:
    """What the config's section `data` trains on and what it holds out.

    It holds out a share `holdout` of the images or the part `holdout_split`, and the combinations of `holdout_pairs`.

    Raises:
      DataError: both a share and a part, or no such part; see also `split` and `unseen_combinations`.
    """
    train, held_out = split(len(source), data.holdout)
    if data.holdout_split:
        if data.holdout:
            raise DataError(
                f"data.holdout={data.holdout} and data.holdout_split={data.holdout_split!r} each choose the held-out "
                "images; set only one"
            )
        held_out = source.part(data.holdout_split)
        train = np.setdiff1d(train, held_out)
    if not data.holdout_pairs:
        return Parts(train, held_out, np.zeros(0, np.int64))
    apart = unseen_combinations(source, data.holdout_pairs)
    return Parts(train[~apart[train]], held_out[~apart[held_out]], np.flatnonzero(apart))


def unseen_combinations(source: Source, names: str) -> np.ndarray:
    """Whether each image has a held-out combination of the two factors `names`, e.g. "object_hue,shape"; bool [N].

    Value i of one factor and value j of the other are held out where i and j are equal modulo n, the number of values
    of the smaller factor: 1 / n of all combinations. Each value is still seen, with all other values of its partner.

    Raises:
      DataError: not two factors of the set, or one with fewer than three values, which would be known from the other.
    """
    pair = [name.strip() for name in names.split(",")]
    if len(pair) != 2 or pair[0] == pair[1] or not set(pair) <= set(source.factor_names):
        known = ", ".join(source.factor_names) or "none"
        raise DataError(f"data.holdout_pairs={names!r} is not two factors of {source.name}, which has: {known}")
    columns = [source.factor_names.index(name) for name in pair]
    least = min(source.factor_sizes[column] for column in columns)
    if least < 3:
        raise DataError(f"data.holdout_pairs={names!r}: both factors need three values or more, one has {least}")
    first, second = source.factors(np.arange(len(source)))[:, columns].T
    return first % least == second % least


def subset(indices: np.ndarray, num: int, seed: int) -> np.ndarray:
    """At most `num` of the indices, drawn with `seed`, sorted."""
    if num >= len(indices):
        return indices
    return np.sort(np.random.default_rng(seed).choice(indices, num, replace=False))


def training_loader(config: ConfigDict, source: Source, indices: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """This process's batches of the images at `indices`, with the settings of a config; see `make_loader`."""
    return make_loader(
        source,
        indices,
        batch_size=config.data.batch_size,
        seed=config.train.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        threads=config.data.threads,
        prefetch=config.data.prefetch,
    )


def make_loader(
    source: Source,
    indices: np.ndarray,
    *,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 2,
    prefetch: int = 4,
) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches {"image": uint8 [batch_size / process_count, H, W, C]} of the images at `indices`.

    Each epoch contains each image once, in a new order that depends on `seed`. Epochs follow each other without a gap,
    so a batch may contain images of two epochs. The global batches do not depend on the number of processes. The
    iterator has `get_state()`, which returns JSON values, and `set_state()`, which continues from such a state.

    Args:
      batch_size: the size of a batch over all processes.
      threads: reader threads; with 0 the caller's thread reads.
      prefetch: batches that are read ahead.

    Raises:
      DataError: there are no images to read, or the processes can't share a batch equally.
    """
    if len(indices) == 0:
        raise DataError(f"no image of {source.name} is left to read; lower data.holdout or add images")
    if batch_size % process_count:
        raise DataError(f"data.batch_size={batch_size} is not divisible by {process_count} processes")
    import grain  # imported here, because the import takes half a second

    dataset = (
        grain.MapDataset.range(len(indices))
        .shuffle(seed=seed)
        .repeat()[process_index::process_count]
        .batch(batch_size // process_count, drop_remainder=True)
        .map(lambda positions: {"image": source.fetch(indices[positions])})
    )
    return iter(dataset.to_iter_dataset(grain.ReadOptions(threads, prefetch if threads else 0)))
