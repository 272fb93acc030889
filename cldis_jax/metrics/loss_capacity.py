"""Explicitness and size beside D, C and I [Eastwood et al. 2023, "DCI-ES: an extended disentanglement framework with
connections to identifiability", arXiv 2210.00364, section 4]."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import LogisticRegression

from cldis_jax.metrics import inputs
from cldis_jax.metrics.dci import dci

NUM_FEATURES = (0, 16, 64, 256)  # random Fourier features of the probes, beside the codes themselves


def dci_es(train_codes, train_factors, test_codes, test_factors, *, seed: int, **options) -> dict[str, float]:
    """The scores of `dci`, which takes `options`, and those of `explicitness`.

    Raises:
      ValueError: see `dci`.
    """
    arrays = train_codes, train_factors, test_codes, test_factors
    return dci(*arrays, seed=seed, **options) | explicitness(*arrays, seed=seed)


def explicitness(train_codes, train_factors, test_codes, test_factors, *, seed: int) -> dict[str, float]:
    """`explicitness`: how little capacity a probe needs to read the factors; `size`: factors over codes, F / C.

    A factor's loss-capacity curve is the least test loss of the probes up to each capacity. Its explicitness is
    1 - A / Z: A is the area between the curve and its own minimum, Z half of the area below the loss of the most
    frequent value. It is 1 if the smallest probe is as good as all others, 0 if the loss falls from this baseline to 0
    in a straight line, and near -1 if only the largest probe reads the factor. The mean over factors is returned.

    The paper leaves the probes open. Ours are logistic regressions on the standardised codes and 0, 16, 64 or 256
    random Fourier features of them, so the smallest is linear. The capacity is the logarithm of the number of inputs,
    the loss the share of errors, as for the classes in the published implementation. A factor that no probe reads
    better than the baseline, by two standard errors of a share, counts as 0: the definition would give about 1. A code
    that contains little information may still be explicit: read it beside informativeness.

    Raises:
      ValueError: bad shapes, or a factor with a single value.
    """
    arrays = inputs.check_split(train_codes, train_factors, test_codes, test_factors)
    train_codes, train_factors, test_codes, test_factors = arrays
    num_codes, num_factors = train_codes.shape[1], train_factors.shape[1]
    train_codes, test_codes = train_codes.astype(np.float64), test_codes.astype(np.float64)
    low, span = train_codes.min(axis=0), np.ptp(train_codes, axis=0)
    train_codes, test_codes = ((z - low) / np.where(span > 0, span, 1) for z in (train_codes, test_codes))
    mean, std = train_codes.mean(axis=0), inputs.scales(train_codes)
    train_codes, test_codes = (train_codes - mean) / std, (test_codes - mean) / std
    losses = np.empty((len(NUM_FEATURES), num_factors))
    for row, num_features in zip(losses, NUM_FEATURES):
        train, test = train_codes, test_codes
        if num_features:
            fourier = RBFSampler(gamma=1 / num_codes, n_components=num_features, random_state=seed).fit(train_codes)
            train, test = (np.hstack([z, fourier.transform(z)]) for z in (train_codes, test_codes))
        row[:] = [_errors(train, *factor, test) for factor in zip(train_factors.T, test_factors.T)]
    baselines = [np.mean(test != _most_frequent(train)) for train, test in zip(train_factors.T, test_factors.T)]
    capacities = np.log(num_codes + np.array(NUM_FEATURES))
    num = len(test_codes)
    scores = [_explicitness(capacities, curve, baseline, num) for curve, baseline in zip(losses.T, baselines)]
    return {"explicitness": float(np.mean(scores)), "size": num_factors / num_codes}


def _explicitness(capacities: np.ndarray, losses: np.ndarray, baseline: float, num: int) -> float:
    """1 - the normalised area of a loss-capacity curve; both arrays [T], the capacities rising; `num` test samples."""
    curve = np.minimum(np.minimum.accumulate(losses), baseline)
    if baseline - curve[-1] <= 2 * np.sqrt(baseline * (1 - baseline) / num):
        return 0.0
    area = np.trapezoid(curve - curve[-1], capacities)
    return float(1 - 2 * area / ((capacities[-1] - capacities[0]) * baseline))


def _errors(train_codes: np.ndarray, train: np.ndarray, test: np.ndarray, test_codes: np.ndarray) -> float:
    """The share of test samples that a logistic regression on the training samples predicts wrongly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return float(np.mean(LogisticRegression().fit(train_codes, train).predict(test_codes) != test))


def _most_frequent(labels: np.ndarray) -> int:
    values, counts = np.unique(labels, return_counts=True)
    return values[counts.argmax()]
