"""The building blocks against their formulas, computed independently in float64 NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cldis_jax.models import layers


def random(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def randomised(params, seed=9):
    """Make all parameters random and of order one, also those that start at zero."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(0.4 * rng.normal(size=leaf.shape), jnp.float32), params)


def init(module, *inputs, **static):
    """(random parameters, the same as float64 NumPy without the inner `layer`)."""
    params = randomised(jax.eval_shape(functools.partial(module.init, **static), jax.random.key(0), *inputs)["params"])
    return params, {name: jax.tree.map(lambda p: np.asarray(p, np.float64), p["layer"]) for name, p in params.items()}


def silu(x):
    return x / (1 + np.exp(-x))


def linear(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def conv3x3(layer, x):
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [(i, j) for i in range(3) for j in range(3)]
    return layer["bias"] + sum(padded[:, i : i + height, j : j + width] @ layer["kernel"][i, j] for i, j in taps)


def group_norm(x, groups, layer=None, eps=1e-5):
    """PyTorch's formula, with the biased variance over all positions and the channels of a group."""
    batch, height, width, channels = x.shape
    grouped = np.asarray(x, np.float64).reshape(batch, height * width, groups, channels // groups)
    mean = grouped.mean(axis=(1, 3), keepdims=True)
    variance = ((grouped - mean) ** 2).mean(axis=(1, 3), keepdims=True)
    normalised = ((grouped - mean) / np.sqrt(variance + eps)).reshape(x.shape)
    return normalised if layer is None else normalised * layer["scale"] + layer["bias"]


def pooled(x):
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def doubled(x):
    return np.kron(x, np.ones((1, 2, 2, 1)))


RESIZE = {None: lambda x: x, "down": pooled, "up": doubled}


@pytest.mark.parametrize(
    ("module", "shape", "fan_in"), [(layers.Dense(96), (64,), 64), (layers.Conv3x3(96), (4, 4, 8), 72)]
)
def test_weights_and_biases_are_initialised_as_in_pytorch(module, shape, fan_in):
    params = module.init(jax.random.key(0), jnp.zeros((1, *shape)))["params"]["layer"]
    for leaf in params.values():
        assert jnp.abs(leaf).max() <= fan_in**-0.5
        assert jnp.abs(leaf).max() > 0.9 * fan_in**-0.5
        np.testing.assert_allclose(
            leaf.std(), (3 * fan_in) ** -0.5, rtol=0.15
        )  # standard deviation of the uniform distribution


@pytest.mark.parametrize("module", [layers.Dense(4, zero=True), layers.Conv3x3(4, zero=True)])
def test_zero_layers_start_with_zero_weights_and_biases(module):
    params = module.init(jax.random.key(0), jnp.zeros((1, 4, 4, 3)))
    assert len(jax.tree.leaves(params)) == 2
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (96, 32), (24, 8), (8, 8)])
def test_group_norm_is_pytorchs(channels, groups):
    x = 3 * random(1, 2, 4, 4, channels) + 5
    actual, _ = layers.GroupNorm().init_with_output(jax.random.key(0), x)
    np.testing.assert_allclose(actual, group_norm(x, groups), atol=2e-4)


def test_group_norms_epsilon_is_1e_5():
    x = 1e-3 * random(1, 1, 4, 4, 64)  # variance 1e-6, so that epsilon matters
    actual, _ = layers.GroupNorm().init_with_output(jax.random.key(0), x)
    np.testing.assert_allclose(actual, group_norm(x, 32), atol=1e-4)
    assert np.abs(actual - group_norm(x, 32, eps=1e-6)).max() > 0.1


def test_group_norm_computes_in_float32_and_casts_back():
    x = (random(1, 2, 4, 4, 64) + 100).astype(jnp.bfloat16)  # squares near 10,000 lose all variance in bfloat16
    actual, _ = layers.GroupNorm().init_with_output(jax.random.key(0), x)
    assert actual.dtype == jnp.bfloat16
    np.testing.assert_allclose(actual.astype(jnp.float32), group_norm(x.astype(jnp.float32), 32), atol=0.05)


