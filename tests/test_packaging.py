"""The wheel: its contents, and its commands outside the checkout."""

import configparser
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import pytest

from cldis_jax import cli
from tests import doors

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "cldis_jax", "configs")


def run(*words, cwd, path=""):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PYTHONPATH": str(path)}
    return subprocess.run([*map(str, words)], capture_output=True, text=True, cwd=cwd, env=environment, timeout=300)


def installed_builder():
    """Whether a wheel can be built here without downloading setuptools."""
    try:
        import setuptools
    except ModuleNotFoundError:
        return False
    version = tuple(map(int, setuptools.__version__.split(".")[:2]))
    return version >= (70, 1) or (version >= (64, 0) and importlib.util.find_spec("wheel") is not None)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the sources of the wheel, because building leaves files beside the sources."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    isolation = ["--no-build-isolation"] if installed_builder() else []
    words = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", *isolation, f"--wheel-dir={folder}"]
    done = run(*words, cwd=checkout)
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("cldis_jax-*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder where the wheel is installed."""
    folder = tmp_path_factory.mktemp("installed")
    words = [sys.executable, "-m", "pip", "install", "--no-deps", f"--target={folder}", wheel]
    done = run(*words, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_room_is_packaged():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    rooms = {f"cldis_jax.{file.parent.name}" for file in (ROOT / "cldis_jax").glob("*/*.py")}
    assert set(config["options"]["packages"].split()) == {"cldis_jax", "cldis_jax.configs"} | rooms


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entry_points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "cldis = cldis_jax.cli:console" in archive.read(entry_points).decode()
    package = ROOT / "cldis_jax"
    expected = {f"cldis_jax/{file.relative_to(package)}" for file in package.rglob("*.py")}
    expected |= {f"cldis_jax/configs/{file.name}" for file in (ROOT / "configs").glob("*.py")}
    assert files == expected | {"cldis_jax/evaluation/published_numbers.csv", "cldis_jax/explorer/static_page.html"}


# -S hides the editable installation of this environment.
FACTS = f"""
import importlib.util, pathlib, sys
sys.path.append({sysconfig.get_paths()["purelib"]!r})
import cldis_jax
from cldis_jax import cli, configs
from cldis_jax.configs import scenes
print(pathlib.Path(cldis_jax.__file__).parent)
print(configs.__path__[0])
print(cli.find_config("configs/scenes.py:tiny"))
print(importlib.util.find_spec("configs"))
"""


def test_an_installed_wheel_finds_its_configs(installed, tmp_path):
    done = run(sys.executable, "-S", "-c", FACTS, cwd=tmp_path, path=installed)
    assert done.returncode == 0, done.stderr
    package = installed / "cldis_jax"
    expected = [str(package), str(package / "configs"), f"{package / 'configs' / 'scenes.py'}:tiny", "None"]
    assert done.stdout.splitlines() == expected


@pytest.mark.skipif(not installed_builder(), reason="needs setuptools 64 or newer, installed")
def test_an_editable_installation_uses_the_checkouts_configs(checkout, tmp_path):
    program = "import sys; from setuptools import build_meta; build_meta.build_editable(sys.argv[1])"
    done = run(sys.executable, "-c", program, tmp_path, cwd=checkout)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "links")
    follow = f"import site; site.addsitedir({str(tmp_path / 'links')!r})\n"
    done = run(sys.executable, "-S", "-c", follow + FACTS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = checkout / "configs"
    expected = [str(checkout / "cldis_jax"), str(folder), f"{folder / 'scenes.py'}:tiny", "None"]
    assert done.stdout.splitlines() == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(cli.commands()))
def test_every_command_of_the_wheel_runs(installed, tmp_path, name):
    done = run(sys.executable, "-m", f"cldis_jax.{name}", "--help", cwd=tmp_path, path=installed)
    assert f"{installed / 'cldis_jax' / name}.py:" in done.stdout, done.stderr


@pytest.mark.slow
def test_the_wheel_describes_a_config_by_name(installed, tmp_path):
    program = "from cldis_jax.cli import console; console()"
    words = [sys.executable, "-c", program, "describe", "--config=celeba", "--json"]
    done = run(*words, cwd=tmp_path, path=installed)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["parameters"]["total"] > 50_000_000


@pytest.mark.parametrize("name", ["tensorflow", "tensorflow_datasets"])
def test_the_tests_run_commands_without_tensorflow(name):
    """Those of tests/test_docs.py, among them `main`, `evaluate` and `edit`, start in such a process."""
    done = doors.run("-c", f"import {name}")
    assert done.returncode == 1
    assert f"ModuleNotFoundError: No module named '{name}'" in done.stderr


@pytest.mark.slow
def test_a_bare_installation_trains_evaluates_and_edits(checkout, tmp_path):
    """Without any extra, so without TensorFlow, in at most 1.2 GB. It downloads packages."""
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    subprocess.run([python, "-m", "pip", "install", "-qq", checkout], check=True)
    assert run(python, "-c", "import tensorflow", cwd=tmp_path).returncode == 1
    size = sum(file.stat().st_size for file in python.parents[1].rglob("*") if file.is_file() and not file.is_symlink())
    assert size < 1.2e9
    for command in (
        ["main", "--config=scenes:tiny", "--config.train.steps=2", "--workdir=run"],
        [
            "evaluate",
            "--workdir=run",
            "--metrics=dci",
            "--seeds=1",
            "--floor_seeds=1",
            "--num_train=250",
            "--num_test=150",
        ],
        [
            "edit",
            "--workdir=run",
            "--images=run/pictures",
            "--out=edited",
            "--reconstruct",
            "--encode_steps=2",
            "--num_steps=2",
        ],
    ):
        done = run(python, "-m", f"cldis_jax.{command[0]}", *command[1:], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "edited").iterdir())) > 0
