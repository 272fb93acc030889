"""The optimiser step and its parts against NumPy: clipping, micro-batches, flips, moving averages, moments."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cldis_jax import models
from cldis_jax.method import baselines, closed_loop, feedback, train_step
from cldis_jax.models import pixels


def params():
    return {"unet": {"w": jnp.ones(3)}, "semantic_encoder": {"w": jnp.ones(2)}, "beta_vae": {"w": jnp.ones(4)}}


@pytest.mark.parametrize("scope", ["branch", "global"])
def test_clipping_scope(tiny, scope, monkeypatch):
    """With plain gradient descent instead of Adam, the norms of the update show what was clipped."""
    monkeypatch.setattr(optax, "adam", optax.sgd)
    tiny.train.clip_scope, tiny.train.clip_norm, tiny.train.learning_rate = scope, 1.0, 1.0
    gradients = jax.tree.map(lambda p: p * 10.0, params()) | {"unet": {"w": jnp.full(3, 0.1)}}
    optimizer = train_step.make_optimizer(tiny)
    updates, _ = optimizer.update(gradients, optimizer.init(params()), params())
    norms = {name: float(optax.global_norm(u)) for name, u in updates.items()}
    raw = {name: float(optax.global_norm(g)) for name, g in gradients.items()}
    total = np.sqrt(sum(n**2 for n in raw.values()))
    for name, norm in norms.items():
        divisor = max(1, raw[name]) if scope == "branch" else total
        assert norm == pytest.approx(raw[name] / divisor, rel=1e-5), name


def test_adam_moves_by_the_learning_rate(tiny):
    """Adam's first step has the size of the learning rate for any gradient."""
    tiny.train.learning_rate = 0.01
    optimizer = train_step.make_optimizer(tiny)
    gradients = jax.tree.map(lambda p: p * 1e-3, params())
    updates, _ = optimizer.update(gradients, optimizer.init(params()), params())
    jax.tree.map(lambda u: np.testing.assert_allclose(u, -0.01, rtol=1e-3), updates)


def test_the_rate_falls_to_0_over_the_last_steps(tiny):
    tiny.train.learning_rate, tiny.train.steps = 0.01, 10
    assert train_step.learning_rate(tiny) == 0.01
    tiny.train.decay_share = 0.4
    rates = [train_step.learning_rate(tiny)(step) for step in range(11)]
    np.testing.assert_allclose(rates, [0.01] * 7 + [0.0075, 0.005, 0.0025, 0], rtol=1e-5, atol=1e-9)


def test_adams_steps_follow_the_rate(tiny):
    tiny.train.learning_rate, tiny.train.steps, tiny.train.decay_share = 0.01, 4, 0.5
    optimizer = train_step.make_optimizer(tiny)
    gradients = jax.tree.map(lambda p: p * 1e-3, params())
    state = optimizer.init(params())
    for rate in (0.01, 0.01, 0.01, 0.005):
        updates, state = optimizer.update(gradients, state, params())
        jax.tree.map(lambda u, rate=rate: np.testing.assert_allclose(u, -rate, rtol=1e-3), updates)


@pytest.fixture
def step(tiny, monkeypatch):
    """A function that takes one step of a VAE by plain gradient descent: (before, after, scalars)."""
    monkeypatch.setattr(optax, "adam", optax.sgd)
    tiny.diffusion.weight, tiny.vae.weight, tiny.feedback.mode = 0.0, 1.0, "fixed"
    tiny.train.clip_norm, tiny.train.learning_rate = 1e6, 1.0
    networks = models.make_networks(tiny)
    before = jax.jit(lambda: train_step.create_state(networks, tiny))()

    def do(images):
        after = jax.jit(lambda s, x: train_step.train_step(networks, tiny, s, x))(before, images)
        return jax.device_get((before, *after))

    return do


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3)).astype(np.uint8)


def test_micro_batches_give_the_mean_of_their_gradients(tiny, step, images):
    tiny.train.accumulate = 2
    before, after, scalars = step(images)
    key = jax.random.fold_in(jax.random.key(tiny.train.seed), before.step)

    @jax.jit
    def gradient(images, micro):
        return jax.grad(baselines.objective(tiny), has_aux=True)(
            before.params, models.make_networks(tiny), tiny, pixels.to_unit_range(images), before.feedback, before.step,
            jax.random.fold_in(key, 1 + micro),
        )  # fmt: skip

    (first, first_output), (second, second_output) = (gradient(images[i::2], i) for i in range(2))
    expected = jax.tree.map(lambda p, a, b: p - (a + b) / 2, before.params, *jax.device_get((first, second)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), after.params, expected)
    assert scalars["learning_rate"] == tiny.train.learning_rate
    mean = (first_output.scalars["loss"] + second_output.scalars["loss"]) / 2
    np.testing.assert_allclose(scalars["loss"], mean, rtol=1e-5)


@pytest.fixture
def watched_step(tiny, monkeypatch):
    """A function that takes one step on images. The loss depends on the parameters alone; the scalar is `term(x0)`."""

    def do(images, term):
        def loss(params, networks, config, x0, loop, *_):
            zero = jnp.float32(0)
            signals = feedback.Signals(zero, zero, zero, loop.units)
            return optax.global_norm(params), closed_loop.LoopOutput({"term": term(x0)}, signals)

        monkeypatch.setattr(closed_loop, "closed_loop_loss", loss)
        return train_step.train_step(None, tiny, train_step.create_state(None, tiny, params()), jnp.asarray(images))

    return do


def test_nan_in_one_micro_batch_is_in_the_scalars(tiny, watched_step, images):
    tiny.train.accumulate = 2
    images[0::2], images[1::2] = 0, 255
    _, scalars = watched_step(images, lambda x0: jnp.log(x0.mean()))  # the means are -1 and 1
    assert np.isnan(scalars["term"])


def test_the_parameters_average_follows_them(tiny, step, images):
    tiny.train.ema_decay = 0.75
    before, after, _ = step(images)
    assert optax.global_norm(jax.tree.map(np.subtract, after.params, before.params)) > 1
    expected = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * new, before.ema.params, after.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after.ema.params, expected)


@pytest.mark.parametrize("flip", [False, True])
def test_flips_mirror_some_images(tiny, watched_step, images, flip):
    tiny.data.flip = flip
    _, scalars = watched_step(images, lambda x0: x0)
    original = pixels.to_unit_range(jnp.asarray(images))
    mirrored = [bool((a == b[:, ::-1]).all()) for a, b in zip(scalars["term"], original)]
    assert all(m or (a == b).all() for m, a, b in zip(mirrored, scalars["term"], original))
    assert set(mirrored) == ({False, True} if flip else {False})


def test_to_unit_range():
    np.testing.assert_allclose(pixels.to_unit_range(jnp.array([0, 255], jnp.uint8)), [-1, 1], atol=1e-6)
