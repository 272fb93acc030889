"""What every evaluation works on: a model, its data, the samples that are drawn, and how scores are gathered."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cldis_jax import api, data
from cldis_jax.evaluation.codes import Codes, RandomMix, Untrained

POOLS = ("all", "heldout")
Represent = Callable[[np.ndarray], np.ndarray]  # indices [N] -> codes [N, C]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured on how much; the flags of `cldis_jax.evaluate` explain each."""

    workdir: str
    out: str = ""  # folder of pictures; empty: the workdir
    workdirs: tuple[str, ...] = ()
    latent: str = "z_sem"
    seeds: int = 3
    floor_seeds: int = 1
    pool: str = "all"
    num_images: int = 20_000
    num_train: int = 10_000
    num_test: int = 5_000
    num_votes: int = 0
    num_decoded: int = 128
    num_generated: int = 10_000
    num_tracked: int = 16
    decode_steps: Sequence[int] = (10, 20, 50, 100)
    protocol: str = "exact"
    directions: str = "axes"
    tracker: str = "lk"
    tapir_checkpoint: str = ""
    inception_weights: str = ""
    lpips_weights: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Context:
    """One evaluation of one model."""

    settings: Settings
    bundle: api.Bundle

    @functools.cached_property
    def source(self) -> data.Source:
        return data.make_source(self.bundle.config.data)

    @functools.cached_property
    def pool(self) -> np.ndarray:
        """The images that samples come from: the whole set or its held-out part, or `num_images` drawn by seed 0."""
        if self.settings.pool == "heldout":
            _, candidates = data.split(len(self.source), self.bundle.config.data.holdout)
        else:
            candidates = np.arange(len(self.source))
        return subset(candidates, self.settings.num_images or len(candidates), 0)

    @property
    def whole(self) -> bool:
        return len(self.pool) == len(self.source)

    @functools.cached_property
    def unseen(self) -> tuple[np.ndarray, str]:
        """Images to decode and what they are: held-out ones, training ones where there are none."""
        train, held_out = data.split(len(self.source), self.bundle.config.data.holdout)
        return (held_out, "held-out") if len(held_out) else (train, "training")

    @functools.cached_property
    def codes(self) -> Codes:
        """The model's codes by index; the pool's are there at once."""
        model = Codes(self.bundle, self.source, self.settings.latent)
        model(self.pool)
        return model

    @functools.cached_property
    def untrained(self) -> Untrained:
        return Untrained(self.bundle, self.source, self.settings.latent, 0, self.pool)

    def mix(self, labels: Callable[[np.ndarray], np.ndarray], seed: int) -> RandomMix:
        return RandomMix(labels, self.bundle.config.model.latent_dim, seed, self.pool)

    def draw(self, num: int, seed: int) -> np.ndarray:
        """`num` indices: with replacement of a whole set, as disentanglement_lib does, else without.

        Raises:
          ValueError: the pool holds too few.
        """
        if not self.whole and num > len(self.pool):
            raise ValueError(
                f"--num_images={len(self.pool)} is too few for {num} samples; lower --num_train, --num_test"
            )
        return np.random.default_rng(seed).choice(self.pool, num, replace=self.whole)

    def scored(self, score: Callable[[Represent, int], dict[str, float]], labels) -> dict[str, Any]:
        """Mean and deviation over seeds of `score(represent, seed)`, beside the floors of a random mix of `labels` and
        of an untrained encoder (none for `floor_seeds` of 0)."""
        floor_seeds = range(self.settings.floor_seeds)
        floors = {
            "random_mix": [score(self.mix(labels, seed), seed) for seed in floor_seeds],
            "untrained": [score(self.untrained, seed) for seed in floor_seeds],
        }
        return summary([score(self.codes, seed) for seed in range(self.settings.seeds)], floors)


def subset(indices: np.ndarray, num: int, seed: int) -> np.ndarray:
    """At most `num` of the indices, drawn by `seed`, sorted."""
    if num >= len(indices):
        return indices
    return np.sort(np.random.default_rng(seed).choice(indices, num, replace=False))


def summary(runs: list[dict[str, float]], floors: dict[str, list[dict[str, float]]] | None = None) -> dict[str, Any]:
    """{name: {mean, std, floors}} of runs with different seeds; a floor is the mean of its runs."""
    result = {}
    for name in runs[0]:
        values = [run[name] for run in runs]
        result[name] = {"mean": float(np.mean(values)), "std": float(np.std(values))}
        if floors:
            result[name]["floors"] = {
                kind: float(np.mean([run[name] for run in found])) for kind, found in floors.items() if found
            }
    return result
