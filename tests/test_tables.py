"""The tables: what cells they are made of, running, collecting and rendering, on fabricated results and end to end."""

import csv
import dataclasses
import io
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from cldis_jax import cli, tables
from cldis_jax.configs import beta_vae, scenes
from cldis_jax.method.losses import DISTILLATION_FORMS
from cldis_jax.runtime import report
from cldis_jax.runtime.checkpoint import config_to_json, flatten
from cldis_jax.study import cells, chart, collecting, methods, rendering, running

TABLES = [(name, scale) for name in cells.SEEDS for scale in cells.SCALES]
DOCS = pathlib.Path(__file__).parent.parent / "docs"
TINY = {"data.image_size": 16, "train.steps": 4, "train.log_every": 4, "train.num_pictures": 2}
QUICK = {"seeds": 1, "num_images": 400, "num_train": 200, "num_test": 100, "num_votes": 20, "pool": "heldout"}


def make(name="main", scale="cpu", **options):
    return cells.make_table(name, scale, cells.Options(**options))


def only(table, *methods, dataset="scenes"):
    """The table with the cells of a few methods and one data set."""
    kept = tuple(cell for cell in table.cells if cell.dataset == dataset and cell.method in methods)
    return dataclasses.replace(table, cells=kept)


def fabricate(cell, out, scores, status="done", error="", floors=None):
    """What running a cell leaves; `scores` are {latent: {"metric/name": value}}."""
    folder = cell.folder(out)
    record = {"status": status, "error": error, "config": config_to_json(cells.resolve(cell)), "commit": "abc"}
    record |= {"machine": {"cpu": "a cpu", "cores": 2}, "training_seconds": 60.0, "evaluation_seconds": {"z_sem": 30.0}}
    report.write_json(folder / "cell.json", record)
    for latent, values in scores.items():
        results = {metric: {} for metric in cell.metrics}
        for key, value in values.items():
            metric, _, name = key.partition("/")
            results[metric][name] = {"mean": value, "std": 0.5, "floors": floors or {}}
        settings = cell.evaluation | {"latent": latent, "step": cell.steps, "metrics": list(cell.metrics)}
        report.write_json(folder / latent / "evaluate.json", results | {"settings": settings})


def row(collected, method, latent, section=0):
    return next(r for r in collected.sections[section].rows if (r.method, r.latent) == (method, latent))


@pytest.mark.parametrize(("name", "scale"), TABLES)
def test_cells_are_distinct_and_shards_share_them_out(name, scale):
    table = make(name, scale)
    ids = [cell.id for cell in table.cells]
    assert len(ids) == len(set(ids))
    configs = [json.dumps(config_to_json(cells.resolve(cell)), sort_keys=True) for cell in table.cells]
    assert len(configs) == len(set(configs))
    for count in (1, 2, 7):
        shards = [cell.id for index in range(count) for cell in cells.shard(table.cells, index, count)]
        assert sorted(shards) == sorted(ids)


@pytest.mark.parametrize(("name", "scale"), TABLES)
def test_methods_have_equal_steps_data_and_evaluation(name, scale):
    groups = {}
    for cell in make(name, scale).cells:
        config = cells.resolve(cell)
        evaluation = cell.evaluation | {"floor_seeds": None}
        same = (config.train.steps, config.data.to_json(), evaluation, cell.metrics, config.train.learning_rate)
        groups.setdefault((cell.dataset, cell.seed), []).append(same)
        assert config.train.seed == cell.seed
    for same in groups.values():
        assert all(other == same[0] for other in same)


@pytest.mark.parametrize("scale", cells.SCALES)
def test_tables_share_their_cells(scale):
    main = {cell.id: cell for cell in make("main", scale).cells}
    ablation = make("ablation", scale).cells
    shared = [cell for cell in ablation if cell.id in main]
    assert {cell.method for cell in shared} == {"cldis_cross_attention", "cldis_adagn"}
    for cell in shared:
        assert dataclasses.replace(cell, label="") == dataclasses.replace(main[cell.id], label="")
    own = flatten(scenes.get_config(scale))
    baseline = flatten(cells.resolve(ablation[0]))
    assert {name for name in own if own[name] != baseline[name]} <= {
        "train.steps",
        "train.picture_every",
        "data.holdout",
    }


