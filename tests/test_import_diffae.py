"""The importer against PyTorch modules with the reference's layout: outputs, every key, bad files."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

# ruff: noqa: E402
from cldis_jax import api, models
from cldis_jax.config import validate
from cldis_jax.configs import celeba, default, diffae_celeba64, diffae_ffhq128, diffae_ffhq256, ffhq128
from cldis_jax.diffae_import import importing, weights
from cldis_jax.method import train_step
from cldis_jax.prior import method as prior_method
from cldis_jax.prior import store as prior_store
from cldis_jax.runtime import checkpoint, report, torch_files
from cldis_jax.training import workdir
from tests import reference_modules


class Callback:
    """A class of a package that isn't installed where the checkpoint is read."""


def small_config():
    config = diffae_ffhq256.get_config()
    config.data.image_size = 16
    config.model.latent_dim = 12
    config.model.embed_dim = 20
    config.model.base_channels = 32
    config.model.channel_multipliers = config.model.encoder_multipliers = (1, 2)
    config.model.attention_resolutions = (8,)
    return config


def lightning_file(path, config, *, latent=False, moments=True):
    """(a Lightning checkpoint like the reference's, at `path`; its EMA net)."""
    nets = {}
    for seed, name in enumerate(("model", "ema_model")):
        latent_net = reference_modules.LatentNet(12, 32, 16, num_layers=3) if latent else None
        nets[name] = reference_modules.randomise(reference_modules.DiffAE(config, latent_net), seed)
    weights = {f"{name}.{key}": value for name, net in nets.items() for key, value in net.state_dict().items()}
    weights["x_T"] = torch.zeros(4, 3, 16, 16)
    if moments:
        weights |= {"conds_mean": torch.linspace(-1, 1, 12)[None], "conds_std": torch.linspace(0.5, 2, 12)[None]}
    content = {
        "state_dict": weights,
        "global_step": 7,
        "callbacks": {Callback: Callback()},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
    }
    torch.save(content, path)
    return nets["ema_model"]


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """(workdir, results, EMA net) of a small checkpoint with a latent net."""
    folder = tmp_path_factory.mktemp("import")
    config = small_config()
    net = lightning_file(folder / "last.ckpt", config, latent=True)
    workdir = str(folder / "workdir")
    results = importing.import_checkpoint(config, str(folder / "last.ckpt"), workdir, "ema_model", None)
    return workdir, results, net


def to_torch(images):
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)


def test_outputs_equal_the_reference_layout(imported):
    workdir, _, net = imported
    bundle = api.load(workdir)
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (3, 16, 16, 3)).astype(np.float32)
    z = rng.normal(size=(3, 12)).astype(np.float32)
    t = np.array([0, 417, 999])
    with torch.no_grad():
        codes = net.encoder(to_torch(images))
        eps = net(to_torch(images), torch.tensor(t), torch.tensor(z)).permute(0, 2, 3, 1)
    assert codes.std() > 0.1
    assert eps.std() > 0.1
    np.testing.assert_allclose(bundle.encode(images), codes, atol=1e-4)
    np.testing.assert_allclose(bundle.predict(images, jnp.asarray(t), z), eps, atol=1e-4)


def test_latent_net_equals_the_reference_layout(imported):
    workdir, _, net = imported
    prior = prior_store.load(workdir)
    z, t = np.random.default_rng(1).normal(size=(4, 12)).astype(np.float32), np.array([0, 10, 500, 999])
    with torch.no_grad():
        expected = net.latent_net(torch.tensor(z), torch.tensor(t))
    output = prior_method.make_mlp(prior.config).apply({"params": prior.averages.params}, z, jnp.asarray(t))
    np.testing.assert_allclose(output, expected, atol=1e-4)
    np.testing.assert_allclose(prior.averages.mean, np.linspace(-1, 1, 12), rtol=1e-5, atol=1e-6)


def test_moments_and_step_are_the_files(imported):
    bundle = api.load(imported[0])
    np.testing.assert_allclose(bundle.z_mean, np.linspace(-1, 1, 12), atol=1e-5)
    np.testing.assert_allclose(bundle.z_std, np.linspace(0.5, 2, 12), rtol=1e-5)
    assert bundle.step == 7
    z = np.zeros((2, 12), np.float32)
    assert bundle.decode(np.zeros((2, 16, 16, 3)), z, 3).shape == (2, 16, 16, 3)


