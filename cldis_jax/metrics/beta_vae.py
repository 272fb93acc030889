"""The BetaVAE score: a linear classifier on differences of codes [Higgins et al. 2017, section 3]."""

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from cldis_jax.metrics import sampling


def beta_vae(
    represent: sampling.Represent,
    factor_sizes: Sequence[int],
    *,
    seed: int,
    num_train: int = 10_000,
    num_eval: int = 5_000,
    batch_size: int = 64,
) -> dict[str, float]:
    """`beta_vae`: test accuracy of a logistic regression that predicts which factor the pairs share.

    `represent` maps factors [N, F] to codes [N, C]. A point is the mean of |z_1 - z_2| over `batch_size` pairs. Both
    images of a pair have the same value of one factor; the value differs from pair to pair. `beta_vae_train` is the
    accuracy on the training points. As disentanglement_lib's `beta_vae_sklearn`.

    Raises:
      ValueError: bad factor sizes or codes, fewer than two factors, or too few points.
    """
    sizes = sampling.check_sizes(factor_sizes)
    if len(sizes) < 2:
        raise ValueError("beta_vae needs at least two factors")
    sampling.check_numbers(1, num_train=num_train, num_eval=num_eval, batch_size=batch_size)
    rng = np.random.default_rng(seed)
    train_points, train_labels = _points(represent, sizes, rng, num_train, batch_size)
    if len(np.unique(train_labels)) < 2:
        raise ValueError(f"num_train={num_train} points all share factor {train_labels[0]}; use more")
    test_points, test_labels = _points(represent, sizes, rng, num_eval, batch_size)
    classifier = LogisticRegression(random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(train_points, train_labels)
    return {
        "beta_vae": float(classifier.score(test_points, test_labels)),
        "beta_vae_train": float(classifier.score(train_points, train_labels)),
    }


def _points(represent, sizes, rng, num: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Differences [num, C] and the shared factors [num]."""
    points, labels = [], []
    for count in sampling.chunks(num, 2 * batch_size):
        shared = rng.integers(len(sizes), size=count)
        first = sampling.sample_factors(rng, sizes, count, batch_size)
        second = sampling.sample_factors(rng, sizes, count, batch_size)
        rows = np.arange(count)
        second[rows, :, shared] = first[rows, :, shared]
        codes = sampling.represent_batches(represent, np.concatenate([first, second], axis=1))
        points.append(np.abs(codes[:, :batch_size] - codes[:, batch_size:]).mean(axis=1, dtype=np.float64))
        labels.append(shared)
    return np.concatenate(points), np.concatenate(labels)
