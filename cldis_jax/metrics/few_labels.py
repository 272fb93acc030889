"""How many labels does a code save? Linear probes of binary attributes, fitted to a few images."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cldis_jax.metrics import inputs


def few_labels(codes: np.ndarray, attributes: np.ndarray, num_labels: int, seed: int = 0) -> dict[str, float]:
    """`auroc`: area under the ROC curve of linear probes that have seen `num_labels` images; the mean over attributes.

    codes [N, C], attributes [N, A] with values 0 and 1. For each attribute half of the labelled images have it and half
    do not, drawn with `seed`; all other images are the test. The probe is a logistic regression on standardised codes.
    Attributes with too few images of one value are left out; `attributes` is the number of those that are measured. The
    protocol is ours; the area does not depend on how rare an attribute is.

    Raises:
      ValueError: bad shapes, an odd number of labels or fewer than 2, or no attribute with enough images.
    """
    codes, attributes = inputs.check_pair(codes, attributes)
    if num_labels < 2 or num_labels % 2:
        raise ValueError(f"num_labels must be even and at least 2, got {num_labels}")
    rng, areas = np.random.default_rng(seed), []
    for labels in attributes.T:
        with_it, without = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
        if min(len(with_it), len(without)) <= num_labels // 2:
            continue
        fitted = np.concatenate([rng.choice(part, num_labels // 2, replace=False) for part in (with_it, without)])
        test = np.setdiff1d(np.arange(len(labels)), fitted)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe = make_pipeline(StandardScaler(), LogisticRegression()).fit(codes[fitted], labels[fitted])
        areas.append(roc_auc_score(labels[test], probe.decision_function(codes[test])))
    if not areas:
        raise ValueError(f"no attribute has more than {num_labels // 2} images of each value")
    return {"auroc": float(np.mean(areas)), "attributes": float(len(areas))}
