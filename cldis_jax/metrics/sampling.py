"""Batches of factors for the metrics that sample them: each factor is uniform and independent, with replacement."""

from collections.abc import Callable, Sequence

import numpy as np

from cldis_jax.metrics import inputs

Represent = Callable[[np.ndarray], np.ndarray]  # factors [N, F] int -> codes [N, C]

ROWS_PER_CALL = 65_536  # most rows in one call of represent(), to bound memory


def check_sizes(factor_sizes: Sequence[int]) -> np.ndarray:
    """Number of values of each factor [F].

    Raises:
      ValueError: the list is empty, or a size is below 1.
    """
    sizes = np.asarray(factor_sizes, np.int64)
    if sizes.ndim != 1 or len(sizes) == 0 or (sizes < 1).any():
        raise ValueError(f"factor_sizes must be a list of positive numbers, got {factor_sizes}")
    return sizes


def check_numbers(least: int, **numbers: int) -> None:
    """Raises ValueError for a number of samples below `least`, with its name."""
    for name, number in numbers.items():
        if number < least:
            raise ValueError(f"{name} must be at least {least}, got {number}")


def sample_factors(rng: np.random.Generator, sizes: np.ndarray, *shape: int) -> np.ndarray:
    """Factors [*shape, F]."""
    return rng.integers(0, sizes, (*shape, len(sizes)))


def chunks(total: int, batch_size: int) -> list[int]:
    """Splits `total` batches into calls of at most ROWS_PER_CALL rows; returns the number of batches of each call."""
    most = max(1, ROWS_PER_CALL // batch_size)
    return [min(most, total - start) for start in range(0, total, most)]


def represent_batches(represent: Represent, factors: np.ndarray) -> np.ndarray:
    """Codes [V, L, C] of factors [V, L, F].

    Raises:
      ValueError: represent() did not return one finite code per row.
    """
    num, length, width = factors.shape
    codes = np.asarray(represent(factors.reshape(num * length, width)))
    if codes.ndim != 2 or len(codes) != num * length:
        raise ValueError(f"represent must give [N, C] codes for N = {num * length} rows, got shape {codes.shape}")
    return inputs.check_codes(codes, "the codes of represent").reshape(num, length, -1)