def test_time_embedding_has_cosines_first():
    expected = [1.0, 1.0, 0.0, 0.0], [np.cos(100), np.cos(1), np.sin(100), np.sin(1)]  # frequencies 1 and 1/100
    np.testing.assert_allclose(layers.time_embedding(jnp.array([0, 100]), 4), expected, atol=1e-5)


def test_upsample_and_downsample():
    x = random(1, 2, 4, 6, 3)
    np.testing.assert_array_equal(layers.upsample(x), doubled(np.asarray(x)))
    np.testing.assert_allclose(layers.downsample(x), pooled(np.asarray(x)), atol=1e-6)


def test_ada_gn_is_time_scale_then_time_shift_then_z_scale():
    h, t_scale, t_shift, z_scale = (
        jnp.full(shape, v) for shape, v in (((1, 1, 1, 1), 7.0), ((1, 1), 1.0), ((1, 1), 5.0), ((1, 1), 2.0))
    )
    assert layers.ada_gn(h, t_scale, t_shift, z_scale).item() == (7 * 2 + 5) * 3
    assert layers.ada_gn(h, t_scale, t_shift, None).item() == 7 * 2 + 5


@pytest.mark.parametrize("resize", [None, "down", "up"])
@pytest.mark.parametrize("with_z", [True, False])
@pytest.mark.parametrize("features", [8, 16])
def test_res_block_equals_the_formulas(resize, with_z, features):
    x, t_emb, z = random(1, 2, 4, 4, 8), random(2, 2, 6), random(3, 2, 5) if with_z else None
    block = layers.ResBlock(features, dropout=0.5, resize=resize)
    params, p = init(block, x, t_emb, z, train=False)
    assert ("z_scale" in p) == with_z
    assert ("skip" in p) == (features != 8)

    x64, resized = np.asarray(x, np.float64), RESIZE[resize]
    h = conv3x3(p["conv_in"], resized(silu(group_norm(x64, 8, p["norm_in"]))))
    time = linear(p["time_scale_shift"], silu(np.asarray(t_emb, np.float64)))[:, None, None]
    h = group_norm(h, features, p["norm_out"]) * (1 + time[..., :features]) + time[..., features:]
    if with_z:
        h = h * (1 + linear(p["z_scale"], silu(np.asarray(z, np.float64)))[:, None, None])
    skip = linear(p["skip"], resized(x64)) if "skip" in p else resized(x64)
    expected = skip + conv3x3(p["conv_out"], silu(h))
    actual = jax.jit(block.apply, static_argnums=4)({"params": params}, x, t_emb, z, False)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("resize", [None, "down"])
@pytest.mark.parametrize("features", [8, 16])
def test_encoder_block_is_one_convolution_plus_the_skip(resize, features):
    x = random(1, 2, 4, 4, 8)
    block = layers.EncoderBlock(features, resize)
    params, p = init(block, x)
    x64, resized = np.asarray(x, np.float64), RESIZE[resize]
    skip = linear(p["skip"], resized(x64)) if features != 8 else resized(x64)
    expected = skip + conv3x3(p["conv_in"], resized(silu(group_norm(x64, 8, p["norm_in"]))))
    assert set(p) == {"norm_in", "conv_in"} | ({"skip"} if features != 8 else set())
    np.testing.assert_allclose(jax.jit(block.apply)({"params": params}, x), expected, rtol=1e-4, atol=1e-4)


def attention(q, k, v):
    """softmax(q k^T / sqrt(c)) v for one image: q [positions, c], k and v [n, c]."""
    logits = q @ k.T / np.sqrt(q.shape[-1])
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


def test_self_attention_equals_the_formula():
    x = random(1, 2, 2, 3, 8)
    module = layers.SelfAttention()
    params, p = init(module, x)
    x64 = np.asarray(x, np.float64)
    qkv = linear(p["qkv"], group_norm(x64, 8, p["norm"])).reshape(2, 6, 24)
    outputs = np.stack([attention(*np.split(image, 3, axis=-1)) for image in qkv])
    expected = x64 + linear(p["project"], outputs).reshape(x.shape)
    np.testing.assert_allclose(jax.jit(module.apply)({"params": params}, x), expected, rtol=1e-4, atol=1e-4)


