"""Unsupervised disentanglement ranking [Duan et al. 2020, arXiv 1905.12614]: agreement between trained models."""

import warnings
from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso

from cldis_jax.metrics import inputs

CORRELATIONS = ("lasso", "spearman")
LASSO_ALPHA = 0.1
SILENT = 0.01  # nats; codes at or below it are pruned


def udr(
    codes: Sequence[np.ndarray],
    kls: Sequence[np.ndarray] | None = None,
    *,
    correlation: str = "lasso",
) -> dict[str, float]:
    """`udr_0`, `udr_1`, ... of each model and `udr`, their mean.

    The agreement of two models is 1/2 (mean_a max_b R_ab^2 / sum_b R_ab + the same with a and b exchanged). R contains
    the absolute lasso coefficients or Spearman correlations of the standardised codes. The score of a model is the
    median agreement with the other models. The metric needs no labels.

    Args:
      codes: for each model the codes [N, C_m] of the same N images (1,000 in the paper).
      kls: for each model the mean KL divergence [C_m] of each code from the prior. Codes at or below
        SILENT nats are pruned. None keeps all codes, for codes without a posterior.

    Raises:
      ValueError: fewer than two models, bad shapes or values, or an unknown correlation.
    """
    if correlation not in CORRELATIONS:
        raise ValueError(f"correlation must be one of {', '.join(CORRELATIONS)}, got {correlation!r}")
    if len(codes) < 2:
        raise ValueError(f"udr compares at least two models, got {len(codes)}")
    codes = [inputs.check_codes(array, f"codes of model {i}") for i, array in enumerate(codes)]
    if len({len(array) for array in codes}) > 1:
        raise ValueError(f"udr needs the same images for every model, got {[len(array) for array in codes]} rows")
    if kls is not None:
        widths = [array.shape[1] for array in codes]
        if [np.shape(kl) for kl in kls] != [(width,) for width in widths]:
            raise ValueError(f"kls must be one [C] per model with C = {widths}, got {[np.shape(kl) for kl in kls]}")
        if not all(np.isfinite(kl).all() for kl in kls):
            raise ValueError("kls contain NaN or infinite values")
        codes = [array[:, np.asarray(kl) > SILENT] for array, kl in zip(codes, kls)]
    codes = [_standardise(array) for array in codes]
    correlate = _lasso if correlation == "lasso" else _spearman
    scores = []
    for i, own in enumerate(codes):
        agreements = [_agreement(correlate(own, other)) for j, other in enumerate(codes) if j != i]
        scores.append(float(np.median(agreements)))
    return {"udr": float(np.mean(scores))} | {f"udr_{i}": score for i, score in enumerate(scores)}


def _standardise(codes: np.ndarray) -> np.ndarray:
    return (codes - codes.mean(axis=0)) / inputs.scales(codes)


def _lasso(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """|coefficients| [C_own, C_other] of the regression from `own` to `other`."""
    if 0 in (own.shape[1], other.shape[1]):
        return np.zeros((own.shape[1], other.shape[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        coefficients = Lasso(alpha=LASSO_ALPHA).fit(own, other).coef_
    return np.abs(coefficients).reshape(other.shape[1], own.shape[1]).T


def _spearman(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """|Spearman correlations| [C_own, C_other]; 0 for a code that never varies."""
    own, other = (_standardise(rankdata(array, axis=0)) if array.size else array for array in (own, other))
    return np.minimum(np.abs(own.T @ other) / len(own), 1.0)  # rounding


def _agreement(correlation: np.ndarray) -> float:
    """The mean of max^2 / sum over each row and each column of the correlations [C_own, C_other]."""
    if correlation.size == 0:
        return 0.0
    sides = []
    for axis in (0, 1):
        total = correlation.sum(axis=axis)
        best = correlation.max(axis=axis) ** 2
        sides.append(np.divide(best, total, out=np.zeros_like(best), where=total > 0).mean())
    return float(np.mean(sides))
