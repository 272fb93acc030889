"""Every config is valid and has the intended values. Every bad value raises an error that names it in one line."""

import importlib
import inspect
import pathlib

import numpy as np
import pytest

from cldis_jax import config as config_module
from cldis_jax.configs import celeba, closed_loop, default, ffhq128, scenes, small_images, sprites
from cldis_jax.runtime.errors import UserError
from tests import doors

FILES = sorted(path.stem for path in pathlib.Path(default.__file__).parent.glob("*.py"))
CONFIGS = [name for name in FILES if name not in ("__init__", "closed_loop")]


def module_of(name):
    return importlib.import_module(f"cldis_jax.configs.{name}")


def load(name):
    return module_of(name).get_config()


def arguments_of(name):
    """Every argument that a config file takes."""
    if not inspect.signature(module_of(name).get_config).parameters:
        return [()]
    return [(f"{size}{preset}",) for size in small_images.SIZES for preset in ("", ",paper", ",best")]


def fields(config, prefix=""):
    """Every field by its dotted name."""
    flat = {}
    for key, value in config.items():
        flat |= fields(value, f"{prefix}{key}.") if hasattr(value, "items") else {prefix + key: value}
    return flat


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_is_valid_and_complete(name):
    complete = set(fields(default.get_config()))
    for arguments in arguments_of(name):
        config = module_of(name).get_config(*arguments)
        config_module.validate(config)
        assert set(fields(config)) == complete
    if name != "default":
        assert f"configs/{name}.py" in module_of(name).__doc__


@pytest.mark.parametrize("name", CONFIGS)
def test_every_departure_from_a_preset_has_a_reason(name):
    for arguments in arguments_of(name):
        config = module_of(name).get_config(*arguments)
        for preset in closed_loop.PRESETS:
            theirs = fields(closed_loop.make(preset))
            changed = {field: value for field, value in fields(config).items() if value != theirs[field]}
            unexplained = [field for field, value in changed.items() if not closed_loop.reason(field, value)]
            assert not unexplained, f"configs/{name}.py:{arguments} against {preset}: {unexplained}"


def test_every_reason_is_of_a_field():
    names = set(fields(default.get_config()))
    for key in closed_loop.REASONS:
        field = key.partition("=")[0]
        assert field in names or any(name.startswith(field) for name in names if field.endswith("."))


def test_presets():
    """paper: the values that the paper states. best: the choices of the studies."""
    paper, best = closed_loop.paper(), closed_loop.best()
    assert (paper.diffusion.prediction, paper.model.conditioning) == ("eps", "adagn")
    assert (paper.vae.capacity_form, paper.vae.weight, paper.feedback.mode) == ("absolute", 1.0, "progress")
    assert (best.diffusion.prediction, best.model.conditioning) == ("x0", "cross_attention")
    assert (paper.model.encoder, best.model.encoder) == ("unet", "strided")
    assert (best.vae.capacity_form, best.feedback.mode) == ("hinge", "gain")
    assert best.vae.antithetic
    assert best.distillation.weigh_units
    assert best.model.standardize_z_sem
    assert (paper.preset, best.preset) == ("paper", "best")
    assert config_module.CHOICES["preset"] == tuple(closed_loop.PRESETS)


@pytest.mark.parametrize("name", ["celeba", "ffhq128", "horse128", "bedroom128"])
def test_photographs_have_the_papers_preset_except_data_network_and_steps(name):
    config, paper = fields(load(name)), fields(closed_loop.paper())
    changed = {field for field in config if config[field] != paper[field]}
    assert config["preset"] == "paper"
    assert {field for field in changed if not field.startswith(("data.", "model."))} == {"train.steps"}
    assert not changed & {"model.conditioning", "model.standardize_z_sem"}


@pytest.mark.parametrize("size", list(small_images.SIZES))
def test_the_papers_preset_at_every_size_changes_only_the_scale(size):
    """U-Net, VAE, images, steps and learning rate are those of `best` at this size. The method is the paper's."""
    ours, paper = fields(scenes.get_config(f"{size},paper")), fields(closed_loop.paper())
    best = fields(scenes.get_config(size))
    changed = {field for field in ours if ours[field] != paper[field]}
    method = (
        "diffusion.",
        "vae.",
        "distillation.",
        "feedback.",
        "model.conditioning",
        "model.standardize_z_sem",
        "model.encoder",
    )
    in_network = {"vae.base_channels", "vae.hidden_dim", "diffusion.decode_steps", "model.encoder_multipliers"}
    assert not {field for field in changed if field.startswith(method)} - in_network
    assert {field: ours[field] for field in changed} == {field: best[field] for field in changed}
    assert scenes.get_config(f"{size},best") == scenes.get_config(size)


def test_no_two_functions_of_a_size_set_the_same_field():
    for name, size in small_images.SIZES.items():
        seen = {}
        for change in size.scale + size.best:
            config = closed_loop.best()
            before = fields(config)
            change(config)
            after = fields(config)
            own = {field for field in after if after[field] != before[field] and field != "vae.weight"}
            for field in own:
                assert field not in seen, f"{name}: {seen[field]} and {change.__name__} both set {field}"
                seen[field] = change.__name__


