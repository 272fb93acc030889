"""Shared settings of the tests: CPU, strict ranks, quick and cached compilation, and a tiny closed-loop config."""

import os
import pathlib

CACHE = pathlib.Path(__file__).parents[1] / ".pytest_cache" / "jax"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))  # subprocesses and workers share it
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # a test compiles longer than it runs

import jax
import pytest

from configs import scenes

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def tiny():
    """The smallest closed loop, as a config of the test's own."""
    return scenes.get_config("tiny")
