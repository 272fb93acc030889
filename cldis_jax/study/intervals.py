"""95 % intervals over the seeds of a study, by Student's t."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.stats

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean and the ends of its 95 % interval, which a single value does not have."""

    mean: float
    low: float | None
    high: float | None


def over_seeds(values: Sequence[float]) -> Interval:
    """The mean of one value a seed [n], with its t-interval of n - 1 degrees of freedom."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, None, None)
    half = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * scipy.stats.sem(values))
    return Interval(mean, mean - half, mean + half)


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Interval:
    """The mean of a - b with its t-interval; a and b [n] have one value a seed, in the same order of seeds."""
    return over_seeds(np.subtract(a, b))
