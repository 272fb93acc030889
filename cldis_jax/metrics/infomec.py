"""InfoMEC: modularity, explicitness and compactness in units of information [Hsu et al. 2023, "Disentanglement via
latent quantization", arXiv 2305.18378, section 5]."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from cldis_jax.metrics import inputs

NUM_NEIGHBORS = 10
LEAST_SHARE_OF_RANGE = 1 / 20


def infomec(codes: np.ndarray, factors: np.ndarray) -> dict[str, float]:
    """`infom`, `infoe` and `infoc`, each 0 for chance and 1 at best, and `active`, the number of active codes.

    codes [N, C], factors [N, F] integers. A code is active if its range exceeds a twentieth of the largest range. NMI
    is the mutual information of a code and a factor by 10 nearest neighbours, divided by the entropy of the factor.

    - `infom`: the share of an active code's NMI that belongs to its best factor; mean over active codes.
    - `infoc`: the share of a factor's NMI with active codes that belongs to its best code; mean over factors.
    - `infoe`: the share of a factor's entropy that an unpenalised, balanced logistic regression on all standardised
      codes explains in these samples; mean over factors.

    `infom` and `infoc` are rescaled, so that equal shares give 0. A code or factor without NMI counts as equal shares.
    `infoc` is 0 with one active code, because its chance level is then 1. `infoe` is not below 0. Without an active
    code everything is 0. The published implementation has no rule for these cases and else the same definitions. Where
    the codes contain almost no information, `infom` and `infoc` are shares of noise: read them beside `infoe`.

    Raises:
      ValueError: bad shapes, fewer than two factors, a factor with a single value, or one whose values are all
        different.
    """
    codes, factors = inputs.check_pair(codes, factors)
    if factors.shape[1] < 2:
        raise ValueError("infomec needs at least two factors")
    inputs.check_varying(factors)
    codes = codes.astype(np.float64)
    ranges = np.ptp(codes, axis=0)
    active = ranges > LEAST_SHARE_OF_RANGE * ranges.max()
    if not active.any():
        return {"infom": 0.0, "infoe": 0.0, "infoc": 0.0, "active": 0.0}
    codes = (codes - codes.min(axis=0)) / np.where(ranges > 0, ranges, 1)  # squares of tiny codes would be 0
    codes = (codes - codes.mean(axis=0)) / inputs.scales(codes)
    nmi = normalized_information(codes[:, active], factors)
    return {
        "infom": _concentration(nmi),
        "infoe": float(np.mean([_explained(codes, factor) for factor in factors.T])),
        "infoc": _concentration(nmi.T),
        "active": float(active.sum()),
    }


def normalized_information(codes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """NMI [C, F] of standardised codes [N, C] and factors [N, F]; the estimate may exceed 1 a little."""
    columns = []
    for index, factor in enumerate(factors.T):
        if np.unique(factor, return_counts=True)[1].max() == 1:
            raise ValueError(f"factor {index} has another value in every sample; its information has no estimate")
        columns.append(mutual_info_classif(codes, factor, n_neighbors=NUM_NEIGHBORS, random_state=0))
    return np.stack(columns, axis=1) / inputs.entropy(factors)


def _concentration(nmi: np.ndarray) -> float:
    """The mean over rows of the greatest share of the row's sum, rescaled so that equal shares give 0."""
    chance = 1 / nmi.shape[1]
    if chance == 1:
        return 0.0
    total = nmi.sum(axis=1)
    shares = np.divide(nmi.max(axis=1), total, out=np.full(len(nmi), chance), where=total > 0)
    return float((shares.mean() - chance) / (1 - chance))


def _explained(codes: np.ndarray, factor: np.ndarray) -> float:
    """1 - the log loss of a logistic regression on the codes / that on zeros, which is uniform: ln K."""
    classifier = LogisticRegression(C=np.inf, class_weight="balanced")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        loss = log_loss(factor, classifier.fit(codes, factor).predict_proba(codes))
    return max(0.0, 1 - loss / np.log(len(classifier.classes_)))
