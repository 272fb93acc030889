"""New images from both priors: the function, the command and their errors."""

import jax
import numpy as np
import pytest
from PIL import Image

from cldis_jax import api
from cldis_jax.prior import method as prior_method
from cldis_jax.prior import sampling, store
from cldis_jax.runtime import report
from cldis_jax.runtime.errors import UserError
from tests import doors


def test_both_priors(untrained_workdir, tmp_path):
    bundle = api.load(untrained_workdir)
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / "checkpoints").symlink_to(f"{untrained_workdir}/checkpoints")
    refused = doors.run("sample", f"--workdir={workdir}", "--prior=latent")
    assert refused.returncode == 1
    assert "error: no latent prior in" in refused.stderr
    assert not (workdir / "samples").exists()

    config = prior_method.default_config(bundle.config.model.latent_dim)
    config.model.num_layers, config.model.hidden_dim, config.codes.model_step = 2, 8, 1
    fresh = prior_method.create_state(config, np.zeros(10, np.float32), np.ones(10, np.float32))
    store.save(str(workdir), config, fresh.ema, 5)
    done = doors.run("sample", f"--workdir={workdir}", "--num=5", "--individual", "--latent_steps=4")
    assert done.returncode == 0, done.stderr
    assert "learned codes of step 1, the model is of step 3" in done.stdout
    results = report.read_json(workdir / "sample.json")
    assert results["latent_prior"] == {"step": 5, "num_steps": 4}
    for name in ("normal", "latent"):
        files = sorted((workdir / "samples" / name).iterdir())
        pictures = np.stack([np.asarray(Image.open(file)) for file in files])
        assert pictures.shape == (5, 16, 16, 3)
        assert len(np.unique(pictures.reshape(5, -1), axis=0)) == 5
        assert Image.open(workdir / "samples" / f"{name}.png").width > 3 * 64
    refused = doors.run("sample", f"--workdir={workdir}", "--prior=uniform")
    assert refused.returncode == 1
    assert "error: --prior=uniform is not one of: normal, latent" in refused.stderr
    (workdir / "sample.json").unlink()
    (workdir / "sample.json").mkdir()
    refused = doors.run("sample", f"--workdir={workdir}")
    assert refused.returncode == 1
    assert "sample.json can't be written: it is a folder" in refused.stderr


def test_samples_without_flags(untrained_workdir):
    bundle = api.load(untrained_workdir)
    assert sampling.priors_of(bundle) == {"normal": None}
    images = sampling.sample(bundle, 3, num_steps=2, seed=4)
    x_T = np.random.default_rng(4).standard_normal(images.shape, np.float32)
    expected = bundle.decode(x_T, jax.random.normal(jax.random.key(5), (3, 10)), 2)
    np.testing.assert_allclose(images, expected, atol=1e-5)
    with pytest.raises(UserError, match="--prior=uniform is not one of: normal, latent"):
        sampling.priors_of(bundle, ["uniform"])
    with pytest.raises(UserError, match="between 1 and 1000 steps, got 1001"):
        sampling.sample(bundle, 1, num_steps=1001)
