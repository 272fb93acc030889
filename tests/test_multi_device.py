"""Eight virtual devices compute the same as one device, on every mesh."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

WORKER = pathlib.Path(__file__).with_name("multi_device_worker.py")
# Compilation takes nearly all of the time, so optimisation is off.
XLA_FLAGS = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true"
)


def measure(*shapes, precision="float32"):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": XLA_FLAGS}
    done = subprocess.run(
        [sys.executable, WORKER, precision, *shapes],
        env=environment,
        cwd=WORKER.parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(report, shapes, loss_error=1e-5, params_error=1e-4):
    assert report["created"] < 1e-6
    for shape in shapes:
        facts = report[shape]
        fsdp = int(shape.split("x")[1])
        assert facts["loss_error"] < loss_error
        assert facts["params_error"] < params_error
        assert facts["donated"]
        assert facts["traces"] == 1
        assert (facts["split"] > 10) == (fsdp > 1)
        assert facts["shards"] == ([1, fsdp] if fsdp > 1 else [1])


def test_eight_devices_equal_one():
    check(measure("2x4"), ["2x4"])


@pytest.mark.slow
def test_eight_devices_equal_one_on_every_mesh():
    shapes = ["8x1", "4x2", "2x4", "1x8"]
    check(measure(*shapes), shapes)


@pytest.mark.slow
def test_split_parameters_travel_in_bfloat16():
    """Adam's first steps are as long as the learning rate (1e-4), whatever the gradient: a sign may differ."""
    check(measure("2x4", precision="bfloat16"), ["2x4"], loss_error=1e-2, params_error=1e-3)
