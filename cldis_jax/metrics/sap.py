"""Separated attribute predictability [Kumar et al. 2018, "Variational inference of disentangled latent concepts"]."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from cldis_jax.metrics import inputs


def sap(train_codes, train_factors, test_codes, test_factors, *, seed: int = 0) -> dict[str, float]:
    """`sap`: the gap between the scores of the two codes that predict a factor best, averaged over factors.

    The score of a code is the test accuracy of a linear SVM on this code alone (C = 0.01, balanced classes). As in
    disentanglement_lib's `sap_score` for discrete factors (10,000 training and 5,000 test samples).

    Raises:
      ValueError: bad shapes, fewer than two codes, or a factor with a single value.
    """
    arrays = inputs.check_split(train_codes, train_factors, test_codes, test_factors)
    train_codes, train_factors, test_codes, test_factors = arrays
    inputs.check_widths(train_codes, 2, "sap")
    accuracy = np.zeros((train_codes.shape[1], train_factors.shape[1]))
    for code, factor in np.ndindex(accuracy.shape):
        classifier = LinearSVC(C=0.01, class_weight="balanced", random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            classifier.fit(train_codes[:, [code]], train_factors[:, factor])
        accuracy[code, factor] = classifier.score(test_codes[:, [code]], test_factors[:, factor])
    accuracy.sort(axis=0)
    return {"sap": float(np.mean(accuracy[-1] - accuracy[-2]))}
