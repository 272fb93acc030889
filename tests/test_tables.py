"""The command `tables`: flags, the dry run, and two cells end to end."""

import dataclasses
import re
import shlex
import shutil

import pytest

from cldis_jax import tables
from cldis_jax.runtime import report
from cldis_jax.runtime.errors import UserError
from cldis_jax.study import cells, records, running
from tests import doors
from tests.study.fabricated import changed, fabricate, make, only

TINY = {"data__image_size": 16, "train__steps": 4, "train__log_every": 4, "train__num_pictures": 2}
QUICK = {"seeds": 1, "num_images": 400, "num_train": 200, "num_test": 100, "num_votes": 20, "pool": "heldout"}


@pytest.fixture
def run_door():
    """Calls the command with flags and restores them afterwards."""
    values = tables.flags.FLAGS
    saved = values.flag_values_dict()

    def run(*flags):
        values.unparse_flags()
        values(["tables", *flags])
        tables.main()

    yield run
    values.unparse_flags()
    for name, value in saved.items():
        values[name].value = value


def test_a_dry_run_prints_the_commands_and_runs_none(tmp_path):
    out = tmp_path / "out"
    command = ["tables", "--table=ablation", f"--out={out}", "--dry_run", "--seeds=1"]
    done = doors.run(*command, "--shard=1/2")
    lines = done.stdout.splitlines()
    chosen = cells.shard(make("ablation", seeds=1).cells, 1, 2)
    assert [line for line in lines if line.startswith("#")] == [f"# {cell.id}: not run" for cell in chosen]
    expected = [command for cell in chosen for command in running.commands(cell, cell.folder(out))]
    assert [shlex.split(line) for line in lines if not line.startswith("#")] == expected
    only = doors.run(*command, "--only=gradient|mse")
    named = [line for line in only.stdout.splitlines() if line.startswith("#")]
    assert named == ["# scenes/cldis_L_dt_mse/seed0: not run", "# scenes/cldis_teacher_gradient_on/seed0: not run"]
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--table=main", "--out=o", "--only=magic"], "--only='magic' matches the id of no cell"),
        (["--table=main", "--out=o", "--only=["], r"--only='\[' is no regular expression"),
        ([], "--table is required"),
        (["--table=main"], "--out is required"),
        (["--table=main", "--out=gs://bucket"], "must be a folder of this machine"),
        (["--table=main", "--out=o", "--shard=2/2"], "--shard='2/2' is not I/N"),
        (["--table=main", "--out=o", "--shard=x"], "--shard='x' is not I/N"),
        (["--table=main", "--out=o", "--seeds=x"], "--seeds='x' is not a number N or a range A-B"),
        (["--table=main", "--out=o", "--seeds=-5"], "--seeds='-5' is not"),
        (["--table=main", "--out=o", "--seeds=0"], "--seeds='0' has no seed"),
        (["--table=main", "--out=o", "--seeds=9-5"], "--seeds='9-5' has no seed"),
        (["--table=main", "--out=o", "--data=lsun=/x"], "with a NAME of shapes3d, cars3d, mpi3d, celeba"),
        (["--table=main", "--out=o", "--data=cars3d"], "is not NAME=PATH"),
        (["--table=celeba", "--out=o", "--inception_weights=/none"], "there is no file /none"),
        (["--table=celeba", "--out=o", "--lpips_weights=/none"], "takes two files"),
    ],
)
def test_bad_flags_are_one_clear_line(flags, message, tmp_path, monkeypatch, run_door):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        run_door(*flags)
    assert not any(tmp_path.iterdir())


def test_a_range_of_seeds(tmp_path, run_door, capsys):
    """The first seed has the floors, because floors do not depend on the seed."""
    only_one = "--only=^scenes/diffae_adagn/"
    run_door("--table=main", f"--out={tmp_path}", "--seeds=5-6", "--dry_run", only_one)
    printed = capsys.readouterr().out
    assert re.findall(r"train.seed=(\d+)", printed) == ["5", "6"]
    assert re.findall(r"--floor_seeds=(\d+)", printed) == ["1", "0"]


