"""95 % intervals over the seeds of a study: Student's t, and Welch's for two sets of runs."""

import dataclasses
import warnings
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
    """The mean of a - b with its t-interval; a and b [n] have one value a run, in the same order of runs."""
    return over_seeds(np.subtract(a, b))


def difference(a: Sequence[float], b: Sequence[float]) -> Interval:
    """mean(a) - mean(b) with Welch's t-interval, for values of different runs; a and b have at least two each."""
    mean = float(np.mean(a) - np.mean(b))
    if np.ptp(a) == np.ptp(b) == 0:  # scipy's interval would be NaN
        return Interval(mean, mean, mean)
    with warnings.catch_warnings():  # one of the two may be constant
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        low, high = scipy.stats.ttest_ind(a, b, equal_var=False).confidence_interval(CONFIDENCE)
    return Interval(mean, float(low), float(high))
