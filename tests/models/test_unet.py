"""The U-Net: its initial output, the effects of its inputs, the places of attention, and its options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from cldis_jax.models.unet import UNet
from tests import random_params

X = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
T = jnp.array([3, 700])
Z = jax.random.normal(jax.random.key(1), (2, 5))
CONDITIONINGS = ("adagn", "cross_attention")


def unet(**changes):
    sizes = {"base_channels": 8, "channel_multipliers": (1, 2), "embed_dim": 16, "num_res_blocks": 1}
    return UNet(**(sizes | {"attention_resolutions": (4,), "token_dim": 4} | changes))


@pytest.fixture(scope="module", params=CONDITIONINGS)
def model(request):
    """(conditioning, module, initial parameters). Several tests share the compiled initialisation."""
    module = unet(conditioning=request.param)
    return request.param, module, jax.jit(module.init)(jax.random.key(2), X, T, Z)


@pytest.fixture(scope="module")
def apply(model):
    """The module's outputs, compiled once for all tests."""
    return jax.jit(model[1].apply)


def test_output_is_exactly_zero_at_the_start(model, apply):
    out = apply(model[2], X, T, Z)
    assert out.shape == X.shape
    assert out.dtype == jnp.float32
    assert (out == 0).all()


def test_what_starts_at_zero_and_what_uniform(model):
    """Zero: the last convolution of each residual block, the projection of each attention, the head. Else uniform."""
    _, _, params = model
    for path, leaf in flatten_dict(params["params"]).items():
        module = path[-3]
        if module.startswith("norm"):
            np.testing.assert_array_equal(leaf, 1.0 if path[-1] == "scale" else 0.0, err_msg=str(path))
        elif module in ("conv_out", "project", "head"):
            np.testing.assert_array_equal(leaf, 0.0, err_msg=str(path))
        else:
            per_scalar = int("tokens" in path)  # a leading axis over the scalars of z
            kernel = flatten_dict(params["params"])[(*path[:-1], "kernel")]
            bound = np.prod(kernel.shape[per_scalar:-1]) ** -0.5
            assert 0.5 * bound < jnp.abs(leaf).max() <= bound, path


def test_z_has_no_gradient_at_the_start_but_later_in_every_coordinate(model):
    _, module, params = model
    gradient = jax.jit(jax.grad(lambda z, params: (module.apply(params, X, T, z) * X).sum()))
    assert (gradient(Z, params) == 0).all()
    assert (jnp.abs(gradient(Z, random_params.draw(params))) > 1e-6).all()


def test_images_of_a_batch_do_not_mix(model, apply):
    params = random_params.draw(model[2])
    before = apply(params, X, T, Z)
    after = apply(params, X.at[1].add(1), T.at[1].set(0), Z.at[1].add(1))
    np.testing.assert_allclose(before[0], after[0], rtol=1e-5, atol=1e-5)
    assert jnp.abs(before[1] - after[1]).max() > 1e-2


def test_time_matters_and_may_be_integer_or_real(model, apply):
    params = random_params.draw(model[2])
    out = apply(params, X, T, Z)
    np.testing.assert_allclose(out, apply(params, X, T.astype(jnp.float32), Z), rtol=1e-5, atol=1e-5)
    assert jnp.abs(out - apply(params, X, T + 100, Z)).max() > 1e-2


def test_dropout_acts_only_in_training(model):
    _, module, params = model
    params = random_params.draw(params)
    apply = jax.jit(module.apply, static_argnames="train")
    rngs = [{"dropout": jax.random.key(i)} for i in (1, 2)]
    in_training = [apply(params, X, T, Z, train=True, rngs=rng) for rng in rngs]
    otherwise = [apply(params, X, T, Z, train=False, rngs=rng) for rng in rngs]
    assert jnp.abs(in_training[0] - in_training[1]).max() > 1e-2
    np.testing.assert_array_equal(*otherwise)


def test_bfloat16_stays_close_to_float32_and_returns_float32(model, apply):
    conditioning, _, params = model
    params = random_params.draw(params)
    exact = apply(params, X, T, Z)
    rounded = jax.jit(unet(conditioning=conditioning, dtype=jnp.bfloat16).apply)(params, X, T, Z)
    assert rounded.dtype == jnp.float32
    assert 0 < jnp.sqrt(jnp.mean((exact - rounded) ** 2)) < 0.05 * exact.std()


