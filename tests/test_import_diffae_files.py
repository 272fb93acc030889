"""Files that the importer must read or refuse, whose keys and values are not as the reference writes them.

Needs no PyTorch: the content of a file is made from our own shapes.
"""

import jax
import numpy as np
import pytest

from cldis_jax import api, models
from cldis_jax.configs import diffae_ffhq256
from cldis_jax.diffae_import import importing, weights
from cldis_jax.runtime import checkpoint, torch_files
from cldis_jax.runtime.errors import UserError

DIM = 12


def small_config():
    config = diffae_ffhq256.get_config()
    config.data.image_size = 16
    config.model.latent_dim = DIM
    config.model.embed_dim = 20
    config.model.base_channels = 32
    config.model.channel_multipliers = config.model.encoder_multipliers = (1, 2)
    config.model.attention_resolutions = (8,)
    return config


def reference_keys(config):
    """A net of the reference with random weights: {key: array}."""
    networks = models.make_networks(config)
    shapes = jax.eval_shape(lambda: models.init_params(networks, config, jax.random.key(0)))
    flat = weights.flatten_dict(shapes, sep="/")
    draws, found = np.random.default_rng(0), {}
    for theirs, ours in weights.autoencoder_layers(config).items():
        for part, key in (("kernel", "weight"), ("scale", "weight"), ("bias", "bias")):
            if f"{ours}/{part}" in flat:
                shape = flat[f"{ours}/{part}"].shape
                shape = (*shape[:-3:-1], *shape[:-2]) if len(shape) == 4 else shape[::-1]
                found[f"{theirs}.{key}"] = draws.normal(size=shape).astype(np.float32)
    return found


@pytest.fixture(scope="module")
def state_dict():
    net = reference_keys(small_config())
    both = {f"{copy}.{key}": value + (copy == "model") for copy in importing.NETS for key, value in net.items()}
    moments = {"conds_mean": np.linspace(-1, 1, DIM)[None], "conds_std": np.linspace(0.5, 2, DIM)[None]}
    return both | moments | {"x_T": np.zeros((4, 3, 16, 16))}


@pytest.fixture
def import_weights(tmp_path, monkeypatch):
    """A function that imports a state dict into the workdir `w`."""

    def run(content, net="ema_model", workdir="w"):
        monkeypatch.setattr(torch_files, "read", lambda path: {"state_dict": content, "global_step": 7})
        return importing.import_checkpoint(small_config(), "f.ckpt", str(tmp_path / workdir), net, None)

    return run


PREFIXES = {
    "DistributedDataParallel": lambda key: f"module.{key}",
    "torch.compile": lambda key: key.replace("ema_model.", "ema_model._orig_mod.module."),
    "no prefix": lambda key: key.removeprefix("ema_model."),
}


def test_prefixes_of_wrappers_are_taken_off(state_dict, import_weights, tmp_path):
    import_weights(state_dict)
    expected = checkpoint.params_sha256(api.load(str(tmp_path / "w")).ema.params)
    for name, prefixed in PREFIXES.items():
        renamed = {prefixed(key): value for key, value in state_dict.items() if not key.startswith("model.")}
        results = import_weights(renamed, workdir=name)
        bundle = api.load(str(tmp_path / name))
        assert checkpoint.params_sha256(bundle.ema.params) == expected
        np.testing.assert_allclose(bundle.z_std, np.linspace(0.5, 2, DIM), rtol=1e-5)
        assert results["used"].keys() | results["unused"].keys() == renamed.keys()  # as the file names them
        unknown = any("nothing says whether it is the moving average" in note for note in results["notes"])
        assert unknown == (name == "no prefix")


@pytest.mark.parametrize(("kept", "asked"), [("ema_model", "model"), ("model", "ema_model")])
def test_the_only_copy_of_the_net_is_named(kept, asked, state_dict, import_weights):
    only = {key: value for key, value in state_dict.items() if key.startswith(f"{kept}.")}
    with pytest.raises(UserError, match=rf"no keys under {asked}\., only the copy {kept}; use --net={kept}"):
        import_weights(only, asked)


def test_what_a_file_without_the_net_holds_is_said(state_dict, import_weights):
    twice = state_dict | {f"module.{key}": value for key, value in state_dict.items()}
    with pytest.raises(UserError, match=r"both .* and module\..*, which are the same weights"):
        import_weights(twice)
    with pytest.raises(UserError, match=r"no keys under ema_model\.; it holds no arrays, but generator, steps"):
        import_weights({"generator": {"weight": np.ones(1)}, "steps": 3})
    with pytest.raises(UserError, match=r"no keys under ema_model\.; they begin with: generator"):
        import_weights({"generator.weight": np.ones(1)})
    with pytest.raises(UserError, match="is no dictionary of tensors but a list"):
        import_weights([1])


@pytest.mark.parametrize(
    ("key", "factor", "message"),
    [
        ("conds_std", 0.0, r"conds_std of the checkpoint is not positive in the numbers \[0, 1, .*11\]"),
        ("conds_std", np.nan, "conds_std of the checkpoint is NaN or infinite"),
        ("conds_mean", np.inf, r"conds_mean of the checkpoint is NaN or infinite in the numbers \[0, "),
        ("ema_model.out.2.bias", np.nan, r"NaN or infinite weights in out\.2\.bias"),
    ],
)
def test_values_that_can_not_be_used_are_named(key, factor, message, state_dict, import_weights, tmp_path):
    with pytest.raises(UserError, match=message):
        import_weights(state_dict | {key: state_dict[key] * factor})
    assert not (tmp_path / "w").exists()
