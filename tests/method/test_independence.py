"""L_ind against numpy, against closed forms, and against the invariants that it is there for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cldis_jax.configs import default
from cldis_jax.method import feedback
from cldis_jax.method.independence import independence_loss, unit_covariances


@pytest.fixture
def config():
    config = default.get_config()
    config.independence.weight, config.distillation.listen_steps = 1.0, 5
    return config


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_the_covariances_are_numpys():
    z = normal(40, 3) @ np.array([[1, 0.5, 0], [0, 1, 2], [0, 0, 0.3]], np.float32) + 7
    found = unit_covariances(jnp.asarray(z))
    u = np.clip((z - z.mean(0)) / z.std(0), -3, 3)
    of_both = np.cov(np.concatenate([u, (u**2 - 1) / 2**0.5], 1).T, bias=True).reshape(2, 3, 2, 3).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(found, of_both * (1 - np.eye(3)), rtol=1e-3, atol=1e-4)


def test_independent_normal_units_have_no_covariance_and_equal_units_that_of_hermite_polynomials():
    z = np.random.default_rng(0).normal(size=(200_000, 2)).astype(np.float32)
    assert np.abs(unit_covariances(jnp.asarray(z))).max() < 0.01
    twice = unit_covariances(jnp.asarray(z[:, [0, 0]]))[..., 0, 1]
    np.testing.assert_allclose(twice, np.eye(2), atol=0.05)  # the clip takes 3 % of the square's variance


def test_the_cosine_and_the_sine_of_a_hue_are_found_in_their_squares():
    """cos and sin are uncorrelated; with u^2 = 2 cos^2 and v^2 = 2 sin^2, cov(u^2 - 1, v^2 - 1) / 2 = -1/4."""
    hue = 2 * np.pi * np.arange(1000) / 1000
    found = unit_covariances(jnp.stack([jnp.cos(hue), jnp.sin(hue)], 1))[..., 0, 1]
    np.testing.assert_allclose(found, [[0, 0], [0, -0.25]], atol=1e-4)


def test_the_gradient_is_that_of_the_squared_covariances(config):
    z = jnp.asarray(normal(16, 4))
    average = unit_covariances(z)
    _, covariances = independence_loss(config, z, average, jnp.array(5))
    np.testing.assert_array_equal(covariances, average)
    found = jax.grad(lambda z: independence_loss(config, z, average, jnp.array(5))[0])(z)
    expected = jax.grad(lambda z: jnp.square(unit_covariances(z)).sum())(z)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(found).max() > 1e-3


def test_the_gradient_does_not_depend_on_scale_and_mean(config):
    z, average = jnp.asarray(normal(16, 4)), jnp.asarray(normal(2, 2, 4, 4))
    gradient = jax.grad(lambda z: independence_loss(config, z, average, jnp.array(5))[0])
    np.testing.assert_allclose(gradient(3 * z + 1) * 3, gradient(z), rtol=1e-3, atol=1e-4)


def test_descent_separates_units_that_share_a_factor(config):
    """A linear code of two factors, mixed at first, ends with one factor in each unit."""
    factors = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (64, 16, 2)).astype(np.float32))
    decay, average = 0.9, jnp.zeros((2, 2, 2, 2))
    mixing = jnp.array([[1.0, 0.6], [0.2, 1.0]])

    @jax.jit
    def step(mixing, average, batch):
        def loss(mixing):
            return independence_loss(config, batch @ mixing, average, jnp.array(5))

        (_, covariances), gradient = jax.value_and_grad(loss, has_aux=True)(mixing)
        return mixing - 0.02 * gradient, decay * average + (1 - decay) * covariances

    def share(mixing):  # of the larger factor in each unit
        return np.square(mixing).max(0) / np.square(mixing).sum(0)

    before = share(mixing)
    for i in range(600):
        mixing, average = step(mixing, average, factors[i % 64])
    assert before.min() < 0.75 < 0.95 < share(mixing).min()


def test_it_waits_for_the_end_of_listening(config):
    z, average = jnp.asarray(normal(16, 4)), jnp.asarray(normal(2, 2, 4, 4))

    def gradient(step):
        return jax.grad(lambda z: independence_loss(config, z, average, jnp.array(step))[0])(z)

    np.testing.assert_array_equal(gradient(4), 0)
    assert np.abs(gradient(5)).max() > 0


def test_with_weight_0_there_is_no_state(config):
    assert feedback.initial_feedback(config).covariances.shape == (2, 2, 10, 10)
    config.independence.weight = 0.0
    assert feedback.initial_feedback(config).covariances is None
    assert independence_loss(config, jnp.zeros((4, 10)), None, jnp.array(9)) == (0, None)


def test_the_average_of_the_loop_is_that_of_the_covariances(config):
    loop, value = feedback.initial_feedback(config), jnp.ones((2, 2, 10, 10))
    signals = feedback.Signals(jnp.float32(0), jnp.float32(0), jnp.float32(0), value)
    for step in range(3):
        loop = feedback.close_loop(config, loop, signals, jnp.array(step))
    np.testing.assert_allclose(loop.covariances, 1 - 0.99**3, rtol=1e-5)
