"""Shared settings of the tests: CPU, strict ranks, quick and cached compilation, and a tiny closed-loop config."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".pytest_cache/jax"))
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # a test compiles longer than it runs

import jax
import jax.numpy as jnp
import pytest

from configs import scenes

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def tiny():
    """The smallest closed loop, as a config of the test's own."""
    return scenes.get_config("tiny")


@pytest.fixture(scope="session")
def untrained_workdir(tmp_path_factory):
    """A workdir with a checkpoint of the tiny closed loop: random, but with nothing at zero that would hide z."""
    from cldis_jax import api, checkpoint, state

    config = scenes.get_config("tiny")
    functions = api.make_functions(config)
    ema = jax.jit(lambda: state.create_state(functions.networks, config).ema)()
    leaves, tree = jax.tree.flatten(ema.params)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    leaves = [leaf + 0.05 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys)]
    std = jnp.linspace(0.5, 1.5, config.model.latent_dim)
    moments = state.Moments(weight=jnp.ones(()), first=jnp.full_like(std, 0.25), second=jnp.square(std) + 0.0625)
    workdir = str(tmp_path_factory.mktemp("untrained"))
    with checkpoint.Checkpoints(workdir) as checkpoints:
        ema = ema.replace(params=jax.tree.unflatten(tree, leaves), z_sem=moments, z_disen=moments)
        checkpoints.save(3, config, ema)
        checkpoints.wait()
    return workdir