def test_collecting_updates_the_lines_and_works_from_them_alone(tmp_path, run_door):
    (cell,) = only(make(seeds=1), "diffae_adagn").cells
    fabricate(cell, tmp_path, {"z_sem": {"mig/mig": 0.5}})
    run_door("--table=main", f"--out={tmp_path}", "--seeds=1", "--collect")
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert first.keys() == {"cells.jsonl", *(f"main.{kind}" for kind in ("json", "md", "tex", "csv", "png"))}
    assert "| Diff-AE alone, AdaGN | z_sem | - | - | 0.500 |" in first["main.md"].decode()
    shutil.rmtree(tmp_path / "cells")
    run_door("--table=main", f"--out={tmp_path}", "--seeds=1", "--collect")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


def test_finished_cells_are_not_run_again(tmp_path, run_door, monkeypatch):
    (cell,) = only(make(seeds=1), "diffae_adagn").cells
    fabricate(cell, tmp_path, {"z_sem": {"mig/mig": 0.5}})
    records.write_lines(tmp_path)
    shutil.rmtree(tmp_path / "cells")
    monkeypatch.setattr(running, "run_cell", None)  # a call would raise
    run_door("--table=main", f"--out={tmp_path}", "--seeds=1", f"--only=^{cell.id}$")
    rows = report.read_json(tmp_path / "main.json")["sections"][0]["rows"]
    assert [row["scores"]["mig/mig"]["mean"] for row in rows if row["scores"]] == [0.5]


def test_a_run_of_another_config_is_not_replaced(tmp_path):
    (cell,) = only(make(seeds=1), "diffae_adagn").cells
    fabricate(cell, tmp_path, {"z_sem": {"mig/mig": 0.5}})
    other = changed(cell, model__latent_dim=6)
    tables.check_free((cell,), tmp_path)
    for _ in range(2):  # first from its folder, then from its line
        with pytest.raises(UserError, match=rf"{cell.id} holds a run of another config \(model.latent_dim=10, not 6\)"):
            tables.check_free((other,), tmp_path)
        records.write_lines(tmp_path)
        shutil.rmtree(tmp_path / "cells", ignore_errors=True)


@pytest.mark.slow
def test_two_cells_end_to_end(tmp_path):
    """One cell is trained and evaluated, one fails. A second run keeps the first cell and tries the other again."""
    table = only(make("main", seeds=1), "cldis_adagn", "diffae_adagn")
    good, bad = (
        dataclasses.replace(
            changed(cell, **TINY),
            config="scenes.py:tiny",
            evaluation=cell.evaluation | QUICK,
            metrics=("factor_vae", "mig"),
        )
        for cell in table.cells
    )
    bad = changed(bad, train__learning_rate=-1.0)
    table = dataclasses.replace(table, cells=(good, bad))
    assert tables.run(table.cells, tmp_path) == 1
    tables.write(table, tmp_path)

    record = report.read_json(good.folder(tmp_path) / "cell.json")
    assert record["status"] == "done"
    assert record["training_seconds"] > 0
    assert set(record["evaluation_seconds"]) == set(record["scores"]) == {"z_sem", "z_disen"}
    assert len(record["commands"]) == 3
    assert all(command.startswith("python -m cldis_jax.") for command in record["commands"])
    assert all(f" --workdir=cells/{good.id}/run " in command for command in record["commands"])
    evaluate = report.read_json(good.folder(tmp_path) / "z_disen" / "evaluate.json")
    assert record["scores"]["z_disen"]["mig/mig"] == evaluate["mig"]["mig"]["mean"]
    collected = report.read_json(tmp_path / "main.json")
    first = collected["sections"][0]["rows"][0]
    assert first["scores"]["mig/mig"]["std"] is None
    assert collected["cells"][1]["error"].startswith("train.learning_rate=-1.0")
    for ending in ("md", "tex", "csv", "png"):
        assert (tmp_path / f"main.{ending}").stat().st_size > 0

    stamp = (good.folder(tmp_path) / "cell.json").stat().st_mtime_ns
    assert tables.run(table.cells, tmp_path) == 1
    assert (good.folder(tmp_path) / "cell.json").stat().st_mtime_ns == stamp
