"""The evaluation: the protocol with known codes, and the command end to end on a tiny run."""

import csv
import dataclasses
import json
import pathlib
import types

import flax.linen as nn
import jax
import numpy as np
import pytest
from PIL import Image

from cldis_jax import api, data
from cldis_jax.api import codes
from cldis_jax.configs import scenes
from cldis_jax.data import subset
from cldis_jax.data.folder import Folder
from cldis_jax.evaluation import decoded, floors, labelled, registry, run, tables
from cldis_jax.evaluation.context import summary
from cldis_jax.evaluation.floors import RandomMix
from cldis_jax.metrics.content_tracking import SPAN
from cldis_jax.models.semantic_encoder import StridedEncoder
from cldis_jax.navigation import factor_probe
from cldis_jax.navigation import results as navigation_results
from cldis_jax.runtime import checkpoint
from cldis_jax.runtime.errors import UserError
from cldis_jax.study import content_tracking_models, records
from cldis_jax.training import train
from tests import doors

SMALL = {"num_images": 600, "num_train": 300, "num_test": 150, "seeds": 2, "num_decoded": 8, "decode_steps": (2,)}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, undrawn):
    config = scenes.get_config("tiny")
    config.train.steps, config.train.log_every, config.train.num_pictures, config.checkpoint.every_steps = 8, 4, 2, 4
    path = str(tmp_path_factory.mktemp("run"))
    train.train(config, path)
    return path


@pytest.fixture(scope="module")
def context(workdir):
    return registry.Context(registry.Settings(workdir, **SMALL), api.load(workdir))


def with_settings(context, **settings):
    return registry.Context(dataclasses.replace(context.settings, **settings), context.bundle)


def with_config(context, settings=None, **data_fields):
    """The same parameters and settings, but as if the config had other fields of `data`."""
    config = context.bundle.config.copy_and_resolve_references()
    for name, value in data_fields.items():
        config.data[name] = value
    bundle = dataclasses.replace(context.bundle, functions=api.make_functions(config))
    return registry.Context(dataclasses.replace(context.settings, **(settings or {})), bundle)


def test_a_folder_that_can_not_be_written_is_an_error_before_any_work(context, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(run, "measure", lambda *_: pytest.fail("measured something"))
    settings = dataclasses.replace(context.settings, out=str(tmp_path / "file" / "results"))
    with pytest.raises(UserError, match="can't be written"):
        run.evaluate(context.bundle, ["mig"], settings)


def test_the_binary_writes_json_csv_and_markdown(workdir, tmp_path):
    small = ("--num_images=600", "--num_train=300", "--num_test=150", "--seeds=2", "--num_decoded=8")
    metrics = "--metrics=mig,sap,irs,reconstruction,z_usage"
    done = doors.run("evaluate", f"--workdir={workdir}", f"--out={tmp_path}", metrics, "--decode_steps=2", *small)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "evaluate.json").read_text())
    for metric in ("mig", "sap", "irs"):
        score = results[metric][metric]
        assert score["std"] >= 0
        assert set(score["floors"]) == {"random_mix", "untrained"}
    assert results["settings"]["images"] == 600
    assert results["settings"]["images_of_the_set"] == 480_000
    lines = list(csv.DictReader((tmp_path / "evaluate.csv").open()))
    assert [line["name"] for line in lines[:3]] == ["mig", "sap", "irs"]
    assert float(lines[0]["floor_untrained"]) == results["mig"]["mig"]["floors"]["untrained"]
    text = (tmp_path / "evaluate.md").read_text()
    assert "| mig | mig |" in text
    assert "Diff-AE inferred x_T [Diff-AE Table 1]" in text
    assert "floor: random mix" in done.stdout
    assert "the denoiser" in done.stdout


WHILE_TRAINING_GOES_ON = """
from cldis_jax import api, cli, evaluate
from cldis_jax.runtime import checkpoint

load_at, loaded = api.Bundle.at, [8]

def load_once(self, step):  # as if a checkpoint were removed as soon as it has been read
    assert step not in loaded
    loaded.append(step)
    return load_at(self, step)

api.Bundle.at, checkpoint.kept_steps = load_once, lambda workdir: [2, 4, 8]
cli.run(evaluate.main)
"""


@pytest.mark.parametrize("metrics", ["mig", pytest.param("mig,content_tracking", marks=pytest.mark.slow)])
def test_last_and_best_of_the_checkpoints_kept(workdir, tmp_path, metrics):
    """Checkpoints may vanish during a run: the checkpoint of step 2 is listed but no longer exists."""
    steps = [4, 8]
    small = ("--num_images=600", "--num_train=300", "--num_test=150", "--seeds=1", "--num_tracked=1", "--floor_seeds=0")
    asked = (f"--metrics={metrics}", "--step=last,best", f"--workdir={workdir}", f"--out={tmp_path}")
    done = doors.run("-c", WHILE_TRAINING_GOES_ON, *asked, *small)
    assert done.returncode == 0, done.stderr
    assert "step 2: skipped, no checkpoint of step 2" in done.stdout
    last, best = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("evaluate", "evaluate_best"))
    assert last["settings"]["step"] == steps[-1]
    assert best["settings"]["step"] in steps
    assert best["mig"]["mig"]["mean"] >= last["mig"]["mig"]["mean"]
    drawn = [(folder / "content_tracking_changes.png").exists() for folder in (tmp_path, tmp_path / "evaluate_best")]
    assert drawn == ["content_tracking" in metrics, "content_tracking" in metrics and best["settings"]["step"] == 4]


