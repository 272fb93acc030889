"""Rank correlations over trained models, from evaluation files."""

import json
import pathlib

import numpy as np
import pytest
from scipy.stats import spearmanr

from cldis_jax.study import content_tracking_models as study


def evaluation(tmp_path, i, score, dci, mig, **more):
    results = {
        "content_tracking": {"score": score, "low": score - 0.05, "high": score + 0.1},
        "dci": {"disentanglement": {"mean": dci, "std": 0.0}},
        "mig": {"mig": {"mean": mig, "std": 0.0}},
        "settings": {"workdir": f"runs/{i}/", "latent": "z_sem", "step": 10},
    }
    results |= more
    path = tmp_path / f"{i}.json"
    path.write_text(json.dumps(results))
    return str(path)


def test_correlations_and_plot(tmp_path):
    rng = np.random.default_rng(0)
    score, mig = rng.uniform(0.2, 0.8, 9), rng.uniform(0, 0.3, 9)
    models = [study.read(evaluation(tmp_path, i, score[i], score[i] ** 3, mig[i]))[0] for i in range(9)]
    assert models[4]["model"] == "runs/4 z_sem step 10"
    found = study.correlate(models)
    assert found["DCI"]["spearman"] == pytest.approx(1)
    assert found["MIG"]["spearman"] == pytest.approx(spearmanr(score, mig).statistic)
    assert len(np.unique(study.scatter(models, found).reshape(-1, 3), axis=0)) > 10


def test_the_average_and_its_interval(tmp_path):
    """With equal ranks every resample has the correlation 1, with reversed ranks -1."""
    models = []
    for i in range(9):
        infomec = {"infom": {"mean": 0.1 * i}, "infoc": {"mean": 0.2 * i}}
        tad = {"tad": {"mean": 1 - 0.1 * i}} if i else {"error": "it failed"}
        more = {"infomec": infomec, "tad": tad}
        models += study.read(evaluation(tmp_path, i, 0.05 * i, 0.9 - 0.1 * i, 0.3 * i, **more))
    found = study.correlate(models)
    average = found["mean of MIG, InfoM, InfoC"]
    assert models[2]["mean of MIG, InfoM, InfoC"] == pytest.approx(0.4)
    assert (average["spearman"], average["low"], average["high"]) == pytest.approx((1, 1, 1))
    assert found["DCI"]["high"] == pytest.approx(-1)
    assert "TAD" not in found  # it failed in the first file


def test_the_interval_covers_a_known_correlation(tmp_path):
    """Of 60 normal pairs with correlation .8; Spearman's is 6 / pi asin(.4) = .786."""
    pairs = np.random.default_rng(1).multivariate_normal([0.5, 0.5], [[0.01, 0.008], [0.008, 0.01]], 60)
    models = [study.read(evaluation(tmp_path, i, a, b, b))[0] for i, (a, b) in enumerate(pairs)]
    found = study.correlate(models)["DCI"]
    assert found["low"] < 0.786 < found["high"] < 0.95
    assert 0.1 < found["high"] - found["low"] < 0.4


def test_few_models_and_ties_have_an_interval():
    scores = [{"score": i / 4, "DCI": value} for i, value in enumerate((0.1, 0.1, 0.5, 0.6))]
    found = study.correlate(scores)["DCI"]
    assert found["spearman"] == pytest.approx(0.9486833)
    assert -1 <= found["low"] < found["spearman"] <= found["high"] <= 1
    constant = [model | {"MIG": 0.2} for model in scores]
    assert study.correlate(constant).keys() == {"DCI"}


def test_missing_metrics_and_models_are_named(tmp_path):
    path = tmp_path / "evaluate.json"
    path.write_text(json.dumps({"mig": {"mig": {"mean": 0.1}}, "settings": {}}))
    with pytest.raises(ValueError, match=r"evaluate.json lacks 'content_tracking'; run cldis_jax.evaluate"):
        study.read(str(path))
    with pytest.raises(ValueError, match="at least 4 models, got 1"):
        study.correlate(study.read(evaluation(tmp_path, 0, 0.5, 0.5, 0.5)))


def test_the_folder_of_a_study(tmp_path):
    """One model for each latent of each cell; a score without an interval counts, too."""
    cells = {"scenes/a/seed0": ("z_disen", "z_sem"), "scenes/b/seed0": ("z_sem",)}
    lines = []
    for cell, latents in cells.items():
        results = {
            latent: json.loads(pathlib.Path(evaluation(tmp_path, 0, 0.5, 0.4, 0.3)).read_text()) for latent in latents
        }
        for latent, found in results.items():
            found["settings"] |= {"workdir": f"cells/{cell}/run", "latent": latent}
            del found["content_tracking"]["low"], found["content_tracking"]["high"]
        lines.append(json.dumps({"cell": cell, "status": "done", "results": results}))
    (tmp_path / "cells.jsonl").write_text("\n".join(lines))
    models = study.read(str(tmp_path))
    assert [model["model"] for model in models] == [
        f"cells/{cell}/run {latent} step 10" for cell, latents in cells.items() for latent in latents
    ]
    assert all((model["score"], model["low"], model["high"]) == (0.5, 0.5, 0.5) for model in models)
    assert {model["DCI"] for model in models} == {0.4}
