"""Compositional generalisation: does a code mean the same on combinations of factors that were never trained on?"""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from cldis_jax.metrics import inputs


def composition(train, seen, unseen) -> dict[str, float]:
    """`seen` and `unseen`: accuracy of linear probes on combinations that the encoder was trained on, and on others.

    Each argument is (codes [N, C], factors [N, F]). A logistic regression on the standardised codes is fitted to
    `train` for each factor; the mean over factors is returned. `train` must have all combinations: without some, a
    probe would learn from a perfect code which values never meet. A code that has the factors apart scores alike on
    both. Held-out combinations: Montero et al. 2021, "The role of disentanglement in generalisation"; the linear probe
    is our choice.

    Raises:
      ValueError: bad shapes, or a factor with a single value in `train`.
    """
    inputs.check_split(*train, *seen)
    train_codes, train_factors, *unseen = inputs.check_split(*train, *unseen)
    mean, std = train_codes.mean(axis=0), inputs.scales(train_codes)
    accuracy = np.empty((2, train_factors.shape[1]))
    for column, labels in enumerate(train_factors.T):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe = LogisticRegression().fit((train_codes - mean) / std, labels)
        for row, (codes, factors) in zip(accuracy, (seen, unseen)):
            row[column] = np.mean(probe.predict((codes - mean) / std) == np.asarray(factors)[:, column])
    return dict(zip(("seen", "unseen"), accuracy.mean(axis=1).tolist()))
