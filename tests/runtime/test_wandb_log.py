"""Weights & Biases: what is sent, one run for a resumed workdir, and offline with the library itself."""

import sys
import time
import types

import numpy as np
import pytest

from cldis_jax import config as configs
from cldis_jax.runtime import report, wandb_log

PICTURE = np.zeros((4, 4, 3), np.uint8)


class Run(list):
    """Keeps what a run logs."""

    finished = False

    def log(self, values, step):
        self.append((step, values))

    def finish(self):
        self.finished = True


@pytest.fixture
def started(monkeypatch):
    """The (arguments, run) of each wandb.init, of a stand-in for the library."""
    found = []

    def init(**arguments):
        found.append((arguments, Run()))
        return found[-1][1]

    library = types.ModuleType("wandb")
    library.init, library.Image = init, lambda picture: ("image", picture.shape)
    monkeypatch.setitem(sys.modules, "wandb", library)
    return found


def test_scalars_and_pictures_go_there_too(started, tmp_path):
    for _ in range(2):  # the second is a resumed run
        log = report.Report(str(tmp_path), 10, 0, project="scenes", config={"train": {"steps": 10}})
        log.scalars(3, {"L_diff": 0.5}, {})
        log.picture(3, "curves", PICTURE)
        log.close()
    (arguments, run), (again, _) = started
    assert run == [(3, {"L_diff": 0.5}), (3, {"curves": ("image", (4, 4, 3))})]
    assert run.finished
    assert arguments["project"] == "scenes"
    assert arguments["config"] == {"train": {"steps": 10}}
    assert arguments["dir"] == str(tmp_path)
    assert arguments["id"] == again["id"] == (tmp_path / wandb_log.ID_FILE).read_text().strip()


def test_nothing_is_started_without_a_project(started, tmp_path):
    report.Report(str(tmp_path), 10, 0).close()
    assert started == []


def test_a_project_without_the_library_is_refused(tiny, monkeypatch):
    monkeypatch.setattr(wandb_log, "is_installed", lambda: False)
    configs.validate(tiny)
    tiny.train.wandb = "scenes"
    with pytest.raises(configs.ConfigError, match=r"train.wandb='scenes' needs .*cldis_jax\[wandb\]"):
        configs.validate(tiny)


@pytest.mark.slow
def test_offline(tmp_path, monkeypatch):
    """The library itself, without a network."""
    pytest.importorskip("wandb", reason="pip install 'cldis_jax[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    log = report.Report(str(tmp_path), 10, 0, project="scenes", config={"train": {"steps": 10}})
    for step in (1, 2):
        log.scalars(step, {"L_diff": 1 / step}, {})
    log.picture(2, "curves", PICTURE)
    log.close()
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    (record,) = run.glob("*.wandb")
    end = time.monotonic() + 30
    while b"L_diff" not in record.read_bytes():  # the library's own process writes it
        assert time.monotonic() < end, "nothing was written in 30 s"
        time.sleep(0.1)
    assert list(run.glob("files/media/images/curves_*.png"))