def test_the_baseline_vae_is_that_of_its_config():
    cell = next(cell for cell in make().cells if cell.method == "beta_vae")
    ours, theirs = flatten(cells.resolve(cell)), flatten(beta_vae.get_config("cpu"))
    assert {name for name in ours if ours[name] != theirs[name]} <= {
        "train.steps",
        "train.picture_every",
        "data.holdout",
    }


@pytest.mark.parametrize("scale", cells.SCALES)
def test_the_halves_alone_have_none_of_what_only_the_loop_gains_by(scale):
    for cell in make("main", scale).cells:
        config = cells.resolve(cell)
        if cell.method.startswith("diffae"):
            assert not config.model.standardize_z_sem
        elif cell.method.startswith("beta_vae"):
            assert not config.vae.antithetic
        elif scale == "long":
            assert config.model.standardize_z_sem
            assert config.vae.antithetic


@pytest.mark.parametrize(
    ("folder", "name", "scale", "seeds"),
    [
        ("study_cpu", "main", "cpu", None),
        ("study_cpu", "ablation", "cpu", None),
        ("study_long", "main", "long", None),
        ("study_long", "ablation", "long", 3),
    ],
)
def test_the_committed_tables_are_of_the_committed_cells_and_todays_configs(folder, name, scale, seeds):
    out = DOCS / folder
    collected = collecting.collect(make(name, scale, seeds=seeds), out)
    assert {cell["status"] for cell in collected.cells} <= {"done", "not run"}
    assert rendering.to_markdown(collected) == (out / f"{name}.md").read_text()


def test_the_ablation_changes_one_choice_at_a_time():
    labels = [cell.label for cell in make("ablation").cells if cell.seed == 0]
    for expected in (
        "no distillation",
        "C fixed",
        "C annealed",
        "no feedback: C annealed, no swap",
        "feedback timestep",
    ):
        assert expected in labels
    config = scenes.get_config("cpu")
    config.feedback.mode = "progress"
    names = [method.label for method in methods.variants(config, 100)]
    assert "feedback gain" in names
    assert "feedback progress" not in names


@pytest.mark.parametrize("scale", cells.SCALES)
def test_the_ablation_has_the_alternatives_of_the_scale(scale):
    labels = {cell.label for cell in make("ablation", scale).cells}
    assert {f"L_dt {form}" for form in DISTILLATION_FORMS if form != "kl"} <= labels
    unlike = {"L_dt on every unit alike", "z_sem as drawn", "one sample of z_disen"}
    assert labels & unlike == (set() if scale == "cpu" else unlike)


def test_a_floor_is_measured_once_for_each_size_of_the_codes():
    floors = [c.method for c in make("ablation").cells if c.evaluation["floor_seeds"]]
    assert sorted(floors) == ["cldis_20_latents", "cldis_6_latents", "cldis_adagn", "cldis_cross_attention"]
    assert {c.seed for c in make("main").cells if c.evaluation["floor_seeds"]} == {0}


def test_the_heldout_part_is_large_enough():
    for name, scale in TABLES:
        for cell in make(name, scale).cells:
            if cell.evaluation["pool"] == "heldout":
                size = {"scenes": 480_000, "sprites": 737_280}[cell.dataset]
                pool = min(cell.evaluation["num_images"], round(size * cells.resolve(cell).data.holdout))
                assert pool >= cell.evaluation["num_train"] + cell.evaluation["num_test"]


def test_options_reach_the_cells():
    table = make("celeba", steps=7, seeds=2, data={"celeba": "/tfds"}, weights={"inception_weights": "/i.pth"})
    assert {cell.steps for cell in table.cells} == {7}
    assert {cell.seed for cell in table.cells} == {0, 1}
    train, evaluate = running.commands(table.cells[0], pathlib.Path("/c"))[:2]
    assert "--config.data.data_dir=/tfds" in train
    assert "--inception_weights=/i.pth" in evaluate
    assert "fid" in table.cells[0].metrics
    assert "fid" not in make("celeba").cells[0].metrics


