"""The records of cells as folders and as lines, and which records count for a table."""

import dataclasses
import json
import pathlib

import pytest

from cldis_jax.runtime import report
from cldis_jax.runtime.config_json import flatten, is_free
from cldis_jax.runtime.errors import UserError
from cldis_jax.study import records
from tests.study.fabricated import changed, config_of, fabricate, make, only

STUDIES = pathlib.Path(__file__).parents[2] / "docs/studies"


def test_lines_are_the_records_of_the_folders(tmp_path):
    table = only(make(seeds=1), "diffae_adagn", "cldis_adagn")
    loop, alone = table.cells
    scores = {"dci/disentanglement": 0.1 + 0.2, "mig/mig": 0.5}
    fabricate(loop, tmp_path, {"z_sem": scores, "z_disen": scores}, floors={"random_mix": 0.17})
    fabricate(alone, tmp_path, {"z_sem": scores}, "failed", "step 3: loss=nan")
    found = records.read(tmp_path)
    assert found[loop.id]["results"]["z_sem"]["settings"]["workdir"] == str(loop.folder(tmp_path) / "run")
    for results in found[loop.id]["results"].values():
        latent = results["settings"]["latent"]  # the lines name no folder of this machine
        results["settings"] |= {"workdir": f"cells/{loop.id}/run", "out": f"cells/{loop.id}/{latent}"}
    assert found[loop.id]["results"]["z_disen"]["dci"]["disentanglement"]["mean"] == 0.1 + 0.2
    assert found[loop.id]["config"] == config_of(loop)
    assert found[alone.id]["results"] == {}  # a failed cell may have results of an earlier run; they do not count
    records.write_lines(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["cells.jsonl"]
    lines = (tmp_path / "cells.jsonl").read_text().splitlines()
    assert [json.loads(line)["cell"] for line in lines] == sorted([loop.id, alone.id])
    assert records.read_lines(tmp_path) == found
    (tmp_path / "cells").rename(tmp_path / "gone")
    assert records.read(tmp_path) == found
    stamp = (tmp_path / "cells.jsonl").stat().st_mtime_ns
    records.write_lines(tmp_path)  # without folders the lines do not change
    assert (tmp_path / "cells.jsonl").stat().st_mtime_ns == stamp


def test_a_folder_replaces_its_line_and_other_lines_stay(tmp_path):
    first, second = only(make(seeds=2), "diffae_adagn").cells
    for cell in (first, second):
        fabricate(cell, tmp_path, {"z_sem": {"mig/mig": 0.25}})
    records.write_lines(tmp_path)
    (tmp_path / "cells").rename(tmp_path / "gone")
    fabricate(second, tmp_path, {"z_sem": {"mig/mig": 0.75}})
    for found in (records.read(tmp_path), (records.write_lines(tmp_path), records.read_lines(tmp_path))[1]):
        means = {name: record["results"]["z_sem"]["mig"]["mig"]["mean"] for name, record in found.items()}
        assert means == {first.id: 0.25, second.id: 0.75}


@pytest.mark.parametrize("status", ["failed", "no data"])
def test_a_folder_that_is_not_done_never_replaces_a_line_that_is(tmp_path, status):
    (cell,) = only(make(seeds=1), "diffae_adagn").cells
    fabricate(cell, tmp_path, {"z_sem": {"mig/mig": 0.25}})
    records.write_lines(tmp_path)
    (tmp_path / "cells").rename(tmp_path / "gone")
    fabricate(cell, tmp_path, {}, status, "interrupted")
    before = records.read_lines(tmp_path)
    assert records.read(tmp_path) == before
    records.write_lines(tmp_path)
    assert records.read_lines(tmp_path) == before


def test_lines_name_no_folder_of_this_machine(tmp_path):
    (cell,) = only(make("celeba", seeds=1), "diffae_cross_attention", dataset="celeba").cells
    cell = changed(cell, data__path="/home/me/faces.zip")
    fabricate(cell, tmp_path, {"z_sem": {"tad/tad": 0.25}})
    path = cell.folder(tmp_path) / "z_sem/evaluate.json"
    results = report.read_json(path)
    results["settings"] |= {"data": "folder /home/me/faces.zip"}
    report.write_json(path, results)
    written = report.read_json(cell.folder(tmp_path) / "cell.json")
    report.write_json(
        cell.folder(tmp_path) / "cell.json", written | {"commands": ["main --config.data.path=/home/me/faces.zip"]}
    )
    records.write_lines(tmp_path)
    (line,) = (tmp_path / "cells.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["config"]["data"]["path"] == "faces.zip"
    assert record["commands"] == ["main --config.data.path=faces.zip"]
    assert record["results"]["z_sem"]["settings"]["data"] == "folder faces.zip"
    assert "/home" not in line
    assert str(tmp_path) not in line
    assert records.state(cell, record) == ("done", "")


def test_seeds_of_before_and_after_a_new_field_are_one_config(tmp_path):
    first, second = only(make(seeds=2), "diffae_adagn").cells
    found = [{"cell": cell.id, "config": config_of(cell)} for cell in (first, second)]
    del found[0]["config"]["data"]["holdout_split"]
    records.check_one_config(found)
    found[1]["config"]["model"]["latent_dim"] = 7
    with pytest.raises(UserError, match=r"model\.latent_dim=7, not 10"):
        records.check_one_config(found)


def test_a_record_counts_only_for_its_config_and_evaluation(tmp_path):
    (cell,) = only(make(seeds=1), "diffae_adagn").cells
    fabricate(cell, tmp_path, {"z_sem": {"mig/mig": 0.5}})
    record = records.read_folder(cell.folder(tmp_path))
    assert records.state(cell, None) == ("not run", "")
    assert records.state(cell, record) == ("done", "")
    other = changed(cell, model__latent_dim=6)
    assert records.state(other, record) == ("other config", "model.latent_dim=10, not 6")
    assert records.state(changed(cell, train__steps=9), record)[0] == "other config"
    elsewhere = dataclasses.replace(cell, data={"data.path": "/elsewhere"})
    assert records.state(elsewhere, record)[0] == "done"
    for flag, value, status in (
        ("floor_seeds", 0, "done"),
        ("floor_seeds", 2, "unfinished"),
        ("num_votes", 7, "unfinished"),
    ):
        asked = dataclasses.replace(cell, evaluation=cell.evaluation | {flag: value})
        assert records.state(asked, record)[0] == status
    assert records.state(cell, record | {"results": {}})[0] == "unfinished"


def test_fields_of_a_missing_vae_do_not_count():
    (alone,) = only(make(seeds=1), "diffae_adagn").cells
    (loop,) = only(make(seeds=1), "cldis_adagn").cells
    without, with_one = config_of(alone), config_of(loop)
    other = {"vae__beta": 99.0, "feedback__max_capacity": 99.0, "distillation__sigma_floor": 0.9}
    alone, loop = changed(alone, **other), changed(loop, **other)
    assert records.changed_fields(alone, without) == []
    assert len(records.changed_fields(loop, with_one)) == 3
    assert records.changed_fields(alone, with_one) != []  # this run had a VAE, so its fields count


def test_the_averages_of_L_ind_count_without_a_vae():
    (alone,) = only(make(seeds=1), "diffae_adagn").cells
    for weight, expected in ((0.0, []), (1e-3, ["feedback.ema_decay=0.99, not 0.5"])):
        one = changed(alone, independence__weight=weight)
        assert records.changed_fields(changed(one, feedback__ema_decay=0.5), config_of(one)) == expected


def test_fields_of_a_missing_denoiser_do_not_count():
    (alone,) = only(make(seeds=1), "beta_vae").cells
    unread = {"distillation__listen_steps": 99, "feedback__swap_steps": 99, "model__standardize_z_sem": True}
    assert records.changed_fields(changed(alone, **unread), config_of(alone)) == []
    noisy = changed(alone, **unread, diffusion__beta_end=0.5)
    assert len(records.changed_fields(noisy, config_of(alone))) == 1


def test_fields_that_an_open_loop_does_not_read_do_not_count():
    names = ("cldis_no_feedback_C_annealed_no_swap", "cldis_adagn")
    ramp, gain = only(make("ablation", "long", seeds=1), *names).cells
    unread = {"feedback__reference": 9.0, "feedback__swap_steps": 99, "feedback__swap_probability": 0.0}
    for cell, expected in ((ramp, []), (gain, ["feedback.reference=9.0, not 5.0"])):
        assert records.changed_fields(cell, config_of(changed(cell, **unread))) == expected


def test_a_field_that_only_one_side_has_is_a_difference(monkeypatch):
    (loop,) = only(make(seeds=1), "cldis_adagn").cells
    record = config_of(loop)
    record["vae"] |= {"retired": 3}
    del record["vae"]["antithetic"]
    expected = ["vae.antithetic=(absent), not True", "vae.retired=3, not (absent)"]
    assert records.changed_fields(loop, record) == expected
    # Only `upgrade` converts records of earlier versions.
    upgraded = record | {"vae": config_of(loop)["vae"]}
    monkeypatch.setattr(records, "upgrade", lambda values: upgraded)
    assert records.changed_fields(loop, record) == []

    def refuse(values):
        raise UserError("the stored config has vae.retired=3")

    monkeypatch.setattr(records, "upgrade", refuse)
    assert records.changed_fields(loop, record) == ["the stored config has vae.retired=3"]


@pytest.mark.parametrize("study", ["cpu", "long", "long_x0", "long_independent"])
def test_a_committed_cell_names_no_folder_of_a_machine(study):
    for record in records.read(STUDIES / study).values():
        for command in record["commands"]:
            program, *_, flags = command.partition(" -m cldis_jax.")
            assert program == "python"
            assert " --workdir=cells/" in flags
        for found in record["results"].values():
            assert all(found["settings"][path].startswith("cells/") for path in ("workdir", "out"))


def test_a_committed_cell_keeps_its_complete_config():
    """Today's configs differ. A table of the cells as they were run does not depend on them."""
    fields = {name for name in flatten(config_of(make().cells[0])) if not is_free(name)}
    for study in ("cpu", "long"):
        found = records.read(STUDIES / study)
        for record in found.values():
            assert {name for name in flatten(records.upgrade(record["config"])) if not is_free(name)} == fields
        cells = [cell for cell in make("main", study).cells if cell.id in found]
        assert {records.state(cell, found[cell.id], as_run=True) for cell in cells} == {("done", "")}
        (loop, *_) = [cell for cell in cells if cell.method == "cldis_cross_attention"]
        status, why = records.state(loop, found[loop.id])
        assert status == "other config"
        assert "diffusion.prediction=v, not x0" in why


@pytest.mark.parametrize("kind", ["folder", "line"])
def test_a_run_of_another_config_is_a_conflict(tmp_path, kind):
    (cell,) = only(make(seeds=1), "diffae_adagn").cells
    fabricate(cell, tmp_path, {"z_sem": {"mig/mig": 0.5}})
    folder = cell.folder(tmp_path)
    record = records.read_folder(folder)
    if kind == "folder":
        report.write_json(folder / "run" / "config.json", config_of(cell))
    for asked, expected in (
        (cell, ""),
        (changed(cell, train__steps=cell.steps + 1), ""),  # continues the training
        (changed(cell, train__steps=cell.steps - 1), "train.steps=6000, not 5999"),
        (changed(cell, model__latent_dim=6), "model.latent_dim=10, not 6"),
    ):
        assert records.conflict(asked, record, folder) == expected
    interrupted = records.conflict(changed(cell, model__latent_dim=6), None, folder)
    assert interrupted == ("model.latent_dim=10, not 6" if kind == "folder" else "")


def test_a_shorter_run_is_a_conflict_if_the_rate_depends_on_the_steps(tmp_path):
    (cell,) = only(make(seeds=1), "diffae_adagn").cells
    cell = changed(cell, train__decay_share=0.3)
    fabricate(cell, tmp_path, {"z_sem": {"mig/mig": 0.5}})
    folder, longer = cell.folder(tmp_path), changed(cell, train__steps=cell.steps + 1)
    assert records.conflict(longer, records.read_folder(folder), folder) == "train.steps=6000, not 6001"


def test_scores_have_every_metric_but_no_settings():
    record = records.read_lines(STUDIES / "cpu")["scenes/cldis_adagn/seed0"]
    found = records.scores(record["results"]["z_sem"])
    assert found["dci/disentanglement"]["mean"] == pytest.approx(0.195, abs=5e-4)
    assert {name.partition("/")[0] for name in found} == {"factor_vae", "dci", "mig"}
