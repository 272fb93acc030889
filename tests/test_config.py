"""Every config is valid and says what it should; every bad value gets one line that names it."""

import pathlib

import jax
import numpy as np
import pytest
from absl import flags

from cldis_jax import config as config_module
from cldis_jax import describe, models
from cldis_jax.configs import default, diffae_celeba64, scenes, sprites
from cldis_jax.method import train_step

CONFIGS = sorted(p.stem for p in pathlib.Path(default.__file__).parent.glob("*.py") if p.stem not in ("__init__",))


def load(name):
    return __import__(f"configs.{name}", fromlist=["get_config"]).get_config()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_is_valid_and_complete(name):
    config = load(name)
    config_module.validate(config)
    assert set(describe_fields(config)) == set(describe_fields(default.get_config()))
    module = __import__(f"configs.{name}", fromlist=["__doc__"])
    if name != "default":
        assert f"configs/{name}.py" in module.__doc__


def describe_fields(config, prefix=""):
    for key, value in config.items():
        if hasattr(value, "items"):
            yield from describe_fields(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def test_baselines_are_switches():
    assert load("beta_vae").diffusion.weight == 0
    assert load("beta_vae").feedback.max_capacity == 0
    assert load("diffae_celeba64").vae.weight == 0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model.latent_dim", 0, "model.latent_dim=0"),
        ("distillation.weight", -1.0, "distillation.weight=-1.0"),
        ("vae.weight", -0.5, "vae.weight"),
        ("data.source", "imagenet", "scenes, sprites, folder, tfds"),
        ("feedback.mode", "magic", "timestep, progress, gain, anneal, fixed"),
        ("distillation.form", "l1", "kl, mse, softmax"),
        ("vae.likelihood", "poisson", "bernoulli, gaussian"),
        ("vae.capacity_form", "square", "absolute, hinge"),
        ("diffusion.prediction", "x0", "eps, v"),
        ("model.conditioning", "film", "adagn, cross_attention"),
        ("data.image_size", 20, "can't be halved"),
        ("model.patch_size", 3, "model.patch_size=3"),
        ("feedback.lead_capacity", 99.0, "lead_capacity=99.0"),
        ("train.accumulate", 3, "not divisible by train.accumulate=3"),
        ("train.steps_per_dispatch", 7, "not a multiple"),
        ("diffusion.beta_start", 0.0, "diffusion.beta_start=0.0 must be positive"),
        ("diffusion.decode_steps", 2000, "decode_steps=2000"),
        ("train.learning_rate", float("nan"), "learning_rate=nan"),
    ],
)
def test_bad_values_are_named(tiny, field, value, message):
    section, name = field.split(".")
    with tiny.ignore_type():
        tiny[section][name] = value
    with pytest.raises(ValueError, match=r".") as error:
        config_module.validate(tiny)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_vae_alone_can_not_listen_to_a_diffusion_model(tiny):
    tiny.diffusion.weight = 0.0
    with pytest.raises(config_module.ConfigError, match="anneal or fixed"):
        config_module.validate(tiny)


@pytest.mark.parametrize("steps", ["20", "0-5", "7-7", "a-b", "50-70", "3-6"])
def test_steps_to_profile_are_a_range_that_the_run_meets(tiny, steps):
    """60 steps, two in one dispatch, so that it never stands at step 3."""
    tiny.profile_steps, tiny.train.steps_per_dispatch = steps, 2
    with pytest.raises(config_module.ConfigError, match=r"0 < start < stop <= 60 .*, start a multiple of 2"):
        config_module.validate(tiny)


def test_the_checkpoints_that_are_kept_fall_on_a_dispatch(tiny):
    tiny.train.steps_per_dispatch, tiny.checkpoint.keep_period = 4, 10
    with pytest.raises(config_module.ConfigError, match=r"keep_period=10 is not a multiple of .*dispatch=4"):
        config_module.validate(tiny)
    tiny.checkpoint.keep_period = 20
    config_module.validate(tiny)


def test_the_softmax_of_all_units_weighs_none_of_them(tiny):
    tiny.distillation.weigh_units = True
    config_module.validate(tiny)
    tiny.distillation.form = "softmax"
    with pytest.raises(config_module.ConfigError, match=r"weigh_units=True needs distillation.form kl or mse"):
        config_module.validate(tiny)


def test_nothing_is_described_for_no_device():
    with pytest.raises(flags.IllegalFlagValueError, match="devices=0"):
        flags.FLAGS["devices"].parse("0")


def test_describe_counts_what_a_state_holds(tiny):
    tiny.data.batch_size = 8
    facts = describe.describe(tiny, 4)
    tree = jax.eval_shape(lambda: train_step.create_state(models.make_networks(tiny), tiny))
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
    assert facts["state_bytes"] == pytest.approx(held, rel=1e-3)
    assert facts["parameters"]["total"] == sum(leaf.size for leaf in jax.tree.leaves(tree.params))
    assert facts["local_batch"] == 2


@pytest.mark.slow
def test_describe_counts_parameters_bytes_and_flops():
    """Diff-AE's celeba64: its published counts; float32 parameters, EMA and two Adam moments; 6 FLOPs a MAC."""
    facts = describe.describe(diffae_celeba64.get_config(), 4)
    assert facts["parameters"] == {
        "unet": 71_518_723,
        "semantic_encoder": 19_320_512,
        "beta_vae": 0,
        "total": 90_839_235,
    }
    assert facts["state_bytes"] == pytest.approx(16 * 90_839_235, rel=1e-3)
    # 89 GFLOP with every tap of every convolution; XLA leaves out the taps that fall on padding.
    assert facts["flops_per_image"] == pytest.approx(89e9, rel=0.08)
    assert facts["local_batch"] == 32


def test_where_the_denoiser_may_teach_the_vae_both_losses_are_means_over_pixels():
    """Else the sum over pixels drowns L_diff in q_phi. Also where the images are of another size than the file's.

    Swapping is one flag away in the longer runs of configs/small_images.py, which go without.
    """
    small = [module.get_config(size) for module in (scenes, sprites) for size in ("full", "long", "cpu", "tiny")]
    published = [load(name) for name in ("cars3d", "dsprites", "folder", "mpi3d", "shapes3d", "smallnorb")]
    swapping = [config for config in map(load, CONFIGS) if config.feedback.swap_probability > 0]
    assert swapping
    for config in (*small, *published, *swapping):
        values = config.data.image_size**2 * config.data.channels
        np.testing.assert_allclose(config.vae.weight, 1 / values, rtol=1e-12)
        config.data.image_size, config.data.channels = 128, 1
        np.testing.assert_allclose(config.vae.weight, 1 / 128**2, rtol=1e-12)
        config.vae.weight = 0.25  # one's own holds
        config.data.image_size = 64
        assert config.vae.weight == 0.25