def test_mean_and_deviation_over_seeds(tmp_path):
    table = only(make(), "cldis_adagn")
    values = [0.3, 0.5, 0.4]
    for cell, value in zip(table.cells, values):
        scores = {"dci/disentanglement": value, "dci/completeness": 0.2, "mig/mig": 0.1, "factor_vae/factor_vae": 0.9}
        floors = {"random_mix": 0.17, "untrained": 0.02} if cell.seed == 0 else {}
        fabricate(cell, tmp_path, {"z_sem": scores, "z_disen": scores}, floors=floors)
    collected = collecting.collect(table, tmp_path)
    found = row(collected, "CL-Dis, AdaGN", "z_sem")
    score = found.scores["dci/disentanglement"]
    assert (score.mean, score.std, score.n) == (
        pytest.approx(np.mean(values)),
        pytest.approx(np.std(values, ddof=1)),
        3,
    )
    assert found.seeds == "3"
    mix = row(collected, "floor: random mix of the labels, 10 codes", "-")
    assert mix.scores["mig/mig"].mean == pytest.approx(0.17)
    assert row(collected, "floor: untrained encoder, 10 codes", "z_disen").scores["mig/mig"].mean == pytest.approx(0.02)
    text = rendering.to_markdown(collected)
    assert "| CL-Dis, AdaGN | z_sem | 0.900 ± 0.000 | 0.400 ± 0.100 | 0.100 ± 0.000 | 3 | this study |" in text
    assert "a cpu, 2 cores" in text
    assert chart.bars(collected).shape[-1] == 3


def test_a_floor_stands_beside_rows_of_its_own_size(tmp_path):
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
    assert sizes == [6, 10, 6, 6, 10, 10]  # by number, not by letter; an untrained encoder for each latent
    assert chart.bars(collected).shape[-1] == 3


def test_missing_and_failed_cells_are_seen(tmp_path):
    table = only(make(), "diffae_adagn", "beta_vae", "cldis_adagn")
    for cell in table.cells:
        scores = {"dci/disentanglement": 0.5}
        if cell.method == "diffae_adagn":
            status = "failed" if cell.seed == 1 else "done"
            fabricate(cell, tmp_path, {"z_sem": scores}, status, "step 3: loss=nan")
        elif cell.method == "beta_vae":
            fabricate(cell, tmp_path, {}, "no data", "data.path='' is not a file")
    collected = collecting.collect(table, tmp_path)
    assert row(collected, "Diff-AE alone, AdaGN", "z_sem").seeds == "2 of 3 (failed)"
    assert row(collected, "Diff-AE alone, AdaGN", "z_sem").scores["dci/disentanglement"].n == 2
    text = rendering.to_markdown(collected)
    assert "| β-VAE alone, β = 4 | z_disen | no data | no data | no data | no data |" in text
    assert "| CL-Dis, AdaGN | z_sem | not run |" in text
    assert "failed: scenes/diffae_adagn/seed1: step 3: loss=nan" in text
    assert "no data: scenes/beta_vae/seed0 and 2 more: data.path='' is not a file" in text
    lines = list(csv.DictReader(io.StringIO(rendering.to_csv(collected))))
    assert {line["seeds"] for line in lines if line["method"] == "β-VAE alone, β = 4"} == {"no data"}


def test_results_of_another_config_or_evaluation_are_not_shown(tmp_path):
    table = only(make(seeds=1), "diffae_adagn")
    (cell,) = table.cells
    fabricate(cell, tmp_path, {"z_sem": {"mig/mig": 0.5}})
    assert running.state(cell, cell.folder(tmp_path))[0] == "done"
    other = dataclasses.replace(cell, overrides=cell.overrides | {"model.latent_dim": 6})
    assert running.state(other, cell.folder(tmp_path)) == ("other config", "model.latent_dim=10, not 6")
    longer = dataclasses.replace(cell, overrides=cell.overrides | {"train.steps": 9})
    assert running.state(longer, cell.folder(tmp_path))[0] == "other config"
    elsewhere = dataclasses.replace(cell, data={"data.path": "/elsewhere"})
    assert running.state(elsewhere, cell.folder(tmp_path))[0] == "done"
    bare = dataclasses.replace(cell, evaluation=cell.evaluation | {"floor_seeds": 0})
    assert running.state(bare, cell.folder(tmp_path))[0] == "done"
    more_floors = dataclasses.replace(cell, evaluation=cell.evaluation | {"floor_seeds": 2})
    assert running.state(more_floors, cell.folder(tmp_path))[0] == "unfinished"
    more = dataclasses.replace(cell, evaluation=cell.evaluation | {"num_votes": 7})
    assert running.state(more, cell.folder(tmp_path))[0] == "unfinished"
    collected = collecting.collect(dataclasses.replace(table, cells=(other,)), tmp_path)
    assert collected.sections[0].rows[0].seeds == "other config"
    assert chart.bars(collected) is None


