"""The sampler's command: pictures from both priors, and refusals."""

import subprocess
import sys

import numpy as np
from PIL import Image

from cldis_jax import api
from cldis_jax.prior import method as prior_method
from cldis_jax.runtime import report


def sample(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "cldis_jax.sample", *map(str, arguments)], capture_output=True, text=True
    )


def test_both_priors(untrained_workdir, tmp_path):
    bundle = api.load(untrained_workdir)
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / "checkpoints").symlink_to(f"{untrained_workdir}/checkpoints")
    refused = sample(f"--workdir={workdir}", "--prior=latent")
    assert refused.returncode == 1
    assert "error: no latent prior in" in refused.stderr
    assert not (workdir / "samples").exists()

    config = prior_method.default_config(bundle.config.model.latent_dim)
    config.model.num_layers, config.model.hidden_dim, config.codes.model_step = 2, 8, 1
    fresh = prior_method.create_state(config, np.zeros(10, np.float32), np.ones(10, np.float32))
    prior_method.save(str(workdir), config, fresh.ema, 5)
    done = sample(f"--workdir={workdir}", "--num=5", "--individual", "--latent_steps=4")
    assert done.returncode == 0, done.stderr
    assert "the model has gone on to step 3" in done.stdout
    results = report.read_json(workdir / "sample.json")
    assert results["latent_prior"] == {"step": 5, "num_steps": 4}
    for name in ("normal", "latent"):
        files = sorted((workdir / "samples" / name).iterdir())
        pictures = np.stack([np.asarray(Image.open(file)) for file in files])
        assert pictures.shape == (5, 16, 16, 3)
        assert len(np.unique(pictures.reshape(5, -1), axis=0)) == 5
        assert Image.open(workdir / "samples" / f"{name}.png").width > 3 * 64
    refused = sample(f"--workdir={workdir}", "--prior=uniform")
    assert refused.returncode == 1
    assert "error: --prior=uniform is not one of: normal, latent" in refused.stderr
