"""Modularity and explicitness [Ridgeway & Mozer 2018, arXiv 1802.05312]."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import label_binarize

from cldis_jax.metrics import inputs


def modularity_explicitness(
    train_codes, train_factors, test_codes, test_factors, *, num_bins: int = inputs.NUM_BINS
) -> dict[str, float]:
    """`modularity`: does each code encode one factor? `explicitness`: can a linear classifier predict the factors?

    The modularity of a code is 1 - sum_f I_f^2 / ((F - 1) max_f I_f^2), where I_f is its mutual information with factor
    f and the sum leaves out the greatest I_f. It is 0 for a code without information. `modularity` is the mean over
    codes. `explicitness` is the area under the ROC curve, on the test set, of a logistic regression on the standardised
    codes, averaged over values (one against the rest) and factors.

    As in disentanglement_lib's `modularity_explicitness` (10,000 training and 5,000 test samples, 20 bins), except that
    a standardised code which never varies is 0 here; that implementation divides by 0.

    Raises:
      ValueError: bad shapes, fewer than two factors, or a factor with a single value or with different values in the
        training and the test set.
    """
    arrays = inputs.check_split(train_codes, train_factors, test_codes, test_factors)
    train_codes, train_factors, test_codes, test_factors = arrays
    if train_factors.shape[1] < 2:
        raise ValueError("modularity needs at least two factors")
    information = inputs.mutual_information(inputs.discretize(train_codes, num_bins), train_factors)
    mean, std = train_codes.mean(axis=0), inputs.scales(train_codes)
    train_codes, test_codes = (train_codes - mean) / std, (test_codes - mean) / std
    areas = [
        _explicitness(train_codes, train, test_codes, test, factor)
        for factor, (train, test) in enumerate(zip(train_factors.T, test_factors.T))
    ]
    return {"modularity": _modularity(information), "explicitness": float(np.mean(areas))}


def _modularity(information: np.ndarray) -> float:
    squared = np.square(information)
    greatest = squared.max(axis=1)
    informative = greatest > 0
    others = (squared.sum(axis=1) - greatest)[informative] / (greatest[informative] * (squared.shape[1] - 1))
    return float(np.sum(1 - others) / len(squared))


def _explicitness(train_codes, train_factor, test_codes, test_factor, factor: int) -> float:
    values = np.unique(train_factor)
    if not np.array_equal(values, np.unique(test_factor)):
        raise ValueError(f"factor {factor} takes different values in the training and the test set; use more samples")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probability = LogisticRegression().fit(train_codes, train_factor).predict_proba(test_codes)
    if len(values) == 2:  # both classes have the same area
        return float(roc_auc_score(test_factor == values[1], probability[:, 1]))
    return float(roc_auc_score(label_binarize(test_factor, classes=values), probability))
