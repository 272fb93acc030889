"""What the network predicts: against formulas in float64, and the same denoiser in three forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cldis_jax.configs import default
from cldis_jax.method import diffusion, feedback
from cldis_jax.method.prediction import PREDICTIONS, PredictEps, PredictV, PredictX0, prediction_of
from cldis_jax.models import Networks

SCHEDULE = diffusion.linear_schedule(1000, 1e-4, 2e-2)
ALL = {"eps": PredictEps(), "v": PredictV(), "x0": PredictX0(0.1), "x0, narrow": PredictX0(0.05)}
SKIPS = {"x0": 0.1, "x0, narrow": 0.05}


@pytest.fixture(params=ALL)
def name(request):
    return request.param


def at(t, dtype=np.float64):
    alpha_bar = SCHEDULE.alpha_bar[np.asarray(t)].astype(dtype)[:, None, None, None]
    return np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)


def draws(seed, t):
    x0, eps = np.random.default_rng(seed).normal(size=(2, len(t), 4, 4, 1))
    signal, noise = at(t)
    return x0, eps, signal * x0 + noise * eps, signal, noise


def test_a_config_names_its_prediction():
    config = default.get_config()
    for prediction, expected in (("eps", PredictEps()), ("v", PredictV()), ("x0", PredictX0(0.1))):
        config.diffusion.prediction = prediction
        assert prediction_of(config) == expected
    config.diffusion.skip_std = 0.3
    assert prediction_of(config) == PredictX0(0.3)
    assert list(PREDICTIONS) == ["eps", "v", "x0"]


def test_the_target_gives_x0_and_eps(name):
    x0, eps, x_t, signal, noise = draws(1, [0, 10, 300, 700, 999])
    arrays = [jnp.float32(a) for a in (signal, noise)]
    target = ALL[name].target(jnp.float32(x0), jnp.float32(eps), *arrays)
    np.testing.assert_allclose(ALL[name].x0(target, jnp.float32(x_t), *arrays), x0, atol=2e-3)
    np.testing.assert_allclose(ALL[name].eps(target, jnp.float32(x_t), *arrays), eps, atol=1e-4)


@pytest.mark.parametrize("name", SKIPS)
def test_the_skip_is_that_of_the_specification(name):
    """x0_hat = c x_t / signal + (1 - c) F with c = s^2 / (s^2 + sigma^2) and sigma = noise / signal."""
    t = [0, 3, 50, 400, 999]
    _, _, x_t, signal, noise = draws(2, t)
    output = np.random.default_rng(3).normal(size=x_t.shape)
    c = SKIPS[name] ** 2 / (SKIPS[name] ** 2 + (noise / signal) ** 2)
    expected = c * x_t / signal + (1 - c) * output
    found = ALL[name].x0(*(jnp.float32(a) for a in (output, x_t, signal, noise)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_loss_is_that_of_the_specification(name):
    """|F - eps|^2 for eps; |x0_hat - x0|^2 / (1 - alpha_bar) for v and for x0."""
    t = [5, 100, 500, 900]
    x0, eps, x_t, signal, noise = draws(4, t)
    arrays = [jnp.float32(a) for a in (signal, noise)]
    output = jnp.float32(np.random.default_rng(5).normal(size=x_t.shape))
    noised = diffusion.Noised(jnp.float32(x0), jnp.array(t), jnp.float32(x_t), *arrays, jnp.float32(eps))
    error = diffusion.squared_error(lambda x, t: output, ALL[name], noised)
    error_in_x0 = np.square(np.float64(ALL[name].x0(output, noised.x_t, *arrays)) - x0)
    expected = np.square(output - eps) if name == "eps" else error_in_x0 / noise**2
    np.testing.assert_allclose(error, expected, rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(ALL[name].x0_error(error, *arrays), error_in_x0, rtol=2e-3, atol=1e-5)


class SameDenoiser:
    """A denoiser with the estimate x_0 = .7 x_t / (signal + noise) + mean(z), written as the output of a prediction."""

    def __init__(self, prediction):
        self.prediction = prediction

    def apply(self, variables, x_t, t, z, train=False, rngs=None):
        signal, noise = (diffusion.per_sample(table, t, 4) for table in (SCHEDULE.signal, SCHEDULE.noise))
        x0 = 0.7 * x_t / (signal + noise) + z.mean(-1)[:, None, None, None]
        return self.prediction.target(x0, (x_t - signal * x0) / noise, signal, noise)


def test_the_signals_are_the_same_for_every_prediction_of_one_denoiser():
    x0 = jax.random.uniform(jax.random.key(1), (64, 4, 4, 1), minval=-1, maxval=1)
    z = x0.mean(axis=(1, 2, 3))[:, None] + 0.1 * jax.random.normal(jax.random.key(2), (64, 3))
    noised = diffusion.forward_process(SCHEDULE, x0, jax.random.key(3), jax.random.key(4))
    signals = []
    for prediction in PREDICTIONS:
        config = default.get_config()
        config.diffusion.prediction, config.feedback.probe_size = prediction, 48
        networks = Networks(unet=SameDenoiser(prediction_of(config)))
        denoise = networks.denoiser({"unet": {}}, z)
        error = diffusion.squared_error(denoise, prediction_of(config), noised).mean(axis=(1, 2, 3))
        found = feedback.measure(config, SCHEDULE, networks, {"unet": {}}, z, error, noised, jnp.array(0))
        signals.append([found.progress, found.gain, found.zero_gain])
    np.testing.assert_allclose(signals[1:], np.broadcast_to(signals[0], (2, 3)), rtol=5e-3)
    assert min(map(abs, map(float, signals[0]))) > 0.02