def test_every_key_is_used_or_named(imported, tmp_path):
    workdir, results, net = imported
    assert report.read_json(f"{workdir}/import_diffae.json") == results
    names = {f"ema_model.{key}" for key in net.state_dict()}
    everything = names | {f"model.{key}" for key in net.state_dict()} | {"x_T", "conds_mean", "conds_std"}
    assert results["used"].keys() | results["unused"].keys() == everything
    assert not results["used"].keys() & results["unused"].keys()
    assert {key for key in names if key in results["unused"]} == {key for key in names if ".cond_layers.1." in key}
    assert len(set(results["used"].values())) == len(results["used"])


def test_published_sizes():
    """Each of the 168,492,291 parameters of the reference's ffhq256 has a place here, and no other parameters exist."""
    config = diffae_ffhq256.get_config()
    networks = models.make_networks(config)
    shapes = jax.eval_shape(lambda: models.init_params(networks, config, jax.random.key(0)))
    flat = weights.flatten_dict(shapes, sep="/")
    reachable = set(weights.autoencoder_layers(config).values())
    assert {leaf.rpartition("/")[0] for leaf in flat} <= reachable
    assert sum(leaf.size for leaf in flat.values()) == 168_492_291


@pytest.mark.slow
@pytest.mark.parametrize(
    ("published", "closed_loop"),
    [(diffae_celeba64, celeba), (diffae_ffhq128, ffhq128), (diffae_ffhq256, diffae_ffhq256)],
)
def test_a_closed_loop_fits_each_published_model(published, closed_loop):
    shapes = []
    for config in (published.get_config(), closed_loop.get_config()):
        config.model.latent_dim = 512
        if shapes:
            config.vae.weight, config.distillation.weight = 1.0, 1e-3
            validate(config)
        init = functools.partial(models.init_params, models.make_networks(config), config, jax.random.key(0))
        shapes.append(jax.eval_shape(init))
    assert shapes[1].keys() - shapes[0].keys() == {"beta_vae"}
    for name in ("unet", "semantic_encoder"):
        assert shapes[0][name] == shapes[1][name]


def test_training_can_start_from_it(imported):
    config = default.get_config()
    config.model, config.data.image_size = small_config().model, 16
    config.vae.base_channels, config.vae.hidden_dim = 8, 16
    networks = models.make_networks(config)
    fresh = train_step.create_state(networks, config)
    config.init_from = imported[0]
    started = workdir.start_from(config, fresh)
    params = api.load(imported[0]).ema.params
    for name in ("unet", "semantic_encoder"):
        for tree in (started.params, started.ema.params):
            assert checkpoint.params_sha256(tree[name]) == checkpoint.params_sha256(params[name])
    assert checkpoint.params_sha256(started.params["beta_vae"]) == checkpoint.params_sha256(fresh.params["beta_vae"])


def test_an_imported_workdir_is_not_treated_as_a_damaged_run(imported):
    config = small_config()
    networks = models.make_networks(config)
    shapes = jax.eval_shape(lambda: train_step.create_state(networks, config))
    with (
        checkpoint.Checkpoints(imported[0]) as checkpoints,
        pytest.raises(checkpoint.CheckpointError, match="init_from"),
    ):
        checkpoints.restore(shapes)
    assert api.load(imported[0]).step == 7


def test_wrong_architecture_lists_everything_and_writes_nothing(tmp_path):
    lightning_file(tmp_path / "last.ckpt", small_config())
    config = small_config()
    config.model.embed_dim = 24
    config.model.attention_resolutions = (16,)
    with pytest.raises(weights.WeightsError) as error:
        importing.import_checkpoint(config, str(tmp_path / "last.ckpt"), str(tmp_path / "w"), "ema_model", None)
    message = str(error.value)
    assert "another shape: time_embed.time_embed.2.weight is (20, 20), our unet/time_1/layer/kernel (24, 24)" in message
    assert "no place for: input_blocks.4.1.qkv.weight (192, 64, 1)" in message
    assert "missing: input_blocks.1.1.norm.weight" in message
    assert message.count("emb_layers.1.weight") > 10
    assert not (tmp_path / "w").exists()