def test_what_a_missing_vae_would_have_been_does_not_count(tmp_path):
    (alone,) = only(make(seeds=1), "diffae_adagn").cells
    (loop,) = only(make(seeds=1), "cldis_adagn").cells
    without, with_one = (config_to_json(cells.resolve(cell)) for cell in (alone, loop))
    other = {"vae.beta": 99.0, "feedback.max_capacity": 99.0, "distillation.sigma_floor": 0.9}
    alone, loop = (dataclasses.replace(cell, overrides=cell.overrides | other) for cell in (alone, loop))
    assert running.changed_fields(alone, without) == []
    assert len(running.changed_fields(loop, with_one)) == 3
    assert running.changed_fields(alone, with_one) != []  # a VAE that was there counts


def test_what_a_missing_denoiser_would_have_heard_does_not_count(tmp_path):
    (alone,) = only(make(seeds=1), "beta_vae").cells
    record = config_to_json(cells.resolve(alone))
    unheard = {"distillation.listen_steps": 99, "feedback.swap_steps": 99, "model.standardize_z_sem": True}
    other, noisy = (
        dataclasses.replace(alone, overrides=alone.overrides | changed)
        for changed in (unheard, unheard | {"diffusion.beta_end": 0.5})
    )
    assert running.changed_fields(other, record) == []
    assert len(running.changed_fields(noisy, record)) == 1


def test_what_an_open_loop_does_not_read_does_not_count():
    names = ("cldis_no_feedback_C_annealed_no_swap", "cldis_adagn")
    ramp, gain = only(make("ablation", "long", seeds=1), *names).cells
    unread = {"feedback.reference": 9.0, "feedback.swap_steps": 99, "feedback.swap_probability": 0.0}
    for cell, changed in ((ramp, []), (gain, ["feedback.reference=9.0, not 1.5"])):
        record = config_to_json(cells.resolve(dataclasses.replace(cell, overrides=cell.overrides | unread)))
        assert running.changed_fields(cell, record) == changed


def test_a_field_that_a_record_lacks_was_at_its_default(tmp_path):
    (loop,) = only(make(seeds=1), "cldis_adagn").cells
    record = config_to_json(cells.resolve(loop))
    del record["vae"]["antithetic"]
    on, off = (dataclasses.replace(loop, overrides=loop.overrides | {"vae.antithetic": x}) for x in (True, False))
    assert running.changed_fields(off, record) == []
    assert running.changed_fields(on, record) == ["vae.antithetic=False, not True"]


def test_published_rows_stand_below_with_their_source(tmp_path):
    table = make(seeds=1)
    collected = collecting.collect(table, tmp_path)
    sections = {section.dataset: section for section in collected.sections}
    for name in ("scenes", "sprites"):  # rendered: nobody has published numbers on them
        assert all(r.kind == "ours" for r in sections[name].rows)
    kinds = [r.kind for r in sections["shapes3d"].rows]
    assert kinds == sorted(kinds)  # ours, then published
    encdiff = next(r for r in sections["shapes3d"].rows if r.method == "EncDiff (published)")
    assert encdiff.scores["dci/disentanglement"].mean == 0.969
    assert "EncDiff Table 1" in encdiff.source
    assert json.loads(json.dumps(collected.to_json()))["table"] == "main"


def test_celeba_without_weights_says_so(tmp_path):
    table = only(make("celeba", seeds=1), "cldis_cross_attention", dataset="celeba")
    (cell,) = table.cells
    scores = {"tad/tad": 0.3, "reconstruction/ssim, inferred x_T, T=100": 0.9}
    vae = {"tad/tad": 0.1, "reconstruction/ssim, VAE": 0.7}
    fabricate(cell, tmp_path, {"z_sem": scores, "z_disen": vae})
    collected = collecting.collect(table, tmp_path)
    lines = rendering.lines(collected, collected.sections[0])
    assert lines[0][2:6] == ("0.300", "no weights", "0.900", "no weights")
    assert lines[1][4] == "0.700"
    assert any(line[0] == "DisDiff (published)" and line[3] == "18.2 ± 2.1" for line in lines)


