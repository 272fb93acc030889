"""Collecting: means, intervals, differences and floors; missing cells, published rows, committed studies."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import scipy.stats

from cldis_jax.runtime.errors import UserError
from cldis_jax.study import chart, collecting, records, rendering
from tests.study.fabricated import changed, fabricate, make, only, row

STUDIES = pathlib.Path(__file__).parents[2] / "docs/studies"


@pytest.mark.parametrize(
    ("study", "name", "seeds"),
    [("cpu", "main", 3), ("cpu", "ablation", None), ("long", "main", 3), ("long", "ablation", 3)],
)
def test_the_committed_tables_are_of_the_committed_cells(study, name, seeds):
    out = STUDIES / study
    assert not (out / "cells").exists()
    collected = collecting.collect(make(name, study, seeds=seeds), out, as_run=True)
    assert {cell["status"] for cell in collected.cells} == {"done"}
    assert collecting.AS_RUN in collected.table.notes
    assert rendering.to_markdown(collected) == (out / f"{name}.md").read_text()
    assert rendering.to_latex(collected) == (out / f"{name}.tex").read_text()
    assert rendering.to_csv(collected) == (out / f"{name}.csv").read_text()
    assert json.loads(json.dumps(collected.to_json())) == json.loads((out / f"{name}.json").read_text())


def test_mean_and_interval_over_seeds(tmp_path):
    table = only(make(seeds=3), "cldis_adagn")
    values = [0.3, 0.5, 0.4]
    low, high = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    for cell, value in zip(table.cells, values):
        scores = {"dci/disentanglement": value, "dci/completeness": 0.2, "mig/mig": 0.1, "factor_vae/factor_vae": 0.9}
        floors = {"random_mix": 0.17, "untrained": 0.02} if cell.seed == 0 else {}
        fabricate(cell, tmp_path, {"z_sem": scores, "z_disen": scores}, floors=floors)
    collected = collecting.collect(table, tmp_path)
    found = row(collected, "CL-Dis, AdaGN", "z_sem")
    score = found.scores["dci/disentanglement"]
    assert (score.mean, score.low, score.high) == pytest.approx((np.mean(values), low, high))
    assert score.by_seed == {"0": 0.3, "1": 0.5, "2": 0.4}
    assert found.seeds == "3"
    mix = row(collected, "floor: random mix of the labels, 10 codes", "-")
    assert mix.scores["mig/mig"].mean == pytest.approx(0.17)
    assert row(collected, "floor: untrained encoder, 10 codes", "z_disen").scores["mig/mig"].mean == pytest.approx(0.02)
    text = rendering.to_markdown(collected)
    numbers = "0.900 [0.900, 0.900] | 0.400 [0.152, 0.648] | 0.100 [0.100, 0.100]"
    assert f"| CL-Dis, AdaGN | z_sem | {numbers} | 3 | this study |" in text
    assert "a cpu, 2 cores" in text
    assert chart.bars(collected).shape[-1] == 3


def test_differences_are_paired_for_latents_of_the_same_runs_alone(tmp_path):
    """The seeds differ by far more than the latents do. Seed 2 of the second method is missing."""
    table = only(make(seeds=3), "cldis_adagn", "diffae_adagn")
    first, teacher, other = (0.3, 0.6, 0.9), (0.2, 0.51, 0.8), (0.2, 0.51)
    for cell in table.cells:
        if cell.method == "cldis_adagn":
            scores = {"z_sem": {"mig/mig": first[cell.seed]}, "z_disen": {"mig/mig": teacher[cell.seed]}}
            fabricate(cell, tmp_path, scores)
        elif cell.seed < len(other):
            fabricate(cell, tmp_path, {"z_sem": {"mig/mig": other[cell.seed]}})
    collected = collecting.collect(table, tmp_path)
    of_teacher, alone = collected.sections[0].differences
    found = of_teacher.scores["mig/mig"]
    low, high = scipy.stats.ttest_rel(first, teacher).confidence_interval(0.95)
    assert (found.mean, found.low, found.high) == pytest.approx((0.29 / 3, low, high))
    assert found.by_seed == pytest.approx({"0": 0.1, "1": 0.09, "2": 0.1})
    found = alone.scores["mig/mig"]
    low, high = scipy.stats.ttest_ind(first, other, equal_var=False).confidence_interval(0.95)
    assert (found.mean, found.low, found.high) == pytest.approx((0.6 - 0.355, low, high))
    text = rendering.to_markdown(collected)
    assert "### Scenes (rendered): CL-Dis, AdaGN, z_sem, minus each other row" in text
    assert "| CL-Dis, AdaGN | z_disen | - | - | +0.097 [+0.082, +0.111] | 3 | this study |" in text
    assert f"| Diff-AE alone, AdaGN | z_sem | - | - | +0.245 [{low:+.3f}, {high:+.3f}] | 2 of 3 (not run) |" in text


def test_metrics_of_later_versions_have_columns_where_some_cell_has_them(tmp_path):
    table = only(make(seeds=2), "diffae_adagn")
    old, new = table.cells
    fabricate(old, tmp_path, {"z_sem": {"mig/mig": 0.3}}, metrics=("factor_vae", "dci", "mig"))
    assert [c.label for c in collecting.collect(table, tmp_path).table.columns] == ["FactorVAE", "DCI", "MIG"]
    fabricate(new, tmp_path, {"z_sem": {"mig/mig": 0.3, "infomec/infom": 0.7}})
    collected = collecting.collect(table, tmp_path)
    assert [c.label for c in collected.table.columns][3:] == ["InfoM", "InfoC", "InfoE"]
    assert {cell["status"] for cell in collected.cells} == {"done"}
    assert "| 0.300 [0.300, 0.300] | 0.700 | - | 2 |" in rendering.to_markdown(collected).replace("- | - |", "- |")


def test_a_floor_is_next_to_rows_of_its_size(tmp_path):
    table = only(make("ablation", seeds=1), "cldis_cross_attention", "cldis_6_latents")
    for cell in table.cells:
        scores = {"dci/disentanglement": 0.3}
        fabricate(cell, tmp_path, {"z_sem": scores, "z_disen": scores}, floors={"random_mix": 0.2, "untrained": 0.1})
    collected = collecting.collect(table, tmp_path)
    rows = collected.sections[0].rows

    def floors_of(method, latent):
        return [r.method for r in rows if r.kind == "floor" and chart.is_floor_of(r, row(collected, method, latent))]

    baseline = "CL-Dis, cross-attention (baseline)"
    assert floors_of("6 latents", "z_sem") == [
        "floor: random mix of the labels, 6 codes",
        "floor: untrained encoder, 6 codes",
    ]
    assert floors_of(baseline, "z_disen") == [
        "floor: random mix of the labels, 10 codes",
        "floor: untrained encoder, 10 codes",
    ]
    sizes = [r.codes for r in rows if r.kind == "floor"]
    assert sizes == [6, 10, 6, 6, 10, 10]  # sorted as numbers; one untrained encoder for each latent
    assert chart.bars(collected).shape[-1] == 3


def test_floors_of_different_encoders_stay_apart(tmp_path):
    table = only(make(seeds=1), "cldis_cross_attention", "cldis_paper")
    for cell, value in zip(table.cells, (0.2, 0.1), strict=True):
        scores = {"dci/disentanglement": 0.3}
        fabricate(cell, tmp_path, {"z_sem": scores, "z_disen": scores}, floors={"untrained": value})
    collected = collecting.collect(table, tmp_path)
    floors = {
        (r.method, r.latent): (r.scores["dci/disentanglement"].mean, r.of)
        for r in collected.sections[0].rows
        if r.kind == "floor"
    }
    ours, paper = "CL-Dis, cross-attention", "CL-Dis, preset `paper`"
    name = "floor: untrained encoder, 10 codes"
    assert floors[f"{name}, strided E_sem", "z_sem"] == (pytest.approx(0.2), (ours,))
    assert floors[f"{name}, unet E_sem", "z_sem"] == (pytest.approx(0.1), (paper,))
    assert floors[name, "z_disen"] == (pytest.approx(0.15), ())
    beside = [r.method for r in collected.sections[0].rows if chart.is_floor_of(r, row(collected, paper, "z_sem"))]
    assert f"{name}, unet E_sem" in beside
    assert f"{name}, strided E_sem" not in beside


def test_runs_of_other_configs_are_not_averaged(tmp_path):
    table = only(make(seeds=2), "cldis_cross_attention")
    for cell, prediction in zip(table.cells, ("x0", "v"), strict=True):
        scores = {"dci/disentanglement": 0.3}
        fabricate(changed(cell, diffusion__prediction=prediction), tmp_path, {"z_sem": scores, "z_disen": scores})
    with pytest.raises(
        UserError, match=r"seed1 was run with another config than .*seed0: diffusion.prediction=v, not x0"
    ):
        collecting.collect(table, tmp_path, as_run=True)


def test_cells_from_lines_and_from_folders_make_one_table(tmp_path):
    table = only(make(seeds=2), "diffae_adagn")
    for cell, value in zip(table.cells, (0.25, 0.75)):
        fabricate(cell, tmp_path, {"z_sem": {"mig/mig": value}})
    expected = collecting.collect(table, tmp_path)
    assert expected.sections[0].rows[0].scores["mig/mig"].mean == 0.5
    records.write_lines(tmp_path)
    first, _ = table.cells
    first.folder(tmp_path).rename(tmp_path / "gone")
    assert collecting.collect(table, tmp_path) == expected


def test_results_of_another_config_are_not_shown(tmp_path):
    table = only(make(seeds=1), "diffae_adagn")
    (cell,) = table.cells
    fabricate(cell, tmp_path, {"z_sem": {"mig/mig": 0.5}})
    table = dataclasses.replace(table, cells=(changed(cell, model__latent_dim=6),))
    collected = collecting.collect(table, tmp_path)
    assert collected.sections[0].rows[0].seeds == "other config"
    assert chart.bars(collected) is None


def test_published_rows_are_below_with_their_source(tmp_path):
    table = make(seeds=1)
    collected = collecting.collect(table, tmp_path)
    sections = {section.dataset: section for section in collected.sections}
    for name in ("scenes", "sprites"):  # rendered sets have no published numbers
        assert all(r.kind == "ours" for r in sections[name].rows)
    kinds = [r.kind for r in sections["shapes3d"].rows]
    assert kinds == sorted(kinds)  # ours, then published
    encdiff = next(r for r in sections["shapes3d"].rows if r.method == "EncDiff (published)")
    assert encdiff.scores["dci/disentanglement"].mean == 0.969
    assert "EncDiff Table 1" in encdiff.source
    assert json.loads(json.dumps(collected.to_json()))["table"] == "main"