@pytest.mark.parametrize("model", [pytest.param("adagn", marks=pytest.mark.slow), "cross_attention"], indirect=True)
def test_rematerialised_blocks_give_the_same_parameters_outputs_and_gradients(model):
    conditioning, module, fresh = model
    remat = unet(conditioning=conditioning, remat=True)
    shapes = jax.eval_shape(remat.init, jax.random.key(2), X, T, Z)
    assert jax.tree.map(lambda leaf: leaf.shape, shapes) == jax.tree.map(lambda leaf: leaf.shape, fresh)
    params, rngs = random_params.draw(fresh), {"dropout": jax.random.key(0)}

    def gradient(module):
        return jax.jit(jax.grad(lambda z: (module.apply(params, X, T, z, train=True, rngs=rngs) ** 2).sum()))(Z)

    assert "remat" in str(jax.make_jaxpr(lambda z: remat.apply(params, X, T, z))(Z))
    np.testing.assert_allclose(gradient(remat), gradient(module), rtol=1e-3, atol=1e-3)


def shapes_of(module, size):
    x = jnp.zeros((1, size, size, 3))
    return jax.eval_shape(module.init, jax.random.key(0), x, jnp.zeros(1), jnp.zeros((1, 5)))["params"]


def test_blocks_and_their_attention_by_name():
    names = set(shapes_of(unet(channel_multipliers=(1, 2, 2)), 16))  # sides 16, 8, 4
    assert {name for name in names if name.endswith("attention")} == {
        "down_2_block_0_attention",
        "middle_attention",
        "up_2_block_0_attention",
        "up_2_block_1_attention",
    }
    assert {name for name in names if name.endswith(("_down", "_up"))} == {
        "down_0_down",
        "down_1_down",
        "up_2_up",
        "up_1_up",
    }
    assert sum("_block_" in name and "attention" not in name for name in names) == 3 + 2 + 6


def test_attention_resolutions_count_after_patching():
    names = set(shapes_of(unet(patch_size=2), 8))  # sides 4, 2
    assert "down_0_block_0_attention" in names
    assert "down_1_block_0_attention" not in names


def test_adagn_scales_by_z_in_every_residual_block():
    params = shapes_of(unet(), 8)
    blocks = {name for name, tree in params.items() if "conv_out" in tree}
    assert len(blocks) == 2 + 1 + 2 + 4 + 1  # down, halving, middle, up, doubling
    assert all(params[name]["z_scale"]["layer"]["kernel"].shape[0] == 5 for name in blocks)
    assert not any(name.endswith("cross") for name in params)


def test_cross_attention_is_at_the_inner_resolutions_and_replaces_z_in_adagn():
    params = shapes_of(unet(conditioning="cross_attention", channel_multipliers=(1, 2, 2), cross_attention_side=8), 16)
    assert not any("z_scale" in tree for tree in params.values())
    assert {name for name in params if name.endswith("cross")} == {  # sides 8 and 4, not 16
        "down_1_block_0_cross",
        "down_2_block_0_cross",
        "middle_cross",
        *(f"up_{level}_block_{j}_cross" for level in (1, 2) for j in (0, 1)),
    }


def test_skips_are_last_in_first_out():
    """Input widths of the decoder blocks: the features plus the skip of the same size."""
    params = shapes_of(unet(channel_multipliers=(1, 2, 4)), 16)
    widths = {
        name: params[name]["conv_in"]["layer"]["kernel"].shape[2]
        for name in params
        if name.startswith("up_") and "conv_in" in params[name]
    }
    assert widths == {
        "up_2_block_0": 32 + 32,
        "up_2_block_1": 32 + 16,  # the output of the halving block
        "up_2_up": 32,
        "up_1_block_0": 32 + 16,
        "up_1_block_1": 16 + 8,
        "up_1_up": 16,
        "up_0_block_0": 16 + 8,
        "up_0_block_1": 8 + 8,  # the stem's output
    }


def test_patches_are_made_before_the_stem_and_undone_after_the_head():
    module = unet(patch_size=2)
    params = random_params.draw(jax.eval_shape(module.init, jax.random.key(0), X, T, Z))
    assert params["params"]["stem"]["layer"]["kernel"].shape == (3, 3, 12, 8)
    head = params["params"]["head"]["layer"]
    assert head["kernel"].shape == (3, 3, 8, 12)
    head["kernel"] = np.zeros_like(head["kernel"])
    head["bias"] = np.arange(12.0, dtype=np.float32)  # index of (row, column, colour) in a patch
    out = jax.jit(module.apply)(params, X, T, Z)
    np.testing.assert_array_equal(out, np.tile(np.arange(12.0).reshape(1, 2, 2, 3), (2, 4, 4, 1)))
