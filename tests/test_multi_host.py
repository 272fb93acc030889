"""Two processes on one machine: they train as one, read disjoint shares, stop together and resume exactly."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from cldis_jax import data
from cldis_jax.data import make_loader

ROOT = pathlib.Path(__file__).parents[1]
STEPS = 40


class Run:
    """One run of `main` as several processes."""

    def __init__(self, workdir, num_processes=2, devices=1, **fields):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        fields = {
            "train.steps": STEPS,
            "checkpoint.every_steps": 10,
            "model.channel_multipliers": "(1,)",
            "model.encoder_multipliers": "(1,)",
        } | fields
        command = [
            sys.executable, "-m", "cldis_jax.main", "--config=configs/scenes.py:tiny", f"--workdir={workdir}",
            *(f"--config.{name}={value}" for name, value in fields.items()),
        ]  # fmt: skip
        if num_processes > 1:
            command += [f"--coordinator=127.0.0.1:{port}", f"--num_processes={num_processes}"]
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0",
        }
        self.workdir = pathlib.Path(workdir)
        self.logs = [
            self.workdir.with_name(f"{self.workdir.name}_{i}_{time.time_ns()}.log") for i in range(num_processes)
        ]
        self.processes = [
            subprocess.Popen(
                command + ([f"--process_id={i}"] if num_processes > 1 else []),
                env=environment,
                cwd=ROOT,
                stdout=log.open("w"),
                stderr=subprocess.STDOUT,
            )
            for i, log in enumerate(self.logs)
        ]

    def wait(self):
        """Exit codes of all processes."""
        try:
            return [process.wait(timeout=900) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()

    def output(self):
        return "\n".join(log.read_text() for log in self.logs)

    def wait_for_step(self, step):
        lines = self.workdir / "scalars.jsonl"
        while not (lines.exists() and any(json.loads(line)["step"] >= step for line in lines.read_text().splitlines())):
            assert all(process.poll() is None for process in self.processes), self.output()
            time.sleep(0.05)

    def digest(self):
        return json.loads((self.workdir / "main.json").read_text())["params_sha256"]


def test_processes_read_disjoint_shares_of_the_same_batches(tiny):
    source = data.make_source(tiny.data)
    arguments = {"batch_size": 8, "seed": 3, "threads": 0}
    whole = make_loader(source, np.arange(40), **arguments)
    shares = [make_loader(source, np.arange(40), process_index=i, process_count=2, **arguments) for i in range(2)]
    for _ in range(7):  # more than an epoch
        together = np.concatenate([next(share)["image"] for share in shares])
        alone = next(whole)["image"]
        assert sorted(image.tobytes() for image in together) == sorted(image.tobytes() for image in alone)


@pytest.mark.slow
def test_two_processes_stop_and_resume_exactly(tmp_path):
    uninterrupted = Run(tmp_path / "whole")
    assert uninterrupted.wait() == [0, 0], uninterrupted.output()

    for victim in (0, 1):  # one process gets SIGTERM; both stop at the same step
        workdir = tmp_path / f"interrupted_{victim}"
        run = Run(workdir)
        run.wait_for_step(10)
        run.processes[victim].send_signal(signal.SIGTERM)
        assert run.wait() == [143, 143], run.output()
        assert "stopped at step" in run.output()
        assert not (workdir / "main.json").exists()
        resumed = Run(workdir)
        assert resumed.wait() == [0, 0], resumed.output()
        assert "resuming" in resumed.output()
        assert resumed.digest() == uninterrupted.digest()


@pytest.mark.slow
def test_two_processes_stop_with_several_steps_in_one_dispatch(tmp_path):
    run = Run(tmp_path / "run", **{"train.steps": 1_000_000, "train.steps_per_dispatch": 2})
    run.wait_for_step(20)  # after two saves
    run.processes[1].send_signal(signal.SIGTERM)
    assert run.wait() == [143, 143], run.output()
    assert "stopped at step" in run.output()


@pytest.mark.slow
def test_parameters_that_are_split_over_processes_are_gathered_for_pictures(tmp_path):
    """At steps with a save and without one, and when a run has nothing left but its results."""
    split = {"train.steps": 15, "train.picture_every": 5, "sharding.mesh.fsdp": 2, "sharding.fsdp_min_bytes": 256}
    for _ in range(2):
        run = Run(tmp_path / "run", **split)
        assert run.wait() == [0, 0], run.output()
        (tmp_path / "run/main.json").unlink()
    drawn = {path.name for path in (tmp_path / "run/pictures").iterdir()}
    assert {f"curves_{step:08d}.png" for step in (5, 10, 15)} <= drawn


@pytest.mark.slow
def test_another_number_of_devices_resumes(tmp_path):
    """Saved by one device, split over four, and back: all steps are done, and all parameters are there and finite."""
    workdir = tmp_path / "run"
    assert Run(workdir, num_processes=1, **{"train.steps": 10}).wait() == [0]
    split = {"train.steps": 20, "sharding.mesh.fsdp": 4, "sharding.fsdp_min_bytes": 256}
    run = Run(workdir, num_processes=1, devices=4, **split)
    assert run.wait() == [0], run.output()
    assert "resuming" in run.output()
    back = Run(workdir, num_processes=1, **{"train.steps": 30})
    assert back.wait() == [0], back.output()
    straight = Run(tmp_path / "straight", num_processes=1, **{"train.steps": 30})
    assert straight.wait() == [0], straight.output()
    losses = [json.loads((path / "main.json").read_text())["scalars"]["loss"] for path in (workdir, straight.workdir)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
