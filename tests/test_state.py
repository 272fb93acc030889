"""The optimiser step's parts against NumPy: clipping by branch, moving averages, moments, keys."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cldis_jax import state


def params():
    return {"unet": {"w": jnp.ones(3)}, "semantic_encoder": {"w": jnp.ones(2)}, "beta_vae": {"w": jnp.ones(4)}}


@pytest.mark.parametrize("scope", ["branch", "global"])
def test_clipping_scope(tiny, scope, monkeypatch):
    """With plain gradient descent in Adam's place, the update's norms show what was clipped."""
    monkeypatch.setattr(optax, "adam", optax.sgd)
    tiny.train.clip_scope, tiny.train.clip_norm, tiny.train.learning_rate = scope, 1.0, 1.0
    gradients = jax.tree.map(lambda p: p * 10.0, params()) | {"unet": {"w": jnp.full(3, 0.1)}}
    optimizer = state.make_optimizer(tiny)
    updates, _ = optimizer.update(gradients, optimizer.init(params()), params())
    norms = {name: float(optax.global_norm(u)) for name, u in updates.items()}
    raw = {name: float(optax.global_norm(g)) for name, g in gradients.items()}
    total = np.sqrt(sum(n**2 for n in raw.values()))
    for name, norm in norms.items():
        divisor = max(1, raw[name]) if scope == "branch" else total
        assert norm == pytest.approx(raw[name] / divisor, rel=1e-5), name


def test_adam_moves_by_the_learning_rate(tiny):
    """Adam's first step has the size of the learning rate, whatever the gradient's size."""
    tiny.train.learning_rate = 0.01
    optimizer = state.make_optimizer(tiny)
    gradients = jax.tree.map(lambda p: p * 1e-3, params())
    updates, _ = optimizer.update(gradients, optimizer.init(params()), params())
    jax.tree.map(lambda u: np.testing.assert_allclose(u, -0.01, rtol=1e-3), updates)


def test_moments_are_those_of_the_data():
    """With the start from zero undone, a constant distribution gives its own mean and standard deviation."""
    z = np.random.default_rng(0).normal([1.0, -2.0], [0.5, 3.0], size=(30, 500, 2)).astype(np.float32)
    moments = state.Moments.zeros(2)
    for batch in z[:1]:
        moments = moments.update(jnp.asarray(batch))
    np.testing.assert_allclose(moments.mean, z[0].mean(0), rtol=1e-4)
    np.testing.assert_allclose(moments.std, z[0].std(0), rtol=1e-3)
    for batch in z[1:]:
        moments = moments.update(jnp.asarray(batch))
    np.testing.assert_allclose(moments.mean, [1.0, -2.0], atol=0.05)
    np.testing.assert_allclose(moments.std, [0.5, 3.0], rtol=0.03)


def test_to_unit_range():
    np.testing.assert_allclose(state.to_unit_range(jnp.array([0, 255], jnp.uint8)), [-1, 1], atol=1e-6)
