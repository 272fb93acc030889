"""From vector-valued units to scalar codes."""

import numpy as np
import pytest

from cldis_jax.metrics import mig, reduce_units


def vectors(num=500, seed=0):
    """(latents [N, 2, 5], two factors). Each unit encodes its factor along a direction of its own."""
    rng = np.random.default_rng(seed)
    factors = rng.integers(0, 6, (num, 2))
    directions = rng.normal(size=(2, 5))
    return factors[:, :, None] * directions + 3.0 + 0.01 * rng.normal(size=(num, 2, 5)), factors


def test_pca_finds_the_number_that_each_unit_encodes():
    latents, factors = vectors()
    codes = reduce_units(latents)
    assert codes.shape == (500, 2)
    for i in range(2):
        assert abs(np.corrcoef(codes[:, i], factors[:, i])[0, 1]) > 0.999
    assert mig(codes, factors)["mig"] > 0.95
    # The first component from an eigenvector of the covariance.
    centred = latents[:, 1] - latents[:, 1].mean(0)
    leading = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    np.testing.assert_allclose(np.abs(codes[:, 1]), np.abs(centred @ leading), atol=1e-6)


def test_none_keeps_every_number():
    latents, _ = vectors()
    np.testing.assert_array_equal(reduce_units(latents, "none"), latents.reshape(500, 10))


def test_invalid_latents_are_named():
    with pytest.raises(ValueError, match=r"\[N, units, D\].*\(4, 2\)"):
        reduce_units(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="'mean' is not one of pca, none"):
        reduce_units(np.zeros((4, 2, 3)), "mean")
    with pytest.raises(ValueError, match="NaN"):
        reduce_units(np.full((4, 2, 3), np.nan))
