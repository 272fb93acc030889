"""Each term against an independent library or a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from cldis_jax.method import distillation, vae_loss


def test_gaussian_kl_against_numerical_integration():
    mean, log_var = 0.7, -0.9
    p, q = stats.norm(mean, np.exp(log_var / 2)), stats.norm()
    expected = integrate.quad(lambda z: p.pdf(z) * (p.logpdf(z) - q.logpdf(z)), -10, 10)[0]
    np.testing.assert_allclose(vae_loss.gaussian_kl(jnp.array(mean), jnp.array(log_var)), expected, rtol=1e-5)
    assert vae_loss.gaussian_kl(jnp.zeros(3), jnp.zeros(3)).sum() == 0


def test_bernoulli_likelihood_sums_over_pixels():
    x = jnp.array([-1.0, 1.0, 1.0, -1.0]).reshape(1, 2, 2, 1)
    logits = jnp.array([0.3, -0.2, 1.5, -2.0]).reshape(1, 2, 2, 1)
    expected = -stats.bernoulli(1 / (1 + np.exp(-np.ravel(logits)))).logpmf([0, 1, 1, 0]).sum()
    np.testing.assert_allclose(vae_loss.bernoulli(x, logits), [expected], rtol=1e-5)


def test_decoder_mean_is_in_range():
    np.testing.assert_allclose(vae_loss.decoder_mean(jnp.array([-50.0, 0.0, 50.0])), [-1, 0, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("form", "kl", "expected"),
    [("absolute", 5.0, 12.0), ("absolute", 11.0, 12.0), ("hinge", 5.0, 2.5), ("hinge", 11.0, 17.5)],
)
def test_capacity_penalty(form, kl, expected):
    """By hand, for beta = 4, C = 8, beta_min = 0.5."""
    np.testing.assert_allclose(vae_loss.CAPACITY_FORMS[form](jnp.array(kl), jnp.array(8.0), 4.0, 0.5), expected)


def test_distillation_kl_is_that_of_two_gaussians():
    """sum_d KL(N(mu, s^2) || N(z, s^2)) by the general formula, with s^2 = sigma^2 + floor^2."""
    rng = np.random.default_rng(0)
    z, mean, log_var = rng.normal(size=(3, 4, 5))
    s = np.sqrt(np.exp(log_var) + 0.1**2)
    expected = (np.log(s / s) + (s**2 + (mean - z) ** 2) / (2 * s**2) - 0.5).sum(-1)
    np.testing.assert_allclose(distillation.kl(z, mean, log_var, 0.1, 1.0), expected, rtol=1e-5)


@pytest.mark.parametrize("form", ["kl", "mse"])
def test_distillation_of_some_units(form):
    rng = np.random.default_rng(0)
    z, mean, log_var = rng.normal(size=(3, 4, 5))
    chosen = [0, 3]
    expected = distillation.FORMS[form](z[:, chosen], mean[:, chosen], log_var[:, chosen], 0.1, 1.0)
    weight = np.array([[1.0, 0, 0, 1, 0]])
    np.testing.assert_allclose(distillation.FORMS[form](z, mean, log_var, 0.1, weight), expected, rtol=1e-5)
    half = distillation.FORMS[form](z, mean, log_var, 0.1, weight / 2)
    np.testing.assert_allclose(half, expected / 2, rtol=1e-5)


def test_distillation_mse_and_softmax():
    rng = np.random.default_rng(1)
    z, mean = rng.normal(size=(2, 3, 4))
    np.testing.assert_allclose(distillation.mse(z, mean, z, 0.1, 1.0), ((z - mean) ** 2).sum(-1), rtol=1e-5)
    p, q = (np.exp(a) / np.exp(a).sum(-1, keepdims=True) for a in (mean, z))
    np.testing.assert_allclose(
        distillation.softmax(jnp.asarray(z), jnp.asarray(mean), z, 0.1, 1.0),
        (p * np.log(p / q)).sum(-1),
        rtol=1e-4,
    )


@pytest.mark.parametrize("form", distillation.FORMS)
def test_distillation_is_least_at_the_teacher(form):
    mean = jnp.array([[0.5, -1.0, 2.0]])
    value, gradient = jax.value_and_grad(
        lambda z: distillation.FORMS[form](z, mean, jnp.zeros((1, 3)), 0.1, 1.0).sum()
    )(mean)
    np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
    assert distillation.FORMS[form](mean * 1.5, mean, jnp.zeros((1, 3)), 0.1, 1.0)[0] > 0.01