def test_moments_may_be_missing_or_in_another_file(tmp_path):
    lightning_file(tmp_path / "last.ckpt", small_config(), latent=True, moments=False)
    results = importing.import_checkpoint(
        small_config(), str(tmp_path / "last.ckpt"), str(tmp_path / "a"), "model", None
    )
    assert results["moments_from"] == "assumed"
    assert any("0 and 1 assumed" in note for note in results["notes"])
    np.testing.assert_array_equal(api.load(str(tmp_path / "a")).z_std, np.ones(12))
    assert any(
        "--latents" in note for note in results["notes"]
    )  # the prior's samples are in units of the standard deviation
    assert not (tmp_path / "a" / "latent_prior").exists()
    assert "of the latent prior, which needs conds_mean and conds_std" in results["unused"].values()

    latents = {"conds": torch.zeros(5, 12), "conds_mean": torch.full((1, 12), 3.0), "conds_std": torch.ones(1, 12)}
    torch.save(latents, tmp_path / "latent.pkl")
    importing.import_checkpoint(
        small_config(), str(tmp_path / "last.ckpt"), str(tmp_path / "b"), "model", str(tmp_path / "latent.pkl")
    )
    np.testing.assert_allclose(api.load(str(tmp_path / "b")).z_mean, 3.0, rtol=1e-6)
    assert (tmp_path / "b" / "latent_prior").exists()


def test_half_precision_is_read(tmp_path):
    torch.save({"a": torch.arange(3).half(), "b": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "f")
    content = torch_files.read(str(tmp_path / "f"))
    np.testing.assert_array_equal(content["a"], [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(content["b"], [1.0, 1.0])


class Hostile:
    def __reduce__(self):
        return exec, ("raise SystemExit('code of the checkpoint ran')",)


def test_no_code_of_the_file_runs(tmp_path):
    torch.save({"a": torch.ones(1), "b": Hostile()}, tmp_path / "f")
    content = torch_files.read(str(tmp_path / "f"))
    assert content["a"] == 1
    assert isinstance(content["b"], torch_files.Skipped)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("model.conditioning", "cross_attention", "model.conditioning"),
        ("model.patch_size", 2, "model.patch_size"),
        ("diffusion.prediction", "v", "diffusion.prediction"),
        ("vae.weight", 1.0, "vae.weight"),
    ],
)
def test_configs_of_other_models_than_the_reference(field, value, named, tmp_path):
    config = small_config()
    section, name = field.split(".")
    config[section][name] = value
    with pytest.raises(ValueError, match=named):
        importing.import_checkpoint(config, "absent.ckpt", str(tmp_path / "w"), "ema_model", None)


def test_bad_files_and_workdirs(tmp_path):
    def run(path, workdir="w", net="ema_model"):
        importing.import_checkpoint(small_config(), str(tmp_path / path), str(tmp_path / workdir), net, None)

    with pytest.raises(ValueError, match=r"no checkpoint file .*absent\.ckpt"):
        run("absent.ckpt")
    (tmp_path / "noise.ckpt").write_bytes(b"no checkpoint at all")
    with pytest.raises(ValueError, match="can't be read as a PyTorch checkpoint"):
        run("noise.ckpt")
    torch.save({"state_dict": {"generator.weight": torch.ones(2)}}, tmp_path / "gan.ckpt")
    with pytest.raises(ValueError, match=r"no keys under ema_model\.; they begin with: generator"):
        run("gan.ckpt")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="not an empty folder"):
        run("gan.ckpt", workdir="full")
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["notes.txt"]
    assert not (tmp_path / "w").exists()


def test_command_line(tmp_path):
    lightning_file(tmp_path / "last.ckpt", small_config())
    command = [
        sys.executable,
        "-m",
        "cldis_jax.import_diffae",
        "--config=configs/diffae_ffhq256.py",
        f"--checkpoint={tmp_path / 'last.ckpt'}",
        f"--workdir={tmp_path / 'w'}",
        "--config.data.image_size=16",
        "--config.model.latent_dim=12",
        "--config.model.embed_dim=20",
        "--config.model.base_channels=32",
        "--config.model.channel_multipliers=(1,2)",
        "--config.model.encoder_multipliers=(1,2)",
        "--config.model.attention_resolutions=(8,)",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "unused, the fixed noise of the reference's training pictures: x_T (1)" in done.stdout
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 1
    assert "error: --workdir=" in again.stderr
    assert "Traceback" not in again.stderr