def test_latex_escapes_and_is_a_booktabs_table(tmp_path):
    assert rendering.latex("50 % of a_b & β ± {x}\\") == r"50 \% of a\_b \& $\beta$ $\pm$ \{x\}\textbackslash{}"
    text = rendering.to_latex(collecting.collect(make(seeds=1), tmp_path))
    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert body[0] == r"\begin{tabular}{llcccc}"
    assert body[-1] == r"\end{tabular}"
    for line in body:
        if " & " in line:
            assert line.count(" & ") == 5
            assert line.endswith(r" \\")
    assert not set("±β_") & set(text.replace(r"\_", "").split("\\begin")[1])


def test_a_dry_run_prints_the_commands_and_runs_none(tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "cldis_jax.tables", "--table=ablation", f"--out={out}", "--dry_run", "--seeds=1"]
    done = subprocess.run([*command, "--shard=1/2"], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    chosen = cells.shard(make("ablation", seeds=1).cells, 1, 2)
    assert [line for line in lines if line.startswith("#")] == [f"# {cell.id}: not run" for cell in chosen]
    expected = [command for cell in chosen for command in running.commands(cell, cell.folder(out))]
    assert [shlex.split(line) for line in lines if not line.startswith("#")] == expected
    only = subprocess.run([*command, "--only=gradient|mse"], capture_output=True, text=True, check=True)
    named = [line for line in only.stdout.splitlines() if line.startswith("#")]
    assert named == ["# scenes/cldis_L_dt_mse/seed0: not run", "# scenes/cldis_teacher_gradient_on/seed0: not run"]
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--table=main", "--out=o", "--only=magic"], "--only='magic' is found in no cell's id"),
        ([], "--table is required"),
        (["--table=main"], "--out is required"),
        (["--table=main", "--out=gs://bucket"], "must be a folder of this machine"),
        (["--table=main", "--out=o", "--shard=2/2"], "--shard='2/2' is not I/N"),
        (["--table=main", "--out=o", "--shard=x"], "--shard='x' is not I/N"),
        (["--table=main", "--out=o", "--data=lsun=/x"], "with a NAME of shapes3d, cars3d, mpi3d, celeba"),
        (["--table=main", "--out=o", "--data=cars3d"], "is not NAME=PATH"),
        (["--table=celeba", "--out=o", "--inception_weights=/none"], "there is no file /none"),
        (["--table=celeba", "--out=o", "--lpips_weights=/none"], "takes two files"),
    ],
)
def test_bad_flags_are_one_clear_line(flags, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = tables.flags.FLAGS
    saved = values.flag_values_dict()
    try:
        values.unparse_flags()
        values(["tables", *flags])
        with pytest.raises(cli.USER_ERRORS, match=message.replace("(", r"\(")):
            tables.main()
    finally:
        values.unparse_flags()
        for name, value in saved.items():
            values[name].value = value
    assert not any(tmp_path.iterdir())


def test_a_failed_command_is_quoted_by_its_error(tmp_path):
    def run(code):
        with running.Children() as children:
            children.run([sys.executable, "-c", code], tmp_path / "log.txt")

    run("print('fine')")
    with pytest.raises(running.CellError, match=r"^no such thing$"):
        run("print('error: no such thing'); print('bye'); raise SystemExit(1)")
    with pytest.raises(running.CellError, match="ZeroDivisionError"):
        run("1 / 0")
    with pytest.raises(running.CellError, match="killed by signal 9; last line: it said nothing"):
        run("import os; os.kill(os.getpid(), 9)")
    assert "fine" in (tmp_path / "log.txt").read_text()


def test_sigterm_is_passed_on_and_ends_the_run(tmp_path):
    log = tmp_path / "log.txt"
    code = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit('saved'));"
        "print('ready', flush=True); time.sleep(30)"
    )

    def stop_when_ready():
        while not log.exists() or "\nready" not in log.read_text():
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop_when_ready)
    before = signal.getsignal(signal.SIGTERM)
    with running.Children() as children:
        thread.start()
        with pytest.raises(SystemExit) as stopped:
            children.run([sys.executable, "-c", code], log)
        with pytest.raises(SystemExit):
            children.run([sys.executable, "-c", "print('never')"], log)
    thread.join()
    assert stopped.value.code == 143
    assert log.read_text().endswith("saved\n")
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_set_without_data_is_recorded_without_running(tmp_path):
    cell = next(cell for cell in make(seeds=1).cells if cell.dataset == "cars3d")
    lack = running.missing_data(cells.resolve(cell))
    assert "unpack" in lack
    folder = cell.folder(tmp_path)
    with running.Children() as children:
        assert running.run_cell(cell, folder, children, lack) == "no data"
    assert running.state(cell, folder) == ("no data", lack)
    assert not (folder / "run").exists()


