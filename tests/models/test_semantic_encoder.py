"""The semantic encoder: its blocks, initialisation and options."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from cldis_jax.models.semantic_encoder import SemanticEncoder, StridedEncoder, standardize

X = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3), minval=-1, maxval=1)


def encoder(**changes):
    sizes = {"latent_dim": 5, "base_channels": 8, "channel_multipliers": (1, 2), "num_res_blocks": 1}
    return SemanticEncoder(**(sizes | {"attention_resolutions": (4,)} | changes))


def initialised(module, x=X):
    return jax.jit(module.init)(jax.random.key(1), x)


def test_z_is_float32_and_differs_between_images():
    module = encoder()
    z = jax.jit(module.apply)(initialised(module), X)
    assert z.shape == (2, 5)
    assert z.dtype == jnp.float32
    assert (jnp.abs(z[0] - z[1]) > 0).all()


def test_blocks_by_name():
    names = set(initialised(encoder(channel_multipliers=(1, 2, 2)), jnp.zeros((1, 16, 16, 3)))["params"])
    assert names == {
        "stem",
        *("level_0_block_0", "level_0_down", "level_1_block_0", "level_1_down"),
        *("level_2_block_0", "level_2_attention_0"),  # 4x4
        *("middle_block_0", "middle_attention", "middle_block_1"),
        *("norm", "head"),
    }


def test_only_attention_starts_at_zero():
    for path, leaf in flatten_dict(initialised(encoder())["params"]).items():
        if path[-3].startswith("norm"):
            np.testing.assert_array_equal(leaf, 1.0 if path[-1] == "scale" else 0.0)
        else:
            assert (leaf == 0).all() == (path[-3] == "project"), path


def test_blocks_have_one_convolution():
    params = initialised(encoder())["params"]
    blocks = [set(tree) for name, tree in params.items() if "block" in name or name.endswith("down")]
    assert len(blocks) == 5
    assert all(block <= {"norm_in", "conv_in", "skip"} for block in blocks)


def test_z_is_linear_in_the_mean_over_positions():
    module = encoder()
    params = initialised(module)
    z, captured = jax.jit(functools.partial(module.apply, capture_intermediates=True))(params, X)
    normalised = np.asarray(captured["intermediates"]["norm"]["__call__"][0], np.float64)
    assert normalised.shape == (2, 4, 4, 16)
    pooled = (normalised / (1 + np.exp(-normalised))).mean(axis=(1, 2))
    head = jax.tree.map(np.asarray, params["params"]["head"]["layer"])
    np.testing.assert_allclose(z, pooled @ head["kernel"] + head["bias"], rtol=1e-4, atol=1e-5)


def test_patches_become_channels():
    module = encoder(patch_size=2)
    params = initialised(module)["params"]
    assert params["stem"]["layer"]["kernel"].shape == (3, 3, 12, 8)
    assert "level_0_attention_0" in params  # 8 px in patches of 2: side 4


def test_rematerialised_blocks_give_the_same_gradients():
    params = initialised(encoder())
    plain, remat = (
        jax.jit(jax.grad(lambda p, module=module: (module.apply(p, X) ** 2).sum()))(params)
        for module in (encoder(), encoder(remat=True))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), plain, remat)


def test_bfloat16_stays_close_to_float32():
    params = initialised(encoder())
    exact, rounded = (jax.jit(module.apply)(params, X) for module in (encoder(), encoder(dtype=jnp.bfloat16)))
    assert rounded.dtype == jnp.float32
    assert 0 < jnp.abs(exact - rounded).max() < 0.03


def test_standardized_z_has_mean_0_and_variance_1():
    module = encoder()
    x = jax.random.uniform(jax.random.key(2), (32, 8, 8, 3), minval=-1, maxval=1)
    params = initialised(module)["params"]
    z = np.asarray(module.apply({"params": params}, x))
    standardized = standardize(params, z)
    expected = (np.asarray(z, np.float64) - np.mean(z, axis=0)) / np.std(z, axis=0)
    np.testing.assert_allclose(module.apply({"params": standardized}, x), expected, atol=1e-3)
    kept = flatten_dict({name: layer for name, layer in params.items() if name != "head"})
    assert all((flatten_dict(standardized)[name] == value).all() for name, value in kept.items())
    for same in (np.zeros((4, 5)), z[:1]):  # standard deviation 0
        assert all(jnp.isfinite(value).all() for value in flatten_dict(standardize(params, same)).values())


def test_the_strided_encoder_by_layers():
    """Four 4x4 convolutions of 32, 32, 64 and 64 channels at 32 px, then 2 x 2 x 64 features to 256 and to z."""
    module, x = StridedEncoder(latent_dim=5), jax.random.uniform(jax.random.key(0), (2, 32, 32, 3), minval=-1)
    variables = initialised(module, x)
    convolutions = sum(16 * a * b + b for a, b in ((3, 32), (32, 32), (32, 64), (64, 64)))
    dense = (2 * 2 * 64 + 1) * 256 + (256 + 1) * 5
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == convolutions + dense
    z = jax.jit(module.apply)(variables, x)
    assert (z.shape, z.dtype) == ((2, 5), jnp.float32)
    assert (jnp.abs(z[0] - z[1]) > 0).all()


def test_the_strided_encoder_can_be_standardized():
    module, x = StridedEncoder(latent_dim=5), jax.random.uniform(jax.random.key(0), (64, 32, 32, 3), minval=-1)
    params = initialised(module, x)["params"]
    apply = jax.jit(module.apply)
    z = apply({"params": standardize(params, apply({"params": params}, x))}, x)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(z.std(0), 1, atol=1e-3)
