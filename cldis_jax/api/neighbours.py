"""Images of the data by their codes: the nearest to a code, in one unit or in all of z, and those at the ends."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """Codes [N, d] of images, compared in standard deviations `std` [d]."""

    codes: np.ndarray
    std: np.ndarray

    def nearest(self, z: np.ndarray, num: int, unit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(rows [num], distances [num]) of the codes nearest to z [d], the nearest first.

        The distance is that of one unit, or Euclidean over all; in standard deviations.
        """
        away = (self.codes - np.asarray(z)) / np.where(self.std > 0, self.std, 1)
        distances = np.abs(away[:, unit]) if unit is not None else np.linalg.norm(away, axis=1)
        rows = np.argsort(distances, kind="stable")[:num]
        return rows, distances[rows]

    def extremes(self, unit: int, num: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows [num] of the codes with the lowest values of a unit, the lowest first, and of those with the highest."""
        order = np.argsort(self.codes[:, unit], kind="stable")
        return order[:num], order[::-1][:num]
