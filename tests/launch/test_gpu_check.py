"""The check of a GPU, run on the CPU: how commands end, the table, and all of it at a tiny size."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import gpu_check

ROOT = Path(__file__).parents[2]


@pytest.fixture
def setting(tmp_path):
    return gpu_check.Setting(tmp_path, tiny=True, deadline=time.monotonic() + 1000)


def test_a_check_that_fails_names_the_last_line(setting):
    def check(setting):
        return {"output": setting.succeed("timeit", "-n", "1", "-r", "1", "raise ValueError('no GPU')")}

    found = gpu_check.attempt(check, setting)
    assert found["status"] == "failed"
    assert found["error"] == "ValueError: no GPU"


def test_a_check_ends_with_the_budget(setting, monkeypatch):
    def check(setting):
        return setting.call("timeit", "-n", "1", "import time; time.sleep(60)")

    late = dataclasses.replace(setting, deadline=time.monotonic() + 0.3)
    assert gpu_check.attempt(check, late) == {"status": "not run", "seconds": 0.0, "error": "no time is left"}
    monkeypatch.setattr(gpu_check, "LEAST", 0)
    assert gpu_check.attempt(check, late)["status"] == "out of time"


def test_sigterm_is_sent_when_it_is_due(setting):
    status, _ = setting.call("timeit", "-n", "1", "import time; time.sleep(60)", stop_at=lambda: True)
    assert status == -15


def test_the_table_shows_every_check_and_the_comparison():
    celeba = {
        "status": "ok",
        "seconds": 90.0,
        "seconds_per_step": 0.0557,
        "flops_per_second": 1.93e14,
        "peak_bytes": 2**33,
        "compile_seconds": 47.0,
        "parts": {"diffae": {"seconds_per_step": 0.05}},
    }
    checks = {name: {"status": "not run", "seconds": 0.0, "error": "no time is left"} for name in gpu_check.CHECKS}
    checks["celeba"], checks["Diff-AE in PyTorch"] = celeba, {"status": "ok", "seconds": 9.0, "seconds_per_step": 0.1}
    results = {"device": "H100", "seconds": 99.0, "checks": checks, "against_torch": gpu_check.against_torch(checks)}
    text = gpu_check.table(results)
    assert "| celeba | ok | 90 | 55.7 ms a step, 193 TFLOP/s, 8.00 GiB at most, compiled in 47 s" in text
    assert "over PyTorch's: 0.50 (goal: at most 0.7)" in text
    assert text.count("no time is left") == len(checks) - 2


@pytest.mark.slow
def test_all_checks_pass_at_a_tiny_size(tmp_path):
    command = ["bash", "launch/gpu_check.sh", f"--out={tmp_path / 'out'}", "--installed", "--tiny", "--budget=3000"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "out" / "gpu_check.json").read_text())
    statuses = {name: found["status"] for name, found in results["checks"].items()}
    torch = statuses.pop("Diff-AE in PyTorch")
    assert set(statuses.values()) == {"ok"}
    assert torch in ("ok", "not run")
    assert results["checks"]["scenes, SIGTERM, resume"]["step"] == 8
    assert (results["against_torch"] is not None) == (torch == "ok")
    assert "| evaluation | ok |" in (tmp_path / "out" / "gpu_check.md").read_text()
