"""Checks and discretisation for all metrics. Codes are floats [N, C], factors integers [N, F]."""

import numpy as np

NUM_BINS = 20  # histogram_discretizer.num_bins of disentanglement_lib's study
LARGEST = 1e30  # of a code; beyond it, squares in scikit-learn overflow and its solvers do not end
# float32 codes outside of these limits are computed in float64, because their squares or differences would be lost.
FLOAT32_LARGEST = 1e9
FLOAT32_LEAST_SPREAD = 1e-9
FLOAT32_LEAST_RELATIVE_SPREAD = 1e-6


def as_floats(values, name: str) -> np.ndarray:
    """Finite numbers as float32 or float64; narrower floats become float32, integers float64.

    Raises:
      ValueError: not real numbers, NaN or infinite, or greater than `LARGEST`.
    """
    values = np.asarray(values)
    if not np.can_cast(values.dtype, np.float64):  # also true of bfloat16, which NumPy does not count as a float
        raise ValueError(f"{name} must be real numbers, got dtype {values.dtype}")
    if values.dtype not in (np.float32, np.float64):
        narrow = values.dtype.kind not in "iub"
        values = values.astype(np.float32 if narrow else np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} contain NaN or infinite values")
    if values.size and (largest := np.abs(values).max()) > LARGEST:
        raise ValueError(
            f"{name} contain values up to {largest:.1e}; metrics take at most {LARGEST:.0e}, so scale them"
        )
    return values


def check_codes(codes, name: str = "codes") -> np.ndarray:
    """Codes as a finite array [N, C] of float32 or float64.

    Raises:
      ValueError: not two-dimensional, empty, not real and finite numbers, or greater than `LARGEST`.
    """
    codes = np.asarray(codes)
    if codes.ndim != 2 or 0 in codes.shape:
        raise ValueError(
            f"{name} must be [N, C] and not empty, got shape {codes.shape}; reduce_units turns vectors into codes"
        )
    codes = as_floats(codes, name)
    low, high = codes.min(axis=0).astype(np.float64), codes.max(axis=0).astype(np.float64)
    greatest, spread = np.maximum(-low, high), high - low
    narrow = spread < np.maximum(FLOAT32_LEAST_SPREAD, FLOAT32_LEAST_RELATIVE_SPREAD * greatest)
    if (greatest > FLOAT32_LARGEST).any() or (narrow & (spread > 0)).any():
        return codes.astype(np.float64)
    return codes


def varies(codes: np.ndarray) -> np.ndarray:
    """Which codes take more than one value, [C]. The variance of equal values is not always 0, because of rounding."""
    return codes.max(axis=0) > codes.min(axis=0)


def scales(codes: np.ndarray) -> np.ndarray:
    """Standard deviations [C] to divide by: 1 for codes that never vary."""
    std = codes.std(axis=0)
    return np.where(varies(codes) & (std > 0), std, 1.0)


def check_pair(codes, factors, name: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Codes [N, C] and integer factors [N, F] of the same N samples.

    Raises:
      ValueError: the shapes don't fit, or factors are not whole numbers.
    """
    prefix = f"{name} " if name else ""
    codes, factors = check_codes(codes, f"{prefix}codes"), np.asarray(factors)
    if factors.ndim != 2 or len(factors) != len(codes) or factors.shape[1] == 0:
        raise ValueError(f"{prefix}factors must be [N, F] with N = {len(codes)}, got shape {factors.shape}")
    with np.errstate(invalid="ignore"):  # NaN becomes some integer, which differs from it
        whole = factors.astype(np.int64)
    if not np.array_equal(factors, whole):
        raise ValueError(f"{prefix}factors must be whole numbers")
    return codes, whole


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
    columns = [_with_room(column, num_bins) for column in codes.T]
    return np.stack([np.digitize(column, np.histogram(column, num_bins)[1][:-1]) for column in columns], axis=1)


def _with_room(column: np.ndarray, num_bins: int) -> np.ndarray:
    """The column, stretched to [0, 1] where its range is too small for the bins in float64."""
    low, span = column.min(), np.ptp(column)
    if 0 < span <= 4 * num_bins * np.spacing(np.abs(column).max()):
        return (column - low) / span
    return column


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
