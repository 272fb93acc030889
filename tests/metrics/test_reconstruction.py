"""Pixel metrics against formulas in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from cldis_jax import metrics


@pytest.fixture
def images():
    draws = np.random.RandomState(0)
    x = draws.uniform(-1, 1, (2, 16, 13, 3))
    y = np.clip(x + 0.3 * draws.randn(*x.shape), -1, 1)
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)


def test_mse_and_psnr_are_on_the_unit_range():
    black, grey = -jnp.ones((1, 4, 4, 3)), jnp.zeros((1, 4, 4, 3))
    np.testing.assert_allclose(metrics.mse(black, grey), 0.25)
    np.testing.assert_allclose(metrics.psnr(black, grey), 20 * np.log10(2), rtol=1e-5)
    np.testing.assert_array_equal(metrics.psnr(black, black), np.inf)


def ssim_by_loops(x, y):
    """Wang et al. 2004, window by window, zeros beyond the edge, on [0, 1] in float64."""
    x, y = ((np.asarray(image, np.float64) + 1) / 2 for image in (x, y))
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    x, y = (np.pad(image, ((5, 5), (5, 5), (0, 0))) for image in (x, y))
    values = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            for c in range(x.shape[2]):
                a, b = x[i : i + 11, j : j + 11, c], y[i : i + 11, j : j + 11, c]
                ma, mb = (window * a).sum(), (window * b).sum()
                va, vb = (window * a**2).sum() - ma**2, (window * b**2).sum() - mb**2
                cov = (window * a * b).sum() - ma * mb
                values.append((2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)))
    return np.mean(values)


def test_ssim_by_plain_loops(images):
    expected = [ssim_by_loops(x, y) for x, y in zip(*images)]
    np.testing.assert_allclose(metrics.ssim(*images), expected, atol=1e-5)


def test_ssim_of_equal_images_is_one_and_of_constants_is_known(images):
    np.testing.assert_allclose(metrics.ssim(images[0], images[0]), 1, atol=1e-5)
    # White against black: at every pixel only the constant of the luminance term remains.
    black, white = -jnp.ones((1, 40, 40, 1)), jnp.ones((1, 40, 40, 1))
    middle = metrics.ssim(black, white)[0]
    assert 0 < middle < 0.02


def test_shapes_must_agree(images):
    for metric in (metrics.mse, metrics.psnr, metrics.ssim):
        with pytest.raises(ValueError, match="of one shape"):
            metric(images[0], images[1][:, :8])
