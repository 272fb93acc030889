"""The interface of an image set: its length, images by index, and factors if they are known."""

import hashlib
from collections.abc import Iterable

import numpy as np

from cldis_jax.runtime.errors import UserError


class DataError(UserError):
    """The images of a config are missing, unreadable or of another kind."""


def names_digest(names: Iterable[str]) -> str:
    """The SHA-256 of a list of names, in this order."""
    return hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()


class Source:
    """A random-access set of images, uint8 [H, W, C].

    By default the images are in the order of the grid `factor_sizes`, in which the last factor changes fastest. A set
    with another order overrides `factors` and `index_of`. A set without known factors has no sizes.
    """

    name: str = ""
    factor_names: tuple[str, ...] = ()
    factor_sizes: tuple[int, ...] = ()
    attribute_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(np.prod(self.factor_sizes))

    @property
    def digest(self) -> str:
        """A SHA-256 of which images these are: equal digests, equal images at equal indices, by their names."""
        return names_digest([self.name, str(len(self))])

    def fetch(self, indices: np.ndarray) -> np.ndarray:
        """The images at `indices` [B], uint8 [B, H, W, C]."""
        raise NotImplementedError

    def factors(self, indices: np.ndarray) -> np.ndarray:
        """The factor values of the images at `indices` [B], int64 [B, F]."""
        if not self.factor_sizes:
            return np.zeros((len(indices), 0), np.int64)
        return np.stack(np.unravel_index(np.asarray(indices), self.factor_sizes), axis=-1)

    def index_of(self, factors: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """Indices [B] of images with the factor values [B, F].

        If several images have the same factors (as the instances of smallNORB), `rng` draws one of them. Without `rng`
        it is the first one.
        """
        if not self.factor_sizes:
            raise ValueError(f"{self.name} has no factors, so images can't be found by them")
        return np.ravel_multi_index(tuple(np.asarray(factors).T), self.factor_sizes)

    def part(self, name: str) -> np.ndarray:
        """The indices of the part `name` of the set, such as "test", sorted int64.

        Raises:
          DataError: the set has no such part.
        """
        raise DataError(f"{self.name} has no named parts, so data.holdout_split={name!r} can't be held out")

    def labelled(self, indices: np.ndarray) -> np.ndarray:
        """Which of the images at `indices` [B] have attribute labels, bool [B]."""
        return np.ones(len(indices), bool)

    def attributes(self, indices: np.ndarray) -> np.ndarray:
        """The attribute labels of the images at `indices` [B], int64 [B, A]; A = 0 for a set without labels.

        Raises:
          ValueError: one of them is not `labelled`.
        """
        return np.zeros((len(indices), len(self.attribute_names)), np.int64)


def identity(source: Source) -> dict[str, int | str]:
    """What a checkpoint keeps of the images that its model was trained on, as JSON values."""
    return {"num_images": len(source), "names_sha256": source.digest}


def difference(source: Source, record: dict[str, int | str]) -> str:
    """How the images differ from those that a checkpoint has the `identity` of; empty where they don't.

    What an earlier version did not record is not compared.
    """
    if record.get("num_images", len(source)) != len(source):
        return f"{source.name} has {len(source)} images, not {record['num_images']}"
    if record.get("names_sha256", source.digest) != source.digest:
        return f"{source.name} has {len(source)} images of other names"
    return ""
