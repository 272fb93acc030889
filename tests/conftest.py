"""Shared settings of the tests: CPU, strict ranks, and a tiny closed-loop config."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

from configs import scenes

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def tiny():
    """The smallest closed loop, as a config of the test's own."""
    return scenes.get_config("tiny")