def test_a_cell_that_another_process_runs_is_left_alone(tmp_path):
    cell = make(seeds=1).cells[0]
    with running.Children() as children, running.locked(tmp_path) as ours:
        assert ours
        assert running.run_cell(cell, tmp_path, children) == "run elsewhere"


def test_a_run_of_another_config_is_not_replaced(tmp_path):
    (cell,) = only(make(seeds=1), "diffae_adagn").cells
    fabricate(cell, tmp_path, {"z_sem": {"mig/mig": 0.5}})
    folder = cell.folder(tmp_path)
    report.write_json(folder / "run" / "config.json", config_to_json(cells.resolve(cell)))
    longer = dataclasses.replace(cell, overrides=cell.overrides | {"train.steps": cell.steps + 1})
    tables.check_free((cell, longer), tmp_path)
    shorter = dataclasses.replace(cell, overrides=cell.overrides | {"train.steps": cell.steps - 1})
    other = dataclasses.replace(cell, overrides=cell.overrides | {"model.latent_dim": 6})
    for wrong, why in ((shorter, "train.steps=6000, not 5999"), (other, "model.latent_dim=10, not 6")):
        with pytest.raises(ValueError, match=rf"seed0 holds a run of another config \({why}\)"):
            tables.check_free((wrong,), tmp_path)
    (folder / "cell.json").unlink()  # interrupted
    with pytest.raises(ValueError, match="another config"):
        tables.check_free((other,), tmp_path)


def test_what_was_trained_and_scored_before_stays_until_it_is_trained_again(tmp_path, monkeypatch):
    (cell,) = only(make(seeds=1), "diffae_adagn").cells
    fabricate(cell, tmp_path, {"z_sem": {"mig/mig": 0.5}})
    folder = cell.folder(tmp_path)
    config = config_to_json(cells.resolve(cell))
    report.write_json(folder / "run" / "main.json", {"step": cell.steps, "config": config})
    assert running.run_cell(cell, folder, running.Children()) == "done"  # evaluated alone, by nobody's command
    record = report.read_json(folder / "cell.json")
    assert (record["commit"], record["machine"]["cpu"]) == ("abc", "a cpu")
    assert record["scores"]["z_sem"]["mig/mig"] == 0.5

    def fail(*_):
        raise running.CellError("out of memory")

    longer = dataclasses.replace(cell, overrides=cell.overrides | {"train.steps": cell.steps + 1})
    monkeypatch.setattr(running.Children, "run", fail)
    assert running.run_cell(longer, folder, running.Children()) == "failed"
    assert (folder / "z_sem" / "evaluate.json").exists()
    assert report.read_json(folder / "cell.json")["commit"] == running.commit()


@pytest.mark.slow
def test_two_cells_end_to_end(tmp_path):
    """One trains and is evaluated, one fails; a second run keeps the first's results and tries the other again."""
    table = only(make("main", seeds=1), "cldis_adagn", "diffae_adagn")
    good, bad = (
        dataclasses.replace(
            cell,
            config="scenes.py:tiny",
            overrides=cell.overrides | TINY,
            evaluation=cell.evaluation | QUICK,
            metrics=("factor_vae", "mig"),
        )
        for cell in table.cells
    )
    bad = dataclasses.replace(bad, overrides=bad.overrides | {"train.learning_rate": -1.0})
    table = dataclasses.replace(table, cells=(good, bad))
    assert tables.run(table.cells, tmp_path) == 1
    tables.write(table, tmp_path)

    record = report.read_json(good.folder(tmp_path) / "cell.json")
    assert record["status"] == "done"
    assert record["training_seconds"] > 0
    assert set(record["evaluation_seconds"]) == set(record["scores"]) == {"z_sem", "z_disen"}
    assert len(record["commands"]) == 3
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