def test_cross_attention_equals_the_formula():
    x, tokens = random(1, 2, 2, 3, 8), random(2, 2, 5, 4)
    module = layers.CrossAttention()
    params, p = init(module, x, tokens)
    x64 = np.asarray(x, np.float64)
    q = linear(p["query"], group_norm(x64, 8, p["norm"])).reshape(2, 6, 8)
    k, v = np.split(linear(p["key_value"], np.asarray(tokens, np.float64)), 2, axis=-1)
    outputs = np.stack([attention(*image) for image in zip(q, k, v)])
    expected = x64 + linear(p["project"], outputs).reshape(x.shape)
    np.testing.assert_allclose(jax.jit(module.apply)({"params": params}, x, tokens), expected, rtol=1e-4, atol=1e-4)


def test_attention_softmax_is_float32_under_bfloat16():
    """1,024 equal logits: a bfloat16 sum of weights 1/1024 would be far below 1."""
    q = k = jnp.zeros((1, 1024, 1, 4), jnp.bfloat16)
    out = layers.attend(q, k, jnp.ones_like(q))
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype(jnp.float32), 1.0, atol=0.01)
    jaxpr = str(jax.make_jaxpr(layers.attend)(q, k, q))
    assert "exp" in jaxpr
    assert all("f32" in line for line in jaxpr.splitlines() if " = exp" in line)


@pytest.mark.parametrize("module", [layers.SelfAttention(), layers.CrossAttention()])
def test_attention_starts_as_the_identity(module):
    x = random(1, 2, 4, 4, 8)
    inputs = (x,) if isinstance(module, layers.SelfAttention) else (x, random(2, 2, 5, 4))
    out, _ = jax.jit(module.init_with_output)(jax.random.key(0), *inputs)
    np.testing.assert_array_equal(out, x)


def test_each_token_depends_on_its_own_scalar_alone_and_through_its_own_weights():
    z = random(1, 2, 5)
    module = layers.ScalarTokens(token_dim=3)
    params = jax.jit(module.init)(jax.random.key(0), z)
    jacobian = jax.jit(jax.jacobian(lambda z: module.apply(params, z)))(z)  # [B, token, token_dim, B, scalar]
    influence = jnp.abs(jacobian).sum(axis=2).reshape(10, 10)
    assert (influence[~np.eye(10, dtype=bool)] == 0).all()
    assert (influence.diagonal() > 0).all()
    same = jax.jit(module.apply)(params, jnp.ones((1, 5)))[0]
    assert len(np.unique(np.asarray(same), axis=0)) == 5


def test_token_mlp_equals_the_formula():
    module = layers.ScalarTokens(token_dim=3)
    z = random(1, 2, 5)
    params = randomised(jax.eval_shape(module.init, jax.random.key(0), z)["params"])
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64)[4], params["mlp"])  # the weights of the last scalar
    h = np.asarray(z, np.float64)[:, 4:]
    for i, width in enumerate((64, 128, 3)):
        h = linear(p[f"dense_{i}"]["layer"], h)
        assert h.shape == (2, width)
        h = np.where(h > 0, h, np.expm1(np.minimum(h, 0))) if i < 2 else h
    np.testing.assert_allclose(jax.jit(module.apply)({"params": params}, z)[:, 4], h, rtol=1e-3, atol=1e-3)


def test_patches_are_pixels_in_row_order_and_invertible():
    x = jnp.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    patches = layers.to_patches(x, 2)
    assert patches.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(patches[1, 1, 2], x[1, 2:4, 4:6].reshape(-1))
    np.testing.assert_array_equal(layers.from_patches(patches, 2), x)


@pytest.mark.parametrize(
    ("channels", "groups"), [(2, 2), (8, 2), (18, 2), (34, 2), (48, 4), (64, 32), (96, 16), (128, 32)]
)
def test_narrow_groups_divide_the_channels(channels, groups):
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, channels))
    actual, _ = layers.GroupNorm(narrow=True).init_with_output(jax.random.key(0), x)
    grouped = np.asarray(x, np.float64).reshape(16, groups, -1)
    mean, var = (getattr(grouped, name)(axis=(0, 2), keepdims=True) for name in ("mean", "var"))
    np.testing.assert_allclose(np.ravel(actual), np.ravel((grouped - mean) / np.sqrt(var + 1e-5)), atol=1e-4)
