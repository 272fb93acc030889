"""Networks from configs: published parameter counts, branches of weight 0, sizes that don't fit."""

import importlib

import jax
import jax.numpy as jnp
import pytest

from cldis_jax import models

PUBLISHED = {  # (U-Net, semantic encoder); the sums are those of the released networks
    "celeba64": (71_518_723, 19_320_512),
    "ffhq128": (103_871_619, 24_673_536),
    "horse128": (103_871_619, 24_673_536),
    "bedroom128": (103_871_619, 24_673_536),
    "ffhq256": (138_341_891, 30_150_400),
}


def abstract_params(config):
    networks = models.make_networks(config)
    return jax.eval_shape(lambda key: models.init_params(networks, config, key), jax.random.key(0))


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_equal_the_published_ones(name):
    config = importlib.import_module(f"cldis_jax.configs.diffae_{name}").get_config()
    params = abstract_params(config)
    assert {network: count(tree) for network, tree in params.items()} == dict(
        zip(("unet", "semantic_encoder"), PUBLISHED[name])
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_diffae_configs_have_the_published_recipe(name):
    config = importlib.import_module(f"cldis_jax.configs.diffae_{name}").get_config()
    assert config.data.batch_size == (64 if name == "ffhq256" else 128)
    assert config.data.image_size == int(name[-3:].lstrip("abq"))
    images = {"celeba64": 72e6, "bedroom128": 120e6, "ffhq256": 100.07e6}.get(name, 130e6)
    assert config.train.steps * config.data.batch_size == pytest.approx(images, rel=1e-3)
    assert config.model.latent_dim == config.model.embed_dim == 512
    assert config.vae.weight == config.distillation.weight == 0
    assert (config.train.learning_rate, config.train.ema_decay, config.train.clip_norm) == (1e-4, 0.9999, 1.0)
    assert (config.diffusion.prediction, config.train.clip_scope, config.data.flip) == ("eps", "global", True)


def test_all_three_networks_are_initialised_in_float32_under_jit(tiny):
    networks = models.make_networks(tiny, jnp.bfloat16)
    params = jax.jit(lambda key: models.init_params(networks, tiny, key))(jax.random.key(0))
    assert set(params) == {"unet", "semantic_encoder", "beta_vae"}
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
    assert "stem" in params["unet"]  # the inner collection
    assert networks.unet.dtype == networks.beta_vae.dtype == networks.semantic_encoder.dtype == jnp.bfloat16


def test_a_branch_of_weight_0_is_not_built(tiny):
    tiny.vae.weight = 0.0
    assert set(abstract_params(tiny)) == {"unet", "semantic_encoder"}
    assert models.make_networks(tiny).beta_vae is None
    tiny.vae.weight, tiny.diffusion.weight = 1.0, 0.0
    assert set(abstract_params(tiny)) == {"beta_vae"}


def test_parameters_of_one_network_do_not_depend_on_the_others(tiny):
    def vae_params():
        networks = models.make_networks(tiny)
        return jax.jit(lambda key: models.init_params(networks, tiny, key)["beta_vae"])(jax.random.key(3))

    whole = vae_params()
    tiny.diffusion.weight = 0.0
    alone = vae_params()
    equal = jax.tree.map(lambda a, b: bool((a == b).all()), whole, alone)
    assert all(jax.tree.leaves(equal))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data.image_size": 20, "model.channel_multipliers": (1, 1, 1, 1)},
            r"image_size=20.*3 times.*channel_multipliers.*; the nearest sizes that fit are 16 and 32$",
        ),
        (
            {"data.image_size": 20, "model.encoder_multipliers": (1, 1, 1, 1)},
            r"image_size=20.*3 times.*encoder_multipliers",
        ),
        (
            {"data.image_size": 18, "model.patch_size": 4},
            r"patch_size=4 does not divide data.image_size=18; the nearest sizes that fit are 16 and 20$",
        ),
        ({"model.latent_dim": 0}, r"latent_dim=0"),
        ({"model.patch_size": 0}, r"patch_size=0"),
        ({"model.conditioning": "film"}, r"'film' is not one of: adagn, cross_attention"),
        ({"model.base_channels": 7}, r"base_channels=7 must be even"),
        ({"model.channel_multipliers": ()}, r"channel_multipliers=\(\)"),
        ({"data.image_size": 24, "diffusion.weight": 0.0}, None),
        ({"data.image_size": 20, "diffusion.weight": 0.0}, r"image_size=20 can't be halved 3 times"),
        ({"data.image_size": 22, "diffusion.weight": 0.0}, r"22 can't be halved 3 times.*that fit are 16 and 24$"),
        ({"data.image_size": 2, "diffusion.weight": 0.0}, r"image_size=2 is too small"),
        ({"data.image_size": 5, "diffusion.weight": 0.0}, r"5 can't be halved 1 times.*that fit are 4 and 6$"),
        (
            {"data.image_size": 20, "model.encoder": "strided"},
            r"image_size=20 can't be halved 3 times, as model.encoder=strided needs; the nearest sizes",
        ),
        ({"vae.hidden_dim": 0}, r"vae.hidden_dim=0"),
    ],
)
def test_sizes_that_do_not_fit_are_named(tiny, changes, message):
    if message and "diffusion.weight" not in changes and "vae.hidden_dim" not in changes:
        tiny.vae.weight = 0.0  # so that the check of the strided networks does not come first
        tiny.model.encoder = "unet"
    tiny.update_from_flattened_dict(changes)
    if message is None:
        models.validate(tiny)
        return
    with pytest.raises(ValueError, match=message) as error:
        models.make_networks(tiny)
    assert "\n" not in str(error.value)
