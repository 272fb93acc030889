"""Shared settings of the tests: CPU, strict ranks, quick and cached compilation, and a tiny closed-loop config."""

import contextlib
import os
import pathlib
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".pytest_cache/jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")  # commands share small programs, too
os.environ["XDG_CACHE_HOME"] = str(pathlib.Path(__file__).parents[1] / ".pytest_cache/user")  # not that of the user
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # a test compiles longer than it runs

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from cldis_jax.configs import scenes

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def tiny():
    """A config of the smallest closed loop. Each test gets its own copy."""
    return scenes.get_config("tiny")


@pytest.fixture(scope="module")
def undrawn():
    """No training draws pictures until the end of the file: pictures take longer than a few steps."""
    from cldis_jax.api import pictures
    from cldis_jax.runtime import visualize

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "training_pictures", lambda bundle, images: ())
        patch.setattr(visualize, "curves", lambda history, names: np.zeros((1, 1, 3), np.uint8))
        yield


@pytest.fixture(scope="session")
def untrained_workdir(tmp_path_factory):
    """A workdir with a checkpoint of the tiny closed loop. No parameter is zero, so that z has effects."""
    from cldis_jax.method import train_step
    from cldis_jax.runtime import checkpoint
    from tests import random_params

    config = scenes.get_config("tiny")
    std = jnp.linspace(0.5, 1.5, config.model.latent_dim)
    moments = train_step.Moments(weight=jnp.ones(()), first=jnp.full_like(std, 0.25), second=jnp.square(std) + 0.0625)
    workdir = str(tmp_path_factory.mktemp("untrained"))
    with checkpoint.Checkpoints(workdir) as checkpoints:
        checkpoints.save(3, config, random_params.bundle(config, z_sem=moments, z_disen=moments).ema)
        checkpoints.wait()
    return workdir


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A folder in a bucket, whose files are kept below `tmp_path`. Only epath finds it, no call of `os`.

    As with TensorFlow's backend of epath, an opened file exists only inside `with`. As in Google Cloud Storage, it is
    there when it is closed, and can't grow.
    """

    class Bucket(type(epath.Path()._backend)):
        def __getattribute__(self, name):
            function = super().__getattribute__(name)
            return lambda *paths, **options: function(
                *(str(path).replace("gs://", f"{tmp_path}/") for path in paths), **options
            )

        @contextlib.contextmanager
        def open(self, path, mode):
            if "r" in mode:
                with open(path, mode) as file:
                    yield file
                return
            with tempfile.TemporaryFile(mode.replace("a", "w") + "+") as file:
                yield file
                file.seek(0)
                pathlib.Path(path).write_bytes(file.read() if "b" in mode else file.read().encode())

    monkeypatch.setattr(type(epath.Path("gs://bucket")), "_backend", Bucket())
    return epath.Path("gs://bucket/run")