@pytest.mark.parametrize(
    ("module", "argument", "message"),
    [
        (scenes, "huge", "unknown size 'huge': choose from full, long, cpu, cpu64, tiny"),
        (scenes, "", "unknown size ''"),
        (sprites, "cpu,worst", "unknown preset 'worst': choose from paper, best"),
        (scenes, "cpu,", "unknown preset ''"),
        (celeba, "huge,paper", "unknown size 'huge'"),
        (celeba, "full,worst", "unknown preset 'worst'"),
    ],
)
def test_unknown_sizes_and_presets_name_the_valid_ones(module, argument, message):
    with pytest.raises(UserError, match="unknown") as error:
        module.get_config(argument)
    assert message in str(error.value)


def test_the_command_line_takes_a_size_and_a_preset():
    words = ["describe", "--config=configs/scenes.py:long,paper", "--diff"]
    done = doors.run(*words, "--config.model.latent_dim=20")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert rows["model.latent_dim"].endswith("set on the command line")
    assert "18000" in rows["train.steps"]
    assert "diffusion.prediction" not in rows
    best = doors.run(*words, "--against=best")
    assert closed_loop.REASONS["diffusion.prediction=eps"] in best.stdout


def test_celeba_has_both_presets_with_the_same_network():
    best = celeba.get_config("full,best")
    assert (best.preset, best.diffusion.prediction, best.model.latent_dim) == ("best", "x0", 32)
    assert best.model.channel_multipliers == ffhq128.closed_loop.paper().model.channel_multipliers
    assert celeba.get_config("cpu").preset == "best"
    assert celeba.get_config("cpu,paper").preset == "paper"


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
        ("preset", "worst", "preset='worst' is not one of: paper, best"),
        ("data.source", "imagenet", "scenes, sprites, folder, tfds"),
        ("data.split", "train", "data.split='train' is for data.source=folder, not scenes"),
        ("data.cache", __file__, "must be auto, empty, or a folder of this machine"),
        ("data.cache", "gs://bucket/cache", "must be auto, empty, or a folder of this machine"),
        ("feedback.mode", "magic", "timestep, progress, gain, anneal, fixed"),
        ("distillation.form", "l1", "kl, mse, softmax"),
        ("vae.capacity_form", "square", "absolute, hinge"),
        ("diffusion.prediction", "x_0", "eps, v, x0"),
        ("model.conditioning", "film", "adagn, cross_attention"),
        ("data.image_size", 20, "can't be halved"),
        ("model.patch_size", 3, "model.patch_size=3"),
        ("feedback.lead_capacity", 99.0, "lead_capacity=99.0"),
        ("train.accumulate", 3, "not divisible by train.accumulate=3"),
        ("train.steps_per_dispatch", 7, "not a multiple"),
        ("diffusion.beta_start", 0.0, "diffusion.beta_start=0.0 must be positive"),
        ("diffusion.decode_steps", 2000, "decode_steps=2000"),
        ("train.learning_rate", float("nan"), "learning_rate=nan"),
        ("train.seed", -1, "train.seed=-1 must be at least 0"),
        ("train.seed", 2**32, "train.seed=4294967296 must be below"),
    ],
)
def test_bad_values_are_named(tiny, field, value, message):
    with tiny.ignore_type():
        tiny.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=r".") as error:
        config_module.validate(tiny)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_vae_alone_can_not_follow_a_diffusion_model(tiny):
    tiny.diffusion.weight = 0.0
    with pytest.raises(config_module.ConfigError, match="anneal or fixed"):
        config_module.validate(tiny)


@pytest.mark.parametrize("steps", ["20", "0-5", "7-7", "a-b", "50-70", "3-6"])
def test_profile_steps_must_be_steps_of_the_run(tiny, steps):
    """60 steps with two per dispatch: no dispatch starts at step 3."""
    tiny.profile_steps, tiny.train.steps_per_dispatch = steps, 2
    with pytest.raises(config_module.ConfigError, match=r"0 < start < stop <= 60 .*, start a multiple of 2"):
        config_module.validate(tiny)


def test_kept_checkpoints_must_be_at_the_end_of_a_dispatch(tiny):
    tiny.train.steps_per_dispatch, tiny.checkpoint.keep_period = 4, 10
    with pytest.raises(config_module.ConfigError, match=r"keep_period=10 is not a multiple of .*dispatch=4"):
        config_module.validate(tiny)
    tiny.checkpoint.keep_period = 20
    config_module.validate(tiny)


def test_the_softmax_form_takes_no_unit_weights(tiny):
    tiny.distillation.weigh_units = True
    config_module.validate(tiny)
    tiny.distillation.form = "softmax"
    with pytest.raises(config_module.ConfigError, match=r"weigh_units=True needs distillation.form kl or mse"):
        config_module.validate(tiny)


def test_with_swapping_both_losses_are_means_over_pixels():
    """A sum over pixels would dominate L_diff in q_phi. The mean must also follow another image size.

    The longer runs of configs/small_images.py do not swap, but a flag switches it on.
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
        config.vae.weight = 0.25  # a value of the user's own is kept
        config.data.image_size = 64
        assert config.vae.weight == 0.25
