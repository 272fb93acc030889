"""Interventional robustness score [Suter et al. 2019, arXiv 1811.00007]."""

import numpy as np

from cldis_jax.metrics import inputs


def irs(
    codes: np.ndarray, factors: np.ndarray, *, num_bins: int = inputs.NUM_BINS, diff_quantile: float = 0.99
) -> dict[str, float]:
    """`irs`: how little a code changes while its own factor is fixed and the other factors change.

    The deviation of a code for a factor is the `diff_quantile` of |z - E[z | value]|, averaged over the values of the
    factor (in `num_bins` bins) and divided by the code's greatest deviation from its mean. The score of a code is 1 -
    its least deviation over factors, or 0 where that is negative: in a small group the quantile may exceed the greatest
    deviation. `irs` is the mean over codes, weighted by their greatest deviations. Codes that never vary are left out;
    if no code varies the score is 0. As in disentanglement_lib's `irs` (10,000 samples).

    Raises:
      ValueError: bad shapes.
    """
    codes, factors = inputs.check_pair(codes, factors)
    codes = codes[:, inputs.varies(codes)]
    if codes.shape[1] == 0:
        return {"irs": 0.0}
    greatest = np.abs(codes - codes.mean(axis=0)).max(axis=0)
    deviations = np.stack([_deviation(codes, bins, diff_quantile) for bins in inputs.discretize(factors, num_bins).T])
    scores = np.maximum(1 - deviations.min(axis=0) / greatest, 0)
    return {"irs": float(np.average(scores, weights=greatest))}


def _deviation(codes: np.ndarray, values: np.ndarray, quantile: float) -> np.ndarray:
    groups = [codes[values == value] for value in np.unique(values)]
    spread = [np.percentile(np.abs(group - group.mean(axis=0)), 100 * quantile, axis=0) for group in groups]
    return np.mean(spread, axis=0)
