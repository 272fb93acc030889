"""Checks and discretisation for all metrics. Codes are floats [N, C], factors integers [N, F]."""

import numpy as np

NUM_BINS = 20  # histogram_discretizer.num_bins of disentanglement_lib's study


def check_codes(codes, name: str = "codes") -> np.ndarray:
    """Codes as a finite array [N, C].

    Raises:
      ValueError: not two-dimensional, empty, or not finite.
    """
    codes = np.asarray(codes)
    if codes.ndim != 2 or 0 in codes.shape:
        raise ValueError(
            f"{name} must be [N, C] and not empty, got shape {codes.shape}; reduce_units turns vectors into codes"
        )
    if not np.isfinite(codes).all():
        raise ValueError(f"{name} contain NaN or infinite values")
    return codes


def check_pair(codes, factors, name: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Codes [N, C] and integer factors [N, F] of the same N samples.

    Raises:
      ValueError: the shapes don't fit, or factors are not whole numbers.
    """
    prefix = f"{name} " if name else ""
    codes, factors = check_codes(codes, f"{prefix}codes"), np.asarray(factors)
    if factors.ndim != 2 or len(factors) != len(codes) or factors.shape[1] == 0:
        raise ValueError(f"{prefix}factors must be [N, F] with N = {len(codes)}, got shape {factors.shape}")
    if not np.array_equal(factors, factors.astype(np.int64)):
        raise ValueError(f"{prefix}factors must be whole numbers")
    return codes, factors.astype(np.int64)


def check_split(train_codes, train_factors, test_codes, test_factors) -> tuple[np.ndarray, ...]:
    """The four arrays of a train and a test set, whose columns must agree and whose factors must all vary.

    Raises:
      ValueError: the shapes don't fit, or a factor has a single value in the training set.
    """
    train_codes, train_factors = check_pair(train_codes, train_factors, "train")
    test_codes, test_factors = check_pair(test_codes, test_factors, "test")
    for name, train, test in (("codes", train_codes, test_codes), ("factors", train_factors, test_factors)):
        if train.shape[1] != test.shape[1]:
            raise ValueError(f"train and test {name} differ in width: {train.shape[1]} and {test.shape[1]}")
    check_varying(train_factors)
    return train_codes, train_factors, test_codes, test_factors


def check_varying(factors: np.ndarray) -> None:
    """Raise ValueError for a factor with a single value, which no metric can score."""
    constant = np.flatnonzero((factors == factors[0]).all(axis=0))
    if len(constant):
        raise ValueError(f"factor {constant[0]} has a single value in these samples; leave it out")


def check_widths(codes: np.ndarray, least: int, why: str) -> None:
    """Raise ValueError when there are fewer than `least` codes."""
    if codes.shape[1] < least:
        raise ValueError(f"{why} needs at least {least} codes, got {codes.shape[1]}")


def discretize(codes: np.ndarray, num_bins: int = NUM_BINS) -> np.ndarray:
    """Bin numbers, 1 to `num_bins`, in equal bins from the least to the greatest value of each column, int [N, C].

    disentanglement_lib, evaluation/metrics/utils.py: histogram_discretizer.
    """
    codes = codes.astype(np.float64)  # float32 can't represent the bins of a code that hardly varies
    columns = [np.digitize(column, np.histogram(column, num_bins)[1][:-1]) for column in codes.T]
    return np.stack(columns, axis=1)


def mutual_information(bins: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Plug-in mutual information in nats of every column of [N, C] with every column of [N, F], as [C, F]."""
    return np.array([[_mutual_information(a, b) for b in factors.T] for a in bins.T])


def entropy(factors: np.ndarray) -> np.ndarray:
    """Plug-in entropy in nats of every column of [N, F], as [F]."""
    return np.array([_mutual_information(column, column) for column in factors.T])


def _mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    (rows, a), (columns, b) = (np.unique(values, return_inverse=True) for values in (a, b))
    joint = np.bincount(a * len(columns) + b, minlength=len(rows) * len(columns)) / len(a)
    joint = joint.reshape(len(rows), len(columns))
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    seen = joint > 0
    terms = joint[seen] * np.log(joint[seen] / independent[seen])
    # Terms at the level of rounding are dropped, as in scikit-learn's mutual_info_score: a constant code must give 0.
    return max(0.0, float(terms[np.abs(terms) >= np.finfo(np.float64).eps].sum()))
