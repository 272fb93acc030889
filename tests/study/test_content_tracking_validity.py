"""The validity study as a command: its files, and a quick study that passes with few images and frames."""

import json
import resource
import subprocess
import sys

import numpy as np
import pytest

from cldis_jax.metrics.content_tracking import SPAN
from cldis_jax.study import content_tracking_validity as study


@pytest.mark.slow
def test_the_quick_study_passes_within_its_time(tmp_path):
    command = [sys.executable, "-m", "cldis_jax.study.content_tracking_validity", "--quick", f"--out={tmp_path}"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert (
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 50
    )  # CPU seconds, independent of the load
    assert "FAILED" not in done.stdout
    result = json.loads((tmp_path / "content_tracking_validity.json").read_text())
    true, rotation = result["true_factors"], result["rotation"]
    assert true["score"] > 0.8
    assert rotation["angles"] == np.linspace(0, 45, 9).tolist()
    assert (np.diff(rotation["scores"]) < 0).all()
    assert rotation["spearman"] == pytest.approx(-1)
    assert result["duplicated"]["score"] < true["score"]
    assert result["dead"]["score"] < true["score"]
    assert (np.diff(result["noise"]["scores"]) < 0).all()
    assert result["setting"]["span"] == true["span"] == SPAN
    assert (tmp_path / "content_tracking_validity.png").exists()


def test_a_checkpoint_of_tapir_is_studied_in_a_quick_study_too(tmp_path, monkeypatch):
    """Invented scores instead of tracking."""
    studied = []

    def basis(setting, tracker, checkpoint):
        studied.append((tracker, checkpoint))
        plane = {"scores": [0.8, 0.7], "spearman": -1.0}
        rotation = {"angles": [0, 45], "scores": [0.8, 0.7], "spearman": -1.0, "planes": {"scale and hue": plane}}
        true = dict.fromkeys(("score", "low", "high", "consistency", "independence"), 0.8)
        worse = {"score": 0.5, "factors": {"scale": 0.5}}
        return {"true_factors": true, "rotation": rotation, "duplicated": worse, "dead": worse}, {}

    monkeypatch.setattr(study, "study_basis", basis)
    monkeypatch.setattr(study, "study_noise", lambda *_: {"sigmas": [0, 1], "scores": [0.8, 0.1], "spearman": -1.0})
    assert "trackers" not in study.run(tmp_path, quick=True)
    result = study.run(tmp_path, quick=True, checkpoint="tapir.npy")
    assert studied == [("lk", None), ("lk", "tapir.npy"), ("tapir", "tapir.npy")]
    assert set(result["trackers"]) == {"lk", "tapir"}
    assert any(line[0] == "tracker tapir" for line in study.rows(result))
