"""Where compiled programs are kept by default."""

import jax
import pytest

from cldis_jax.runtime import compilation_cache
from tests import doors

NAMES = ("jax_compilation_cache_dir", "jax_compilation_cache_max_size")


@pytest.fixture
def unset(monkeypatch, tmp_path):
    """No folder is chosen; the user's cache folder is `tmp_path`."""
    before = {name: getattr(jax.config, name) for name in NAMES}
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_users_cache_folder_by_default(unset):
    compilation_cache.use_default()
    folder = unset / "cldis_jax" / "programs" / compilation_cache.processor()
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert folder.is_dir()
    assert jax.config.jax_compilation_cache_max_size == compilation_cache.MAX_BYTES


@pytest.mark.parametrize("chosen", ["", "/elsewhere"])
def test_a_choice_of_the_user_counts(unset, monkeypatch, chosen):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", chosen)
    compilation_cache.use_default()
    assert jax.config.jax_compilation_cache_dir is None
    assert list(unset.iterdir()) == []


def test_a_folder_that_can_not_be_made_is_no_error(unset, monkeypatch):
    (unset / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(unset / "file"))
    compilation_cache.use_default()
    assert jax.config.jax_compilation_cache_dir is None


def test_another_processor_has_another_folder(monkeypatch):
    here = compilation_cache.processor()
    assert compilation_cache.processor() == here
    monkeypatch.setattr(compilation_cache.platform, "machine", lambda: "another")
    assert compilation_cache.processor() != here


def test_a_command_keeps_its_programs(unset):
    program = (
        "import os, sys, jax\n"
        "os.environ.pop('JAX_COMPILATION_CACHE_DIR', None)\n"
        "jax.config.update('jax_compilation_cache_dir', None)\n"
        "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)\n"
        "from cldis_jax import cli\n"
        "sys.argv = ['command']\n"
        "cli.run(lambda: print(jax.jit(lambda x: x + 1)(1)))\n"
    )
    shown = doors.run("-c", program)
    assert shown.stdout == "2\n", shown.stderr
    (kept,) = (unset / "cldis_jax" / "programs").glob("*/jit__lambda*-cache")
    assert kept.stat().st_size > 0
