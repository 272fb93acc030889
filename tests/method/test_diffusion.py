"""Schedules and DDIM against float64 recurrences, published constants and an analytic denoiser."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cldis_jax.method import diffusion
from cldis_jax.method.prediction import PredictEps, PredictV, PredictX0

SCHEDULE = diffusion.linear_schedule(1000, 1e-4, 2e-2)
EPS, V = PredictEps(), PredictV()


def test_published_constants():
    np.testing.assert_allclose(SCHEDULE.alpha_bar[999], 4.036e-5, rtol=1e-3)
    np.testing.assert_allclose(diffusion.constant_schedule(1000, 0.008).alpha_bar[-1], 3.25e-4, rtol=2e-3)
    np.testing.assert_allclose(SCHEDULE.alpha_bar[0], 1 - 1e-4, rtol=1e-12)


def test_information_is_that_of_the_gaussian_channel():
    snr = SCHEDULE.alpha_bar / (1 - SCHEDULE.alpha_bar)
    np.testing.assert_allclose(SCHEDULE.information, 0.5 * np.log(1 + snr), rtol=1e-5)
    assert np.all(np.diff(SCHEDULE.information) < 0)


def test_q_sample_moments():
    """Unit-variance pixels stay at unit variance, and t = 999 is nearly pure noise."""
    x0 = jnp.ones((4000, 2, 2, 1))
    eps = jax.random.normal(jax.random.key(0), x0.shape)
    x_t = diffusion.q_sample(SCHEDULE, x0, jnp.full(4000, 500), eps)
    np.testing.assert_allclose(x_t.mean(), np.sqrt(SCHEDULE.alpha_bar[500]), atol=0.02)
    np.testing.assert_allclose(x_t.var(), 1 - SCHEDULE.alpha_bar[500], atol=0.03)


def test_the_timesteps_of_the_reference_implementation():
    """Its spacing is the smallest stride that keeps exactly N steps; 62 numbers of steps have one."""
    np.testing.assert_array_equal(diffusion.ddim_timesteps(20), np.arange(0, 1000, 50))
    np.testing.assert_array_equal(diffusion.ddim_timesteps(250), np.arange(0, 1000, 4))
    assert diffusion.ddim_timesteps(100)[-1] == 990
    strides = [np.unique(np.diff(diffusion.ddim_timesteps(n))) for n in range(2, 1001)]
    lengths = [n for n, stride in enumerate(strides, 2) if len(stride) == 1 and n * stride[0] >= 1000]
    assert len(lengths) == 62
    assert not {37, 60, 75, 150, 300} & set(lengths)


def test_any_number_of_steps():
    for n in range(1, 1001):
        steps = diffusion.ddim_timesteps(n)
        assert len(np.unique(steps)) == n
        assert steps[0] == (0 if n > 1 else 999)  # a single step starts at the timestep of x_T
        assert steps[-1] < 1000
    for n in (0, 1001):
        with pytest.raises(ValueError, match="between 1 and 1000"):
            diffusion.ddim_timesteps(n)


def gaussian_denoiser(mean, std, prediction):
    """The exact denoiser of pixels x_0 ~ N(mean, std^2): E[x_0 | x_t] in closed form, as the output of `prediction`."""

    def denoise(x_t, t):
        signal, noise = (diffusion.per_sample(table, t, 4) for table in (SCHEDULE.signal, SCHEDULE.noise))
        gain = signal * std**2 / (signal**2 * std**2 + noise**2)
        x0 = mean + gain * (x_t - signal * mean)
        return prediction.target(x0, (x_t - signal * x0) / noise, signal, noise)

    return denoise


@pytest.mark.parametrize("prediction", [EPS, V, PredictX0(0.1)])
def test_ddim_follows_the_probability_flow_of_a_gaussian(prediction):
    """For Gaussian data and many steps the flow maps x_T to mean + std x_T."""
    mean, std = 0.1, 0.2
    x_T = jax.random.normal(jax.random.key(3), (1, 8, 8, 1))
    tables = diffusion.ddim_tables(SCHEDULE, 1000)
    x_0 = diffusion.ddim_decode(gaussian_denoiser(mean, std, prediction), prediction, tables, x_T)
    np.testing.assert_allclose(x_0, np.clip(mean + std * x_T, -1, 1), atol=0.02)


@pytest.mark.parametrize("prediction", [EPS, PredictX0(0.1)])
def test_encode_then_decode_returns_the_image(prediction):
    x_0 = 0.1 + 0.2 * jax.random.normal(jax.random.key(4), (2, 4, 4, 1)).clip(-2, 2)
    denoise = gaussian_denoiser(0.1, 0.2, prediction)
    errors = []
    for steps in (20, 100, 500):
        tables = diffusion.ddim_tables(SCHEDULE, steps)
        x_T = diffusion.ddim_encode(denoise, prediction, tables, x_0)
        errors.append(float(jnp.abs(diffusion.ddim_decode(denoise, prediction, tables, x_T) - x_0).max()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02


def reference_decode(output_fn, x, steps):
    """DDIM as a loop in float64 NumPy, from the formulas: x_0 is clipped, and eps is computed from it."""
    t = np.arange(0, 1000, 1000 // steps)
    for i in reversed(range(len(t))):
        alpha_bar = SCHEDULE.alpha_bar[t[i]]
        previous = SCHEDULE.alpha_bar[t[i - 1]] if i else 1.0
        eps = output_fn(x, t[i])
        x0 = np.clip((x - np.sqrt(1 - alpha_bar) * eps) / np.sqrt(alpha_bar), -1, 1)
        eps = (x - np.sqrt(alpha_bar) * x0) / np.sqrt(1 - alpha_bar)
        x = np.sqrt(previous) * x0 + np.sqrt(1 - previous) * eps
    return x


def test_decode_equals_a_float64_loop():
    def output(x, t):
        return 0.6 * x + 0.1 * np.sin(0.01 * t)

    x_T = np.random.default_rng(0).normal(size=(1, 4, 4, 1))
    tables = diffusion.ddim_tables(SCHEDULE, 20)

    def denoise(x, t):
        return 0.6 * x + 0.1 * jnp.sin(0.01 * t)[:, None, None, None]

    x_0 = diffusion.ddim_decode(denoise, EPS, tables, x_T)
    np.testing.assert_allclose(x_0, reference_decode(output, x_T, 20), atol=1e-4)


def test_padded_tables_give_equal_results_without_retracing():
    traces = []

    @jax.jit
    def decode(tables, x_T):
        traces.append(1)
        return diffusion.ddim_decode(gaussian_denoiser(0.0, 0.3, V), V, tables, x_T)

    x_T = jax.random.normal(jax.random.key(5), (1, 4, 4, 1))
    for steps in (5, 20, 37):
        padded = decode(diffusion.ddim_tables(SCHEDULE, steps, length=64), x_T)
        exact = diffusion.ddim_decode(gaussian_denoiser(0.0, 0.3, V), V, diffusion.ddim_tables(SCHEDULE, steps), x_T)
        np.testing.assert_allclose(padded, exact, atol=1e-5)
    assert len(traces) == 1
    with pytest.raises(ValueError, match="can't hold"):
        diffusion.ddim_tables(SCHEDULE, 20, length=10)


def test_gradient_through_the_chain_with_rematerialisation():
    tables = diffusion.ddim_tables(SCHEDULE, 5)
    x_T = jax.random.normal(jax.random.key(6), (1, 4, 4, 1))

    def total(mean, **how):
        return diffusion.ddim_decode(gaussian_denoiser(mean, 0.2, EPS), EPS, tables, x_T, **how).sum()

    gradients = [jax.grad(total)(0.1, **how) for how in ({}, {"remat": True}, {"remat": True, "unroll": True})]
    np.testing.assert_allclose(gradients[1:], gradients[0], rtol=1e-5)
    finite_difference = (total(0.101) - total(0.099)) / 0.002
    np.testing.assert_allclose(gradients[0], finite_difference, rtol=1e-2)
