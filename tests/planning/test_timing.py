"""The figures of the benchmark are consistent, and its parts are the named ones."""

import json

import jax
import pytest

from cldis_jax import models
from cldis_jax.planning import cost, timing
from tests import doors


def smallest(config):
    config.model.channel_multipliers = config.model.encoder_multipliers = (1,)
    return config


def test_timing_statistics():
    measured = timing.Timing(0.0, [1.0, 2.0, 3.0, 4.0, 100.0], [0.0] * 5)
    assert measured.median == 3
    assert measured.mean == 22
    assert measured.spread == (52 - 1.5) / 2  # the quartiles are half-way between the outer values


def test_parts_switch_branches_off(tiny):
    parts = timing.parts(tiny)
    networks = {name: models.make_networks(part) for name, part in parts.items()}
    assert networks["vae"].unet is None
    assert networks["vae"].beta_vae is not None
    assert networks["diffae"].beta_vae is None
    assert networks["diffae"].unet is not None
    assert parts["closed_loop"] == tiny
    for part in parts.values():
        timing.validate(part)


def test_missing_images_are_an_error_before_compilation(tiny):
    tiny.data.source, tiny.data.path = "folder", "/nowhere"
    with pytest.raises((ValueError, FileNotFoundError), match="/nowhere"):
        timing.benchmark(tiny, 2)


def test_flops_are_counted_without_a_device(tiny, monkeypatch):
    """Accelerators report no FLOPs, and a machine may have no CPU backend."""

    def unknown(**_):
        raise RuntimeError("Unknown backend cpu")

    monkeypatch.setattr(jax, "local_devices", unknown)
    monkeypatch.setattr(jax.stages.Lowered, "cost_analysis", lambda lowered: None)
    assert cost.training_flops_per_image(smallest(tiny)) > 1e6


@pytest.mark.slow
def test_figures(tiny):
    tiny = smallest(tiny)
    tiny.train.steps_per_dispatch = 2
    results = timing.benchmark(tiny, 4)
    assert results["images_per_second"] == pytest.approx(tiny.data.batch_size / results["seconds_per_step"])
    assert results["flops_per_second"] == pytest.approx(results["flops_per_step"] / results["seconds_per_step"])
    assert 0 <= results["data_wait_fraction"] < 1
    assert results["compile_seconds"] > results["seconds_per_step"] > 0
    assert results["peak_bytes"] > 50 * 2**20  # the memory of an interpreter with jax
    assert set(results["parts"]) == {"vae", "diffae", "closed_loop"}
    assert results["parts"]["vae"]["seconds_per_step"] < results["parts"]["closed_loop"]["seconds_per_step"]
    assert "closed loop over" in timing.table(results)
    json.dumps(results, allow_nan=False)


@pytest.mark.slow
def test_the_commands_output_is_json_alone(tmp_path):
    small = ("--config.model.channel_multipliers=(1,)", "--config.model.encoder_multipliers=(1,)")
    command = ["benchmark", "--config=configs/scenes.py:tiny", *small]
    options = ("--steps=2", "--nodata", "--noparts", "--json", f"--out={tmp_path / 'benchmark.json'}")
    done = doors.run(*command, *options)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results == json.loads((tmp_path / "benchmark.json").read_text())
    assert results["seconds_per_step"] > 0

    done = doors.run(*command, "--nodata", "--config.data.batch_size=0")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip().splitlines()[-1] == "error: data.batch_size=0 must be at least 1"
