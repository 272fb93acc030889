"""The MLP of the latent prior: published sizes, and its layers against formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cldis_jax.models.latent_mlp import LatentMLP

Z = jax.random.normal(jax.random.key(0), (3, 6))
T = jnp.array([0, 500, 999])


@pytest.mark.parametrize(("num_layers", "published"), [(10, 54_109_696), (20, 117_106_176)])
def test_published_parameter_counts(num_layers, published):
    mlp = LatentMLP(num_layers, hidden_dim=2048, embed_dim=512)
    shapes = jax.eval_shape(mlp.init, jax.random.key(0), jnp.zeros((1, 512)), jnp.zeros(1, jnp.int32))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == published


def silu(x):
    return x / (1 + np.exp(-x))


def test_layers_equal_the_formulas():
    mlp = LatentMLP(num_layers=3, hidden_dim=16, embed_dim=8)
    params = jax.jit(mlp.init)(jax.random.key(1), Z, T)["params"]
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)

    def linear(name, x):
        layer = p[name].get("layer", p[name])
        return x @ layer["kernel"] + layer["bias"]

    z = np.asarray(Z, np.float64)
    angles = np.asarray(T)[:, None] * 10_000.0 ** (-np.arange(32) / 32)
    temb = linear("time_1", silu(linear("time_0", np.concatenate([np.cos(angles), np.sin(angles)], -1))))
    h = z
    for i in range(2):
        h = linear(f"linear_{i}", h if i == 0 else np.concatenate([h, z], -1))
        h = h * (1 + linear(f"time_scale_{i}", silu(temb)))
        h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-5)
        h = silu(h * p[f"norm_{i}"]["scale"] + p[f"norm_{i}"]["bias"])
    expected = linear("head", np.concatenate([h, z], -1))
    np.testing.assert_allclose(jax.jit(mlp.apply)({"params": params}, Z, T), expected, atol=2e-4)


def test_time_matters_and_starts_at_order_one():
    mlp = LatentMLP(num_layers=4, hidden_dim=128, embed_dim=64)
    params = jax.jit(mlp.init)(jax.random.key(2), Z, T)
    early, late = (jax.jit(mlp.apply)(params, Z, jnp.full(3, t)) for t in (0, 999))
    assert jnp.abs(early - late).max() > 1e-2
    assert 0.05 < jnp.std(early) < 5
