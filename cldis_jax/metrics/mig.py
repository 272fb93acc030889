"""Mutual information gap [Chen et al. 2018, arXiv 1802.04942]."""

import numpy as np

from cldis_jax.metrics import inputs


def information_shares(codes: np.ndarray, factors: np.ndarray, *, num_bins: int = inputs.NUM_BINS) -> np.ndarray:
    """The mutual information of each code and factor, divided by the factor's entropy: [C, F] in [0, 1].

    codes [N, C], factors [N, F] integers. `mig` is computed from this matrix.

    Raises:
      ValueError: bad shapes, or a factor with a single value.
    """
    codes, factors = inputs.check_pair(codes, factors)
    inputs.check_varying(factors)
    information = inputs.mutual_information(inputs.discretize(codes, num_bins), factors)
    return np.minimum(information / inputs.entropy(factors), 1.0)  # rounding


def mig(codes: np.ndarray, factors: np.ndarray, *, num_bins: int = inputs.NUM_BINS) -> dict[str, float]:
    """`mig`: mean over factors of the gap between the two most informative codes, divided by the factor's entropy.

    codes [N, C], factors [N, F] integers. disentanglement_lib's `discrete_mig` (10,000 samples, 20 bins).

    Raises:
      ValueError: bad shapes, fewer than two codes, or a factor with a single value.
    """
    codes, factors = inputs.check_pair(codes, factors)
    inputs.check_widths(codes, 2, "mig")
    shares = np.sort(information_shares(codes, factors, num_bins=num_bins), axis=0)
    return {"mig": float(np.mean(shares[-1] - shares[-2]))}
