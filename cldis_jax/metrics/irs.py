"""Interventional robustness score [Suter et al. 2019, arXiv 1811.00007]."""

import numpy as np

from cldis_jax.metrics import inputs


def irs(
    codes: np.ndarray, factors: np.ndarray, *, num_bins: int = inputs.NUM_BINS, diff_quantile: float = 0.99
) -> dict[str, float]:
    """`irs`: how little a code moves while its own factor stays and the others change.

    A code's deviation under a factor is the `diff_quantile` of |z - E[z | value]|, mean over the factor's values (in
    `num_bins` bins), in units of its greatest deviation from its mean; its score is 1 minus the least of them over
    factors, at least 0: in a small group the quantile may exceed that unit. Codes are averaged with their greatest
    deviations as weights; codes that never vary are left out, and no varying code gives 0. As in disentanglement_lib's
    `irs` (10,000 samples).

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
