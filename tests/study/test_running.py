"""Running one cell: what is recorded, kept and skipped."""

from cldis_jax.runtime import report
from cldis_jax.study import cells, records, running
from tests.study.fabricated import changed, config_of, fabricate, make, only


def test_a_set_without_data_is_recorded_without_running(tmp_path):
    cell = next(cell for cell in make(seeds=1).cells if cell.dataset == "cars3d")
    lack = running.missing_data(cells.resolve(cell))
    assert "Unpack" in lack
    folder = cell.folder(tmp_path)
    with running.Children() as children:
        assert running.run_cell(cell, folder, children, lack) == "no data"
    assert records.state(cell, records.read_folder(folder)) == ("no data", lack)
    assert not (folder / "run").exists()


def test_a_cell_that_another_process_runs_is_skipped(tmp_path):
    cell = make(seeds=1).cells[0]
    with running.Children() as children, running.locked(tmp_path) as ours:
        assert ours
        assert running.run_cell(cell, tmp_path, children) == "run elsewhere"


def test_earlier_results_stay_until_the_cell_is_trained_again(tmp_path, monkeypatch):
    (cell,) = only(make(seeds=1), "diffae_adagn").cells
    fabricate(cell, tmp_path, {"z_sem": {"mig/mig": 0.5}})
    folder = cell.folder(tmp_path)
    report.write_json(folder / "run" / "main.json", {"step": cell.steps, "config": config_of(cell)})
    assert running.run_cell(cell, folder, running.Children()) == "done"  # everything exists, so no command runs
    record = report.read_json(folder / "cell.json")
    assert (record["commit"], record["machine"]["cpu"]) == ("abc", "a cpu")
    assert record["scores"]["z_sem"]["mig/mig"] == 0.5

    def fail(self, command, log):
        assert command[3] == f"--config={running.CONFIGS}/scenes.py:cpu"
        raise running.CellError("out of memory")

    monkeypatch.setattr(running.Children, "run", fail)
    assert running.run_cell(changed(cell, train__steps=cell.steps + 1), folder, running.Children()) == "failed"
    assert (folder / "z_sem" / "evaluate.json").exists()
    record = report.read_json(folder / "cell.json")
    assert record["commit"] == running.commit()
    assert " --config=configs/scenes.py:cpu " in record["commands"][0]

    (folder / "run" / "checkpoints" / "100").mkdir(parents=True)  # of another version, from which the run would go on
    report.write_json(folder / "cell.json", record | {"commit": "abc"})
    assert running.run_cell(changed(cell, train__steps=cell.steps + 1), folder, running.Children()) == "failed"
    assert report.read_json(folder / "cell.json")["commit"] == f"abc, {running.commit()}"


def test_a_run_beyond_its_steps_fails(tmp_path, monkeypatch):
    (cell,) = only(make(seeds=1), "diffae_adagn").cells
    report.write_json(tmp_path / "run" / "main.json", {"step": cell.steps + 1, "config": config_of(cell)})
    monkeypatch.setattr(running.Children, "run", lambda *_: None)
    assert running.run_cell(cell, tmp_path, running.Children()) == "failed"
    error = report.read_json(tmp_path / "cell.json")["error"]
    assert error == f"{tmp_path / 'run'} is at step {cell.steps + 1}, past the {cell.steps} asked for"