ONE_CHECKPOINT_IS_READ = """
import orbax.checkpoint as ocp
from cldis_jax import cli, evaluate
from cldis_jax.evaluation import run

restore, measure = ocp.CheckpointManager.restore, run.measure

def restore_and_print(self, step, **options):
    print("reads", step)
    return restore(self, step, **options)

def measure_and_print(context, name):
    print("measures", context.bundle.step)
    return {name: {"mean": 0.5, "std": 0.0}}

ocp.CheckpointManager.restore, run.measure = restore_and_print, measure_and_print
cli.run(evaluate.main)
"""


@pytest.mark.parametrize(
    ("asked", "read", "measured"),
    [("4", {"4"}, ["4"]), ("last,8,4", {"8", "4"}, ["8", "4"]), ("4,last", {"4", "8"}, ["4", "8"])],
)
def test_only_the_checkpoints_that_are_asked_for_are_read_and_each_is_measured_once(
    workdir, tmp_path, asked, read, measured
):
    done = doors.run(
        "-c", ONE_CHECKPOINT_IS_READ, f"--workdir={workdir}", f"--out={tmp_path}", "--metrics=mig", f"--step={asked}"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert {line.split()[1] for line in lines if line.startswith("reads")} == read
    assert [line.split()[1] for line in lines if line.startswith("measures")] == measured
    if asked == "last,8,4":
        assert "step 8 was measured as evaluate; evaluate_8 is a copy without pictures" in lines
        for ending in ("json", "csv", "md"):
            copies = [(tmp_path / f"{stem}.{ending}").read_bytes() for stem in ("evaluate", "evaluate_8")]
            assert copies[0] == copies[1]
    assert json.loads((tmp_path / "evaluate.json").read_text())["settings"]["step"] == int(measured[0])


def test_the_encoder_is_traced_once_for_several_checkpoints(context, workdir, monkeypatch):
    traced = []

    def apply(self, *arguments, **options):
        traced.append(self)
        return nn.Module.apply(self, *arguments, **options)

    monkeypatch.setattr(StridedEncoder, "apply", apply)
    newest = api.load(workdir)
    settings = registry.Settings(workdir, **(SMALL | {"num_images": 450}))
    monkeypatch.setattr(checkpoint, "kept_steps", lambda workdir: [4, 8])
    found = run.best(newest, "mig", settings)
    assert found.step in (4, 8)
    older = newest.at(4)
    assert older.functions is newest.functions
    different = jax.tree.map(lambda a, b: (a != b).any(), *jax.device_get((older.ema.params, newest.ema.params)))
    assert any(jax.tree.leaves(different))
    assert len(traced) == 1


def test_scores_without_flags(context, tmp_path):
    settings = dataclasses.replace(context.settings, seeds=1, floor_seeds=0, out=str(tmp_path), pictures=False)
    results = run.evaluate(context.bundle, ["mig", "sap"], settings, "mine")
    assert list(results) == ["mig", "sap"]
    written = json.loads((tmp_path / "mine.json").read_text())
    assert {name: written[name] for name in results} == results
    assert written["settings"]["metrics"] == ["mig", "sap"]
    nowhere = dataclasses.replace(settings, workdir="", out="")
    assert run.evaluate(context.bundle, ["mig"], nowhere)["mig"] == results["mig"]
    with pytest.raises(UserError, match="--metrics is empty; choose from factor_vae, "):
        run.evaluate(context.bundle, [], settings)


def test_a_missing_or_unranked_step_is_one_clear_line(workdir, tmp_path):
    for arguments, message in (
        ("--step=5", r"checkpoints kept: [4, 8]"),
        ("--step=", r"--step: '' is not last, best or one of the checkpoints kept: [4, 8]"),
        ("--step=last,best", "must be one of factor_vae"),
    ):
        failed = doors.run(
            "evaluate", f"--workdir={workdir}", f"--out={tmp_path / 'no'}", "--metrics=z_usage", arguments
        )
        assert failed.returncode == 1
        assert message in failed.stderr
        assert not (tmp_path / "no").exists()


def test_bad_input_is_one_clear_line(workdir):
    before = sorted(path.name for path in pathlib.Path(workdir).iterdir())
    for metrics, message in (("mgi", "--metrics: 'mgi' is unknown"), ("", "--metrics is empty")):
        done = doors.run("evaluate", f"--workdir={workdir}", f"--metrics={metrics}")
        assert done.returncode == 1
        assert done.stderr.strip().splitlines()[-1].startswith(f"error: {message}; choose from factor_vae")
    assert sorted(path.name for path in pathlib.Path(workdir).iterdir()) == before


@pytest.mark.parametrize(
    ("metric", "settings", "message"),
    [
        ("tad", {}, "tad needs attribute labels"),
        ("udr", {}, "--workdirs=DIR2,DIR3"),
        ("udr", {"workdirs": ("/none",)}, "no checkpoint in /none"),
        ("fid", {}, "pt_inception-2015-12-05"),
        ("reconstruction", {"lpips_weights": ("/none.pth",)}, "alexnet-owt"),
        ("mig", {"num_images": 10}, "too few"),
        ("content_tracking", {"directions": "navigation"}, "cldis_jax.navigate"),
    ],
)
def test_missing_inputs_are_errors_before_any_work(context, metric, settings, message):
    with pytest.raises(UserError, match=message):
        registry.check(with_settings(context, **settings), [metric])


def test_other_data_or_another_latent_is_an_error_before_any_work(context, workdir):
    small = with_config(context, {"workdirs": (workdir,)}, image_size=32)
    with pytest.raises(ValueError, match=r"models of the same images: data\.image_size=\d+ in .*, not 32"):
        registry.check(small, ["udr"])
    config = context.bundle.config.copy_and_resolve_references()
    config.vae.weight, config.distillation.weight = 0.0, 0.0
    theirs = with_settings(context, latent="z_disen", workdirs=(workdir,))
    theirs.__dict__["compared"] = [dataclasses.replace(context.bundle, functions=api.make_functions(config))]
    with pytest.raises(ValueError, match=r"--latent=z_disen: the model in .* has none"):
        registry.check(theirs, ["udr"])


def test_one_direction_is_too_few(context, monkeypatch):
    monkeypatch.setattr(decoded, "directions_of", lambda context: np.ones((1, 10)))
    with pytest.raises(ValueError, match="--directions=axes has only one"):
        registry.check(context, ["content_tracking"])


def test_weights_of_another_network_are_an_error_before_any_work(context, tmp_path):
    path = str(tmp_path / "other.npz")
    np.savez(path, weight=np.zeros(3))
    with pytest.raises(UserError, match="not the Inception weights expected"):
        registry.check(with_settings(context, inception_weights=path), ["fid"])
    with pytest.raises(UserError, match="not the LPIPS weights expected"):
        registry.check(with_settings(context, lpips_weights=(path,)), ["reconstruction"])


def test_images_that_lpips_cannot_take_are_an_error_before_any_work(context, monkeypatch):
    monkeypatch.setattr(registry.lpips, "load_weights", lambda *paths: {})
    small = with_config(context, {"lpips_weights": ("file",)}, image_size=16)
    with pytest.raises(ValueError, match="31 pixels a side or more, this model's have 3 channels and 16 pixels"):
        registry.check(small, ["reconstruction"])


A_METRIC_FAILS = """
from cldis_jax.evaluation import registry
from cldis_jax import cli, evaluate
from cldis_jax.runtime.errors import UserError

def fail(context):
    raise UserError("out of luck")

registry.METRICS["sap"] = registry.METRICS["sap"]._replace(measure=fail)
cli.run(evaluate.main)
"""


def test_a_metric_that_fails_does_not_stop_the_others(workdir, tmp_path):
    small = ("--num_images=600", "--num_train=300", "--num_test=150", "--seeds=1", "--floor_seeds=0")
    asked = ("--metrics=mig,sap,irs", f"--workdir={workdir}", f"--out={tmp_path}")
    done = doors.run("-c", A_METRIC_FAILS, *asked, *small)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == "error: 1 of the metrics failed: sap of step 8: out of luck"
    assert "Traceback" not in done.stderr
    results = json.loads((tmp_path / "evaluate.json").read_text())
    assert results["mig"]["mig"]["mean"] >= 0
    assert results["irs"]["irs"]["mean"] >= 0
    assert results["sap"] == {"error": "out of luck"}
    assert results["settings"]["metrics"] == ["mig", "irs"]
    assert [line.split(",")[0] for line in (tmp_path / "evaluate.csv").read_text().splitlines()[1:]] == ["mig", "irs"]
    assert [line.split()[-3:] for line in done.stdout.splitlines() if "failed" in line] == [["out", "of", "luck"]]
    assert "| sap | failed | - | out of luck |" in (tmp_path / "evaluate.md").read_text()


def test_results_are_written_after_every_metric(context, tmp_path, monkeypatch):
    def stop(context):
        raise KeyboardInterrupt

    monkeypatch.setitem(registry.METRICS, "sap", registry.METRICS["sap"]._replace(measure=stop))
    settings = dataclasses.replace(context.settings, seeds=1, floor_seeds=0, out=str(tmp_path), pictures=False)
    with pytest.raises(KeyboardInterrupt):
        run.evaluate(context.bundle, ["irs", "sap"], settings)
    assert "irs" in json.loads((tmp_path / "evaluate.json").read_text())
    assert "irs,irs" in (tmp_path / "evaluate.csv").read_text()


def test_readers_of_results_pass_over_a_metric_that_failed(context, tmp_path, monkeypatch, caplog):
    def fail(context):
        raise MemoryError("no room\nfor it")

    for name in ("reconstruction", "sap"):
        monkeypatch.setitem(registry.METRICS, name, registry.Metric(fail))
    settings = dataclasses.replace(context.settings, seeds=1, floor_seeds=1, out=str(tmp_path), pictures=False)
    results = run.evaluate(context.bundle, ["irs", "reconstruction", "sap"], settings)
    assert results["reconstruction"] == results["sap"] == {"error": "MemoryError: no room for it"}
    assert "sap failed" in caplog.text  # with its traceback, because it is no mistake of the user
    assert [row[:2] for row in tables.rows(results)] == [("irs", "irs")]
    assert "failed" in run.text(results)
    written = json.loads((tmp_path / "evaluate.json").read_text())
    assert list(records.scores(written)) == ["irs/irs"]
    cell = types.SimpleNamespace(evaluation={"seeds": 1, "floor_seeds": 1}, steps=8, metrics=("irs",), weights={})
    assert records.is_evaluated(cell, "z_sem", written)
    cell.metrics = ("irs", "sap")
    assert not records.is_evaluated(cell, "z_sem", written)
    with pytest.raises(UserError, match=r"run cldis_jax\.evaluate"):
        content_tracking_models.read(str(tmp_path / "evaluate.json"))
    monkeypatch.setattr(jax, "process_count", lambda: 2)  # no process may go on without the others
    with pytest.raises(MemoryError):
        run.measure(context, "sap")


def test_a_score_that_is_not_finite_is_an_error_of_its_metric(context, tmp_path, monkeypatch):
    found = {"sap": {"mean": float("nan"), "std": None}, "details": {"scores": [0.5, float("inf")]}}
    monkeypatch.setitem(registry.METRICS, "sap", registry.Metric(lambda context: found))
    settings = dataclasses.replace(context.settings, seeds=1, floor_seeds=0, out=str(tmp_path), pictures=False)
    results = run.evaluate(context.bundle, ["sap", "irs"], settings)
    assert results["sap"] == {"error": "details/scores/1, sap/mean: not a finite number"}
    assert "irs" in json.loads((tmp_path / "evaluate.json").read_text())


def test_the_best_checkpoint_has_a_finite_score(context, monkeypatch):
    def measured(context):
        return {"mig": {"mean": next(scores), "std": None}}

    scores = iter([float("nan"), 0.25])
    monkeypatch.setitem(registry.METRICS, "mig", registry.Metric(measured))
    assert checkpoint.kept_steps(context.bundle.workdir) == [4, 8]
    assert run.best(context.bundle, "mig", context.settings).step == 8
    scores = iter([float("nan"), float("nan")])
    with pytest.raises(checkpoint.CheckpointError, match=r"no checkpoint of .* has a finite score"):
        run.best(context.bundle, "mig", context.settings)


def test_reconstruction_is_laid_out_with_the_published_rows(context):
    scores = registry.METRICS["reconstruction"].measure(context)
    for metric in ("ssim", "psnr", "mse"):
        for kind in ("inferred x_T", "random x_T"):
            assert np.isfinite(scores[f"{metric}, {kind}, T=2"]["mean"])
    assert "8 held-out images" in scores["note"]
    header, lines = tables.table_2(scores)
    published = next(line for line in lines if line[0] == "ssim" and "Diff-AE inferred" in line[1])
    assert published[header.index("T=100")] == "0.991"
    assert published[header.index("T=2")] == "-"


@pytest.mark.parametrize("metric", ["reconstruction", "z_usage", "fid", "content_tracking", "consistency"])
def test_decoded_images_that_are_not_finite_are_an_error_with_its_cause(context, metric, monkeypatch, tmp_path):
    """... and never a score. The metrics run under jit, where they can't check their inputs."""
    params = jax.tree.map(np.array, context.bundle.ema.params)
    damaged = jax.tree.leaves(params["unet"])[0]
    damaged.flat[0] = np.nan
    bundle = dataclasses.replace(context.bundle, ema=context.bundle.ema.replace(params=params))
    monkeypatch.setattr(factor_probe, "STEPS", 1)
    monkeypatch.setattr(decoded.inception, "load_weights", lambda path: {})
    monkeypatch.setattr(decoded.fid, "make_features", lambda _: lambda images: images.reshape(len(images), -1))
    (tmp_path / "weights").write_bytes(b"a network")
    few = {"num_decoded": 2, "num_generated": 2, "num_tracked": 1, "seeds": 1, "floor_seeds": 0}
    files = {"workdir": str(tmp_path), "inception_weights": str(tmp_path / "weights")}
    settings = dataclasses.replace(context.settings, **few, **files)
    result = run.measure(registry.Context(settings, bundle), metric)
    assert set(result) == {"error"}
    assert metric in result["error"]
    total = len(jax.tree.leaves(params))
    assert f"are not finite at step 8 of the model (nor are 1 of its {total} arrays of parameters)" in result["error"]


def test_one_image_that_is_not_finite_is_counted(context, monkeypatch):
    decode = api.Editor.decode

    def overflow(self, code, name=""):
        images = np.array(decode(self, code, name))
        images[1, 0, 0, 0] = np.inf
        return images

    monkeypatch.setattr(api.Editor, "decode", overflow)
    with pytest.raises(UserError, match=r"1 of 8 images that reconstruction decodes \(inferred x_T, T=2\) are not"):
        registry.METRICS["reconstruction"].measure(context)


def test_consistency_of_decoders_that_keep_all_and_nothing(context, tmp_path, monkeypatch):
    def reconstruct(self, images, seed):
        return {"original": images, "inferred x_T": images, "random x_T": np.zeros_like(images)}

    monkeypatch.setattr(api.Editor, "reconstruct", reconstruct)
    monkeypatch.setattr(factor_probe, "STEPS", 60)
    known = with_settings(context, out=str(tmp_path), num_decoded=200)
    found = registry.METRICS["consistency"].measure(known)
    assert found["accuracy, inferred x_T"] == found["accuracy, original"]
    assert found["accuracy, random x_T"]["mean"] < found["accuracy, original"]["mean"] - 0.1
    assert found["note"] == "a probe of 6 labels, 200 held-out images; the mean over the labels"
    means = {f"accuracy, {kind}": np.mean(list(of.values())) for kind, of in found["details"].items()}
    assert means == pytest.approx({name: found[name]["mean"] for name in means})
    assert list(found["details"]["original"]) == list(context.source.factor_names)
    monkeypatch.setattr(factor_probe, "train_probe", lambda *_, **__: pytest.fail("the probe is not read again"))
    assert registry.METRICS["consistency"].measure(known) == found


def test_consistency_needs_both_values_of_an_attribute(context, monkeypatch):
    class Blank:
        def score(self, images, values):
            return np.full(6, np.nan)  # as of attributes with one value

    monkeypatch.setattr(api.Editor, "reconstruct", lambda self, images, seed: {"original": images})
    monkeypatch.setattr(factor_probe, "train_probe", lambda *_, **__: Blank())
    with pytest.raises(UserError, match="none of the attributes has both values in 8 images; raise --num_decoded"):
        registry.METRICS["consistency"].measure(with_settings(context, workdir="", out=""))


def test_consistency_needs_labels(context, monkeypatch):
    known = with_settings(context)
    known.__dict__["source"] = types.SimpleNamespace(name="photos", factor_names=(), attribute_names=())
    with pytest.raises(UserError, match="consistency needs factors or attributes, photos has none; try udr"):
        registry.METRICS["consistency"].needs[0](known)
    unlabelled = types.SimpleNamespace(attribute_names=("red",), factor_names=())
    unlabelled.labelled = lambda indices: np.zeros(len(indices), bool)
    known.__dict__.update(source=unlabelled, parts=data.Parts(np.arange(7), np.arange(2), np.arange(0)))
    known.__dict__["difference"] = ""
    with pytest.raises(UserError, match="consistency: none of the 7 training images has a row in the file of labels"):
        registry.METRICS["consistency"].needs[0](known)


def test_z_disen_is_decoded_by_the_vae(context):
    scores = registry.METRICS["reconstruction"].measure(with_settings(context, latent="z_disen"))
    assert set(scores) == {"ssim, VAE", "psnr, VAE", "mse, VAE", "note"}


def test_two_copies_of_a_model_agree_in_udr(context, workdir):
    scores = registry.METRICS["udr"].measure(with_settings(context, workdirs=(workdir,), seeds=1))
    assert scores["udr_0"]["mean"] == pytest.approx(scores["udr_1"]["mean"])
    assert "untrained" in scores["udr"]["floors"]
    bare = with_settings(context, workdirs=(workdir,), seeds=1, floor_seeds=0)
    bare.__dict__["compared"] = [context.bundle]
    assert registry.METRICS["udr"].measure(bare)["udr"] == {"mean": scores["udr"]["mean"], "std": None, "floors": {}}


def test_a_set_without_factors_points_to_label_free_metrics(context, monkeypatch):
    monkeypatch.setattr(type(context.source), "factor_sizes", ())
    with pytest.raises(ValueError, match=r"no factor labels.*reconstruction"):
        registry.check(context, ["mig"])


def test_codes_by_index_are_the_encoders(context):
    """z_sem has no prior that gives it a size: the largest deviation of a unit over the pool is 1."""

    def encoded(indices):
        return context.bundle.encode(context.source.fetch(indices).astype(np.float32) / 127.5 - 1)

    indices = np.array([7, 479_999, 7, 12])
    expected = encoded(indices) / np.asarray(encoded(context.pool)).std(axis=0).max()
    np.testing.assert_allclose(context.codes(indices), expected, rtol=1e-4, atol=1e-5)


def test_images_are_encoded_once(context, monkeypatch):
    context.codes(np.arange(50))
    monkeypatch.setattr(context.source, "fetch", lambda indices: pytest.fail("encoded again"), raising=False)
    assert context.codes(np.array([49, 0])).shape == (2, 10)


def test_a_random_mix_determines_the_labels(context):
    mix = RandomMix(context.source.factors, 10, 0, context.pool)
    factors = context.source.factors(context.pool)
    design = np.column_stack([mix(context.pool), np.ones(len(context.pool))])
    recovered = design @ np.linalg.lstsq(design, factors, rcond=None)[0]
    np.testing.assert_allclose(recovered, factors, atol=1e-6)
    assert np.linalg.matrix_rank(mix(context.pool)) == len(context.source.factor_sizes)


def test_the_untrained_floor_is_of_unit_deviation_and_another_encoder(context):
    first, second = (encoder(context.pool) for encoder in with_settings(context, floor_seeds=2).untrained)
    np.testing.assert_allclose(first.std(axis=0).max(), 1, rtol=1e-3)
    assert np.abs(first - second).max() > 0.1


def test_the_size_of_z_sem_does_not_count(context, monkeypatch):
    """FactorVAE leaves out codes of a small deviation, and z_sem has no prior that gives it a size."""

    def scores():
        fresh = registry.Context(
            registry.Settings("", seeds=1, floor_seeds=0, num_images=300, num_votes=60), context.bundle
        )
        return registry.METRICS["factor_vae"].measure(fresh)

    before = scores()
    assert before["num_active"]["mean"] == 10
    original = floors.encode
    monkeypatch.setattr(floors, "encode", lambda *args, **options: 1e-3 * original(*args, **options))
    after = scores()
    assert after["num_active"]["mean"] == 10
    assert after["factor_vae"]["mean"] == pytest.approx(before["factor_vae"]["mean"], abs=0.04)


def test_samples_come_from_the_pool_without_repetition(context):
    drawn = context.draw(200, seed=0)
    assert len(np.unique(drawn)) == 200
    assert np.isin(drawn, context.pool).all()
    np.testing.assert_array_equal(drawn, context.draw(200, seed=0))
    assert (drawn != context.draw(200, seed=1)).any()


def test_the_heldout_pool_has_no_training_images(context):
    held_out = with_settings(context, pool="heldout", num_images=0, seeds=1)
    _, expected = data.split(len(context.source), context.bundle.config.data.holdout)
    np.testing.assert_array_equal(held_out.pool, expected)
    drawn = held_out.draw(len(expected), seed=0)
    assert len(np.unique(drawn)) == len(expected)
    with pytest.raises(ValueError, match="too few"):
        held_out.draw(len(expected) + 1, seed=0)


def test_a_model_that_saw_every_image_has_no_heldout_pool(context):
    seen_all = with_config(context, {"pool": "heldout"}, holdout=0.0)
    with pytest.raises(ValueError, match="saw every image"):
        registry.check(seen_all, ["mig"])


PAIRS = {"holdout_pairs": "object_hue,shape"}


def test_combinations_never_trained_on_are_scored_beside_seen_ones(context):
    held = with_config(context, {"seeds": 1, "pool": "heldout"}, **PAIRS)
    factors = held.source.factors
    assert not (factors(held.pool)[:, 2] % 4 == factors(held.pool)[:, 4]).any()
    unseen = with_settings(held, pool="combinations")
    assert (factors(unseen.pool)[:, 2] % 4 == factors(unseen.pool)[:, 4]).all()
    registry.check(unseen, ["composition", "reconstruction"])
    known = with_settings(held, num_decoded=4)
    known.__dict__["codes"] = lambda i: np.hstack([np.eye(10)[factors(i)[:, 2]], np.eye(4)[factors(i)[:, 4]]])
    scores = registry.METRICS["composition"].measure(known)
    assert (scores["seen"]["mean"], scores["unseen"]["mean"]) == (1.0, 1.0)
    assert scores["unseen"]["floors"]["untrained"] < 0.9
    assert {"mse, random x_T, T=2, seen", "mse, inferred x_T, T=2, unseen"} <= set(scores)
    assert "25% of the combinations of object_hue and shape" in scores["note"]


def test_without_held_out_combinations_there_is_no_score_of_them(context):
    with pytest.raises(UserError, match="composition: no combinations were held out"):
        registry.check(context, ["composition"])
    with pytest.raises(UserError, match="--pool=combinations: this model saw every combination"):
        registry.check(with_settings(context, pool="combinations"), ["mig"])


def test_of_other_images_none_is_called_held_out(context, capsys):
    assert context.bundle.trained_on["num_images"] == 480_000
    assert context.unseen[1] == "held-out"
    bundle = dataclasses.replace(context.bundle, trained_on=context.bundle.trained_on | {"names_sha256": "another"})
    other = registry.Context(context.settings, bundle)
    registry.check(other, ["reconstruction"])
    assert "note: the model was trained on other images: scenes has 480000 images of other" in capsys.readouterr().out
    indices, which = other.unseen
    assert which == "other"
    assert len(indices) == 480_000
    with pytest.raises(UserError, match="--pool=heldout: which images were held out is not known"):
        registry.check(with_settings(other, pool="heldout"), ["mig"])


def test_floors_can_be_left_out(context):
    scores = registry.METRICS["mig"].measure(with_settings(context, floor_seeds=0, seeds=1))
    assert scores["mig"]["floors"] == {}


@pytest.mark.parametrize(("num_votes", "expected"), [(0, (300, 150)), (40, (40, 20))])
def test_numbers_of_votes(context, num_votes, expected):
    def metric(represent, sizes, *, seed, num_train, num_eval):
        return {"train": num_train, "eval": num_eval}

    scores = labelled.intervened(metric, with_settings(context, num_votes=num_votes, floor_seeds=0, seeds=1))
    assert (scores["train"]["mean"], scores["eval"]["mean"]) == expected


def test_factor_vae_of_perfect_codes_is_one(context, monkeypatch):
    """The whole protocol, with the factors instead of the model's codes."""
    settings = registry.Settings("", seeds=1, num_images=300, num_train=300, num_test=100)
    known = registry.Context(settings, context.bundle)
    known.__dict__["codes"] = lambda indices: known.source.factors(indices).astype(np.float32)
    known.__dict__["untrained"] = [lambda indices: np.random.default_rng(0).normal(size=(len(indices), 6))]
    scores = registry.METRICS["factor_vae"].measure(known)
    assert scores["factor_vae"]["mean"] == 1.0
    assert scores["factor_vae"]["floors"]["untrained"] < 0.5


def test_fid_of_the_decoded_images(context, tmp_path, monkeypatch):
    """With raw pixels as features: 0 between the original images and themselves, not 0 for decoded images."""
    monkeypatch.setattr(decoded.inception, "load_weights", lambda path: {})

    def pixels(images):
        return images[:, 4, 4:6].reshape(len(images), -1)

    monkeypatch.setattr(decoded.fid, "make_features", lambda _: pixels)
    (tmp_path / "weights").write_bytes(b"a network")
    weights = str(tmp_path / "weights")
    small = with_settings(context, num_generated=40, workdir=str(tmp_path), inception_weights=weights)
    assert registry.METRICS["fid"].measure(small)["fid"]["mean"] > 0
    assert len(list((tmp_path / "fid_statistics").iterdir())) == 1
    monkeypatch.setattr(api.Editor, "generate", lambda self, z, seed: originals.pop(0))
    indices = subset(small.pool, 40, 0)
    originals = [decoded.images_of(small, indices[rows]) for rows, _ in codes.batches(40, decoded.BATCH)]
    assert registry.METRICS["fid"].measure(small)["fid"]["mean"] == pytest.approx(0, abs=1e-4)


def test_fid_statistics_are_of_one_network_and_one_set(context, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    one, two = ({"inception_weights": str(tmp_path / name)} for name in ("one", "two"))
    first = np.arange(9)
    digests = [
        decoded._digest(with_settings(context, **one), first),
        decoded._digest(with_settings(context, **two), first),
        decoded._digest(with_settings(context, **one), first + 1),
        decoded._digest(with_config(context, one, path="elsewhere"), first),
        decoded._digest(with_config(context, one, crop="d2c"), first),
    ]
    assert len(set(digests)) == len(digests)
    assert digests[0] == decoded._digest(with_settings(context, seeds=5, **one), first)


def test_another_images_z_is_never_the_same_image(context, monkeypatch):
    """With 33 images the last batch has one image; within this batch it could only be compared with itself."""
    seen, own = [], []

    def denoiser(self, params, z):
        seen.append(np.asarray(z))
        return lambda x_t, t: 0 * x_t

    def target(self, images, eps, signal, noise):
        own.append(np.asarray(images).mean((1, 2)))
        return 1 + 0 * eps

    monkeypatch.setattr(type(context.bundle), "encode", lambda self, images: np.asarray(images).mean((1, 2)))
    monkeypatch.setattr(type(context.bundle.functions.networks), "denoiser", denoiser)
    monkeypatch.setattr(type(context.bundle.functions.prediction), "target", target)
    with jax.disable_jit():
        registry.METRICS["z_usage"].measure(with_settings(context, num_decoded=33, seeds=1))
    right, shuffled = (np.abs(z - image).max(axis=1) for z, image in zip(seen[3:5], own[3:5]))  # of the last batch
    assert right.max() < 1e-6
    assert shuffled.min() > 1e-6


def test_one_held_out_image_cannot_be_compared(context):
    indices, which = with_config(context, holdout=1 / len(context.source)).unseen
    assert (len(indices), which) == (len(context.source) - 1, "training")


@pytest.mark.parametrize("protocol", ["exact", "nashae", "disdiff", "infodiffusion"])
def test_tad_of_codes_that_are_the_attributes(context, protocol, monkeypatch):
    def attributes(indices):
        return np.random.default_rng(0).integers(0, 2, (len(context.source), 3))[indices]

    monkeypatch.setattr(context.source, "attributes", attributes, raising=False)
    known = with_settings(context, protocol=(protocol,), seeds=1)
    known.__dict__.update(source=context.source, codes=attributes)
    known.__dict__["untrained"] = [lambda indices: np.random.default_rng(1).normal(size=(len(indices), 3))]
    scores = registry.METRICS["tad"].measure(known)
    assert scores["captured"]["mean"] == 3
    assert scores["tad"]["mean"] == pytest.approx(1.5, abs=0.2)
    assert scores["captured"]["floors"]["untrained"] == 0


def test_infodiffusion_takes_the_first_images_of_the_pool_once(context, monkeypatch):
    asked = []

    def attributes(indices):
        asked.append(indices)
        return np.random.default_rng(0).integers(0, 2, (len(context.source), 3))[indices]

    monkeypatch.setattr(context.source, "attributes", attributes, raising=False)
    known = with_settings(context, protocol=("infodiffusion",), seeds=3, floor_seeds=0, num_images=50)
    known.__dict__.update(
        source=context.source, codes=lambda indices: np.random.default_rng(0).random((len(indices), 3))
    )
    assert registry.METRICS["tad"].measure(known)["tad"]["std"] is None  # one run, whatever the seeds
    np.testing.assert_array_equal(np.concatenate(asked), known.pool)


@pytest.mark.parametrize("protocol", ["exact", "nashae", "infodiffusion"])
def test_images_without_labels_are_left_out_of_tad(context, protocol, tmp_path):
    """The same score as of the labelled images alone, also of the floors."""
    for name in ("all", "labelled"):
        (tmp_path / name).mkdir()
    rows = ["file,red,old"]
    for i in range(40):
        Image.new("L", (8, 8), 6 * i).save(tmp_path / "all" / f"{i:02d}.png")
        if i % 4:
            Image.new("L", (8, 8), 6 * i).save(tmp_path / "labelled" / f"{i:02d}.png")
            rows.append(f"{i:02d}.png,{int(i % 3 == 0)},{int(i > 17)}")
    found = {}
    for name in ("all", "labelled"):
        (tmp_path / name / "attributes.csv").write_text("\n".join(rows))
        source = Folder(str(tmp_path / name), 8, 1)
        known = with_settings(context, protocol=(protocol,), seeds=1, floor_seeds=1, num_images=0)

        def codes(indices, source=source):
            values = source.fetch(indices)[:, 0, 0, 0]
            return np.stack([values, values % 7], axis=1)

        known.__dict__.update(source=source, codes=codes, untrained=[codes])
        registry.METRICS["tad"].needs[0](known)
        found[name] = registry.METRICS["tad"].measure(known)
    note = f"protocol {protocol}, 30 images"
    assert found["labelled"].pop("note") == note
    assert found["all"].pop("note") == f"{note}; 10 images without labels are left out"
    assert found["all"] == found["labelled"]


def test_labels_of_other_images_alone_are_refused(context, monkeypatch):
    known = with_settings(context, num_images=5)
    monkeypatch.setattr(type(context.source), "attribute_names", ("red",))
    monkeypatch.setattr(type(context.source), "labelled", lambda self, indices: np.zeros(len(indices), bool))
    known.__dict__["source"] = context.source
    with pytest.raises(UserError, match="tad: none of the 5 images to score has a row in the file of labels"):
        registry.check(known, ["tad"])


def test_summary_is_over_seeds():
    result = summary([{"a": 1.0}, {"a": 3.0}], {"untrained": [{"a": 0.5}]})
    assert result == {"a": {"mean": 2.0, "std": 1.0, "floors": {"untrained": 0.5}}}


def test_one_run_has_no_deviation():
    result = summary([{"a": 1.0}])
    assert result == {"a": {"mean": 1.0, "std": None}}
    assert tables.cells({"a": result})[1] == [("a", "a", "1")]


def test_mig_comes_with_the_information_shares(context, tmp_path, monkeypatch):
    alone = with_settings(context, seeds=1, floor_seeds=0, out=str(tmp_path))
    scores = registry.METRICS["mig"].measure(alone)
    found = scores["details"]["information_shares"]
    assert list(found) == list(context.source.factor_names)
    gaps = [best - second for *_, second, best in map(sorted, found.values())]
    assert scores["mig"]["mean"] == pytest.approx(np.mean(gaps))
    assert np.asarray(Image.open(tmp_path / "mutual_information.png")).std() > 10
    (tmp_path / "mutual_information.png").unlink()
    monkeypatch.setattr(jax, "process_index", lambda: 1)  # only the first of several processes draws
    assert registry.METRICS["mig"].measure(alone) == scores
    assert not list(tmp_path.iterdir())


def test_subset_keeps_all_of_a_small_set():
    np.testing.assert_array_equal(subset(np.arange(5), 9, 0), np.arange(5))


def test_content_tracking_has_an_interval_floors_and_pictures(context, tmp_path):
    scores = registry.METRICS["content_tracking"].measure(with_settings(context, num_tracked=3, out=str(tmp_path)))
    assert 0 <= scores["low"] <= scores["score"] <= scores["high"] <= 1
    for name in ("consistency", "independence", "activity"):
        assert 0 <= scores[name] <= 1
        assert 0 <= scores["floors"]["random_directions"][name] <= 1
    assert len(scores["details"]["directions"]) == 10
    assert (tmp_path / "content_tracking_similarity.png").exists()
    assert "content_tracking,score" in tables.to_csv({"content_tracking": scores})


def test_content_tracking_encodes_no_more_than_its_images(context, tmp_path, monkeypatch):
    fetched = []
    fetch = type(context.source).fetch
    monkeypatch.setattr(
        type(context.source), "fetch", lambda self, rows: fetched.append(len(rows)) or fetch(self, rows)
    )
    small = {"num_tracked": 2, "floor_seeds": 0, "out": str(tmp_path)}
    scores = registry.METRICS["content_tracking"].measure(with_settings(context, tracker="dis", **small))
    assert scores["details"]["tracker"] == "dis"
    assert scores["details"]["span"] == SPAN
    assert sum(fetched) == 2


def test_content_tracking_of_navigated_directions(context, tmp_path, monkeypatch):
    """Three given directions, in standard deviations of z. Only the first of several processes draws."""
    dim = context.bundle.config.model.latent_dim
    A, scales = np.linalg.qr(np.random.default_rng(0).normal(size=(dim, 3)))[0], np.linspace(0.5, 2, dim)
    (tmp_path / "navigation").mkdir()
    directions = navigation_results.Directions(A, scales, np.arange(3), np.ones(3), "z_sem", context.bundle.step)
    directions.save(tmp_path / "navigation" / "directions.npz")
    small = {"workdir": str(tmp_path), "num_tracked": 2, "floor_seeds": 0, "directions": "navigation"}
    found = with_settings(context, **small)
    np.testing.assert_allclose(decoded.directions_of(found), (A * scales[:, None]).T, rtol=1e-6)
    with pytest.raises(ValueError, match="holds directions of z_sem, not of --latent=z_disen"):
        registry.check(with_settings(found, latent="z_disen"), ["content_tracking"])
    registry.check(found, ["content_tracking"])
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    assert len(registry.METRICS["content_tracking"].measure(found)["details"]["directions"]) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["navigation"]


def test_content_tracking_of_a_folder(context, tmp_path):
    """Own images without factors or attributes, and too few to hold some out."""
    size = context.bundle.config.data.image_size
    for i, image in enumerate(context.source.fetch(np.arange(3) * 1000)):
        Image.fromarray(image).resize((size + 9, size)).save(tmp_path / f"{i}.png")
    small = {"num_tracked": 2, "floor_seeds": 0, "pictures": False}
    folder = with_config(context, small, source="folder", path=str(tmp_path), holdout=0.0)
    with pytest.raises(ValueError, match="no factor labels"):
        registry.check(folder, ["mig"])
    registry.check(folder, ["content_tracking"])
    scores = registry.METRICS["content_tracking"].measure(folder)
    assert 0 <= scores["low"] <= scores["score"] <= scores["high"] <= 1
    assert "2 other images" in scores["note"]


def test_dci_takes_the_learner_that_is_asked_for(context, monkeypatch):
    learners = []
    monkeypatch.setattr(labelled, "dci", lambda *a, learner, **k: learners.append(learner) or {"disentanglement": 0.0})
    for learner in ("presorted", "sklearn"):
        registry.METRICS["dci"].measure(with_settings(context, dci_learner=learner, seeds=1, floor_seeds=0))
    assert learners == ["presorted", "sklearn"]


def test_dci_is_fitted_once_for_both_of_its_metrics(context, monkeypatch):
    fitted = []
    monkeypatch.setattr(labelled, "dci", lambda *a, **k: fitted.append(a) or {"disentanglement": 0.25})
    alone = with_settings(context, seeds=1, num_train=60, num_test=30)
    both = [registry.METRICS[name].measure(alone) for name in ("dci", "dci_es")]
    assert len(fitted) == 3  # the model and two floors
    assert both[1]["disentanglement"] == both[0]["disentanglement"]
    assert both[1]["size"]["mean"] == 0.6
    assert set(both[1]["explicitness"]["floors"]) == {"random_mix", "untrained"}


def test_infomec_of_codes_that_are_the_factors(context):
    settings = registry.Settings("", seeds=1, num_images=600, num_train=600, num_test=100)
    known = registry.Context(settings, context.bundle)
    known.__dict__["codes"] = lambda indices: known.source.factors(indices).astype(np.float32)
    known.__dict__["untrained"] = [lambda indices: np.random.default_rng(0).normal(size=(len(indices), 6))]
    scores = registry.METRICS["infomec"].measure(known)
    assert scores["infom"]["mean"] > 0.9
    assert scores["infoc"]["mean"] > 0.9
    assert scores["infom"]["floors"]["random_mix"] < 0.5  # every factor in every code
    assert scores["infoe"]["floors"]["untrained"] < 0.2
    assert scores["active"]["mean"] == 6


def test_a_missing_tracker_is_an_error_before_any_work(context):
    with pytest.raises(UserError, match="needs the path of its checkpoint"):
        registry.check(with_settings(context, tracker="tapir"), ["content_tracking"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["beta_vae", "dci_es", "modularity_explicitness"])
def test_the_longer_metrics(context, name):
    scores = registry.METRICS[name].measure(with_settings(context, seeds=1))
    for score in (score for key, score in scores.items() if key != "note"):
        assert np.isfinite(score["mean"])
        assert set(score["floors"]) == {"random_mix", "untrained"}
