"""One evaluation of a model: its settings, its data, the samples, and the mean of scores over seeds."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from cldis_jax import api, data
from cldis_jax.evaluation.floors import LINEAR, Codes, LinearPixels, RandomMix, Rescaled, Untrained
from cldis_jax.runtime.errors import UserError

POOLS = ("all", "heldout", "combinations")
Represent = Callable[[np.ndarray], np.ndarray]  # indices [N] -> codes [N, C]


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn the error of a metric about a file, such as weights, into a UserError."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of an evaluation; the flags of `cldis_jax.evaluate` explain each."""

    workdir: str = ""
    out: str = ""  # folder of results and pictures; empty: the workdir; both empty: nothing is written
    pictures: bool = True  # whether to draw pictures
    workdirs: tuple[str, ...] = ()
    data_path: str | None = None  # where the data are; replaces data.path of the models' configs
    data_dir: str | None = None
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
    protocol: Sequence[str] = ("exact",)
    directions: str = "axes"
    tracker: str = "lk"
    tapir_checkpoint: str = ""
    dci_learner: str = "presorted"
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
    def difference(self) -> str:
        """How the images differ from those that the model was trained on; empty where they don't."""
        return data.difference(self.source, self.bundle.trained_on)

    @functools.cached_property
    def parts(self) -> data.Parts:
        """The images of the set that were trained on, and those that were not."""
        return data.parts(self.source, self.bundle.config.data)

    @functools.cached_property
    def pool(self) -> np.ndarray:
        """The images that samples come from: `num_images` (or all) of the set or of a held-out part, by seed 0."""
        if self.settings.pool == "all":
            candidates = np.arange(len(self.source))
        else:
            candidates = self.parts.held_out if self.settings.pool == "heldout" else self.parts.combinations
        return data.subset(candidates, self.settings.num_images or len(candidates), 0)

    @property
    def whole(self) -> bool:
        return len(self.pool) == len(self.source)

    @functools.cached_property
    def unseen(self) -> tuple[np.ndarray, str]:
        """Images to decode, and what they are: held-out images, or training images if fewer than two are held out.

        With the pool of combinations, images of these. If the model was trained on other images, it is not known which
        were held out: then all are decoded, as "other".
        """
        if self.difference:
            return np.arange(len(self.source)), "other"
        if self.settings.pool == "combinations":
            return self.parts.combinations, "new-combination"
        held_out = self.parts.held_out
        return (held_out, "held-out") if len(held_out) > 1 else (self.parts.train, "training")

    @functools.cached_property
    def codes(self) -> Codes | Rescaled:
        """The model's codes by index; those of the pool are computed at once. z_sem has no prior, so it is rescaled."""
        model = Codes(self.bundle, self.source, self.settings.latent)
        model(self.pool)
        return Rescaled(model, self.pool) if self.settings.latent == "z_sem" else model

    @functools.cached_property
    def untrained(self) -> list[Untrained]:
        """An untrained encoder for each seed of the floors."""
        seeds = range(self.settings.floor_seeds)
        return [Untrained(self.bundle, self.source, self.settings.latent, seed, self.pool) for seed in seeds]

    @functools.cached_property
    def compared(self) -> list[api.Bundle]:
        """The models of --workdirs."""
        where = {"data_path": self.settings.data_path, "data_dir": self.settings.data_dir}
        return [api.load(path, **where) for path in self.settings.workdirs]

    @functools.cached_property
    def shared(self) -> dict[str, Any]:
        """Scores by name that several metrics need."""
        return {}

    @property
    def folder(self) -> epath.Path:
        """Where results and pictures are written, if `writes`."""
        return epath.Path(self.settings.out or self.settings.workdir)

    @property
    def writes(self) -> bool:
        """Whether this process writes files: the first one, if the settings name a folder."""
        return jax.process_index() == 0 and bool(self.settings.out or self.settings.workdir)

    @property
    def draws(self) -> bool:
        """Whether this process writes pictures."""
        return self.writes and self.settings.pictures

    @functools.cached_property
    def labelled_pool(self) -> np.ndarray:
        """The images of the pool that have attributes."""
        return self.pool[self.source.labelled(self.pool)]

    def draw(self, num: int, seed: int) -> np.ndarray:
        """`num` indices: with replacement if the pool is the whole set, as disentanglement_lib does, else without.

        Raises:
          UserError: the pool holds too few.
        """
        if not self.whole and num > len(self.pool):
            raise UserError(
                f"{len(self.pool)} images, by --pool={self.settings.pool} and --num_images={self.settings.num_images}, "
                f"are too few for {num} samples; lower --num_train, --num_test"
            )
        return np.random.default_rng(seed).choice(self.pool, num, replace=self.whole)

    def scored(
        self,
        score: Callable[[Represent, int], dict[str, float]],
        labels: Callable[[np.ndarray], np.ndarray],
        seeds: int | None = None,
        pool: np.ndarray | None = None,
        pixels: bool = False,
    ) -> dict[str, Any]:
        """Mean and deviation over seeds of `score(represent, seed)`, with its floors.

        The floors are the scores of a random mix of `labels`, of an untrained encoder, and with `pixels` of linear
        codes of the pixels; `floor_seeds` of 0 means none. `seeds` replaces the number in the settings, and `pool` the
        images over which `labels` are standardised and to which linear codes are fitted.
        """
        pool = self.pool if pool is None else pool
        floor_seeds = range(self.settings.floor_seeds)
        dim = self.bundle.config.model.latent_dim
        floors = {
            "random_mix": [score(RandomMix(labels, dim, seed, pool), seed) for seed in floor_seeds],
            "untrained": [score(encoder, seed) for seed, encoder in enumerate(self.untrained)],
        }
        for kind in LINEAR if pixels else ():
            linear = (LinearPixels(kind, self.source, dim, seed, pool) for seed in floor_seeds)
            floors[kind] = [score(codes, seed) for seed, codes in enumerate(linear)]
        return summary([score(self.codes, seed) for seed in range(seeds or self.settings.seeds)], floors)


def summary(runs: list[dict[str, float]], floors: dict[str, list[dict[str, float]]] | None = None) -> dict[str, Any]:
    """{name: {mean, std, floors}} of runs with different seeds; a floor is the mean of its runs. One run has no std."""
    result = {}
    for name in runs[0]:
        values = [run[name] for run in runs]
        result[name] = {"mean": float(np.mean(values)), "std": float(np.std(values)) if len(values) > 1 else None}
        if floors:
            result[name]["floors"] = {
                kind: float(np.mean([run[name] for run in found])) for kind, found in floors.items() if found
            }
    return result
