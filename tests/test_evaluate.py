"""The evaluation: its protocol on known codes, and the binary end to end on a tiny run."""

import csv
import dataclasses
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from cldis_jax import api, cli, data, evaluation, train
from cldis_jax.evaluation import decoded, labelled, tables
from cldis_jax.evaluation.context import subset, summary
from configs import scenes

SMALL = {"num_images": 600, "num_train": 300, "num_test": 150, "seeds": 2, "num_decoded": 8, "decode_steps": (2,)}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    config = scenes.get_config("tiny")
    config.train.steps, config.train.log_every, config.train.num_pictures, config.checkpoint.every_steps = 8, 4, 2, 4
    path = str(tmp_path_factory.mktemp("run"))
    train.train(config, path)
    return path


@pytest.fixture(scope="module")
def context(workdir):
    return evaluation.Context(evaluation.Settings(workdir, **SMALL), api.load(workdir))


def with_settings(context, **settings):
    return evaluation.Context(dataclasses.replace(context.settings, **settings), context.bundle)


def run_binary(*arguments):
    command = [sys.executable, "-m", "cldis_jax.evaluate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_binary_writes_json_csv_and_markdown(workdir, tmp_path):
    small = ("--num_images=600", "--num_train=300", "--num_test=150", "--seeds=2", "--num_decoded=8")
    metrics = "--metrics=mig,sap,irs,reconstruction,z_usage"
    done = run_binary(f"--workdir={workdir}", f"--out={tmp_path}", metrics, "--decode_steps=2", *small)
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


def test_last_and_best_of_the_checkpoints_kept(workdir, tmp_path):
    steps = [4, 8]
    small = ("--num_images=600", "--num_train=300", "--num_test=150", "--seeds=1")
    done = run_binary(f"--workdir={workdir}", f"--out={tmp_path}", "--metrics=mig", "--step=last,best", *small)
    assert done.returncode == 0, done.stderr
    last, best = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("evaluate", "evaluate_best"))
    assert last["settings"]["step"] == steps[-1]
    assert best["settings"]["step"] in steps
    assert best["mig"]["mig"]["mean"] >= last["mig"]["mig"]["mean"]
    for arguments, message in (("--step=5", r"checkpoints kept: [4, 8]"), ("--step=best", "must be one of factor_vae")):
        failed = run_binary(f"--workdir={workdir}", f"--out={tmp_path / 'no'}", "--metrics=z_usage", arguments)
        assert failed.returncode == 1
        assert message in failed.stderr
        assert not (tmp_path / "no").exists()


def test_bad_input_is_one_clear_line(workdir):
    before = sorted(path.name for path in pathlib.Path(workdir).iterdir())
    done = run_binary(f"--workdir={workdir}", "--metrics=mgi")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: --metrics: 'mgi' is unknown; choose from factor_vae")
    assert sorted(path.name for path in pathlib.Path(workdir).iterdir()) == before


@pytest.mark.parametrize(
    ("metric", "settings", "message"),
    [
        ("tad", {}, "tad needs attribute labels"),
        ("udr", {}, "--workdirs=DIR2,DIR3"),
        ("fid", {}, "pt_inception-2015-12-05"),
        ("reconstruction", {"lpips_weights": ("/none.pth",)}, "alexnet-owt"),
        ("mig", {"num_images": 10}, "too few"),
        ("content_tracking", {"directions": "navigation"}, "cldis_jax.navigate"),
    ],
)
def test_what_is_missing_is_said_before_any_work(context, metric, settings, message):
    with pytest.raises(cli.USER_ERRORS, match=message):
        evaluation.check(with_settings(context, **settings), [metric])


def test_reconstruction_is_laid_out_with_the_published_rows(context):
    scores = evaluation.METRICS["reconstruction"].measure(context)
    for metric in ("ssim", "psnr", "mse"):
        for kind in ("inferred x_T", "random x_T"):
            assert np.isfinite(scores[f"{metric}, {kind}, T=2"]["mean"])
    assert "8 held-out images" in scores["note"]
    header, lines = tables.table_2(scores)
    published = next(line for line in lines if line[0] == "ssim" and "Diff-AE inferred" in line[1])
    assert published[header.index("T=100")] == "0.991"
    assert published[header.index("T=2")] == "-"


def test_z_disen_is_decoded_by_the_vae(context):
    scores = evaluation.METRICS["reconstruction"].measure(with_settings(context, latent="z_disen"))
    assert set(scores) == {"ssim, VAE", "psnr, VAE", "mse, VAE", "note"}


def test_two_copies_of_a_model_agree_in_udr(context, workdir):
    scores = evaluation.METRICS["udr"].measure(with_settings(context, workdirs=(workdir,), seeds=1))
    assert scores["udr_0"]["mean"] == pytest.approx(scores["udr_1"]["mean"])
    assert "untrained" in scores["udr"]["floors"]


def test_a_set_without_factors_points_to_label_free_metrics(context, monkeypatch):
    monkeypatch.setattr(type(context.source), "factor_sizes", ())
    with pytest.raises(ValueError, match=r"no factor labels.*reconstruction"):
        evaluation.check(context, ["mig"])


def test_codes_by_index_are_the_encoders(context):
    indices = np.array([7, 479_999, 7, 12])
    images = context.source.fetch(indices).astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(context.codes(indices), context.bundle.encode(images), rtol=1e-4, atol=1e-5)


def test_images_are_encoded_once(context, monkeypatch):
    context.codes(np.arange(50))
    monkeypatch.setattr(context.source, "fetch", lambda indices: pytest.fail("encoded again"), raising=False)
    assert context.codes(np.array([49, 0])).shape == (2, 10)


def test_a_random_mix_determines_the_labels(context):
    mix = context.mix(context.source.factors, seed=0)
    factors = context.source.factors(context.pool)
    design = np.column_stack([mix(context.pool), np.ones(len(context.pool))])
    recovered = design @ np.linalg.lstsq(design, factors, rcond=None)[0]
    np.testing.assert_allclose(recovered, factors, atol=1e-6)
    assert np.linalg.matrix_rank(mix(context.pool)) == len(context.source.factor_sizes)


def test_the_untrained_floor_is_of_unit_deviation_and_another_encoder(context):
    codes = context.untrained(context.pool)
    np.testing.assert_allclose(codes.std(axis=0), 1, rtol=1e-3)
    assert np.abs(codes).max() > 0


def test_draws_come_from_the_pool_without_repetition(context):
    drawn = context.draw(200, seed=0)
    assert len(np.unique(drawn)) == 200
    assert np.isin(drawn, context.pool).all()
    np.testing.assert_array_equal(drawn, context.draw(200, seed=0))
    assert (drawn != context.draw(200, seed=1)).any()


def test_the_heldout_pool_is_what_training_did_not_see(context):
    held_out = with_settings(context, pool="heldout", num_images=0, seeds=1)
    _, expected = data.split(len(context.source), context.bundle.config.data.holdout)
    np.testing.assert_array_equal(held_out.pool, expected)
    drawn = held_out.draw(len(expected), seed=0)
    assert len(np.unique(drawn)) == len(expected)
    with pytest.raises(ValueError, match="too few"):
        held_out.draw(len(expected) + 1, seed=0)


def test_a_model_that_saw_every_image_has_no_heldout_pool(context):
    config = context.bundle.config.copy_and_resolve_references()
    config.data.holdout = 0.0
    bundle = dataclasses.replace(context.bundle, functions=api.make_functions(config))
    seen_all = evaluation.Context(dataclasses.replace(context.settings, pool="heldout"), bundle)
    with pytest.raises(ValueError, match="saw every image"):
        evaluation.check(seen_all, ["mig"])


def test_floors_can_be_left_out(context):
    scores = evaluation.METRICS["mig"].measure(with_settings(context, floor_seeds=0, seeds=1))
    assert scores["mig"]["floors"] == {}


@pytest.mark.parametrize(("num_votes", "expected"), [(0, (300, 150)), (40, (40, 20))])
def test_numbers_of_votes(context, num_votes, expected):
    def metric(represent, sizes, *, seed, num_train, num_eval):
        return {"train": num_train, "eval": num_eval}

    scores = labelled.intervened(metric, with_settings(context, num_votes=num_votes, floor_seeds=0, seeds=1))
    assert (scores["train"]["mean"], scores["eval"]["mean"]) == expected


def test_factor_vae_of_perfect_codes_is_one(context, monkeypatch):
    """The factors themselves in place of the model's codes, through the whole protocol."""
    settings = evaluation.Settings("", seeds=1, num_images=300, num_train=300, num_test=100)
    known = evaluation.Context(settings, context.bundle)
    known.__dict__["codes"] = lambda indices: known.source.factors(indices).astype(np.float32)
    known.__dict__["untrained"] = lambda indices: np.random.default_rng(0).normal(size=(len(indices), 6))
    scores = evaluation.METRICS["factor_vae"].measure(known)
    assert scores["factor_vae"]["mean"] == 1.0
    assert scores["factor_vae"]["floors"]["untrained"] < 0.5


def test_fid_of_the_decoded_images(context, tmp_path, monkeypatch):
    """With raw pixels in place of Inception's features: the original set against itself is 0, against decodings not."""
    monkeypatch.setattr(decoded.inception, "load_weights", lambda path: {})

    def pixels(images):
        return images[:, 4, 4:6].reshape(len(images), -1)

    monkeypatch.setattr(decoded.fid, "make_features", lambda _: pixels)
    small = with_settings(context, num_generated=40, workdir=str(tmp_path))
    assert evaluation.METRICS["fid"].measure(small)["fid"]["mean"] > 0
    assert len(list((tmp_path / "fid_statistics").iterdir())) == 1
    monkeypatch.setattr(decoded.pictures, "random_noise", lambda *_: None)
    monkeypatch.setattr(type(context.bundle), "decode", lambda self, x_T, z, num_steps: originals.pop(0))
    originals = [decoded.images_of(small, rows) for rows, _ in decoded.batches(subset(small.pool, 40, 0), "")]
    assert evaluation.METRICS["fid"].measure(small)["fid"]["mean"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("protocol", ["exact", "nashae", "disdiff", "infodiffusion"])
def test_tad_of_codes_that_are_the_attributes(context, protocol, monkeypatch):
    def attributes(indices):
        return np.random.default_rng(0).integers(0, 2, (len(context.source), 3))[indices]

    monkeypatch.setattr(context.source, "attributes", attributes, raising=False)
    known = with_settings(context, protocol=protocol, seeds=1)
    known.__dict__.update(source=context.source, codes=attributes)
    known.__dict__["untrained"] = lambda indices: np.random.default_rng(1).normal(size=(len(indices), 3))
    scores = evaluation.METRICS["tad"].measure(known)
    assert scores["captured"]["mean"] == 3
    assert scores["tad"]["mean"] == pytest.approx(1.5, abs=0.2)
    assert scores["captured"]["floors"]["untrained"] == 0


def test_summary_is_over_seeds():
    result = summary([{"a": 1.0}, {"a": 3.0}], {"untrained": [{"a": 0.5}]})
    assert result == {"a": {"mean": 2.0, "std": 1.0, "floors": {"untrained": 0.5}}}


def test_subset_keeps_all_of_a_small_set():
    np.testing.assert_array_equal(subset(np.arange(5), 9, 0), np.arange(5))


def test_content_tracking_has_an_interval_floors_and_pictures(context, tmp_path):
    scores = evaluation.METRICS["content_tracking"].measure(with_settings(context, num_tracked=3, out=str(tmp_path)))
    assert 0 <= scores["low"] <= scores["score"] <= scores["high"] <= 1
    for name in ("consistency", "independence", "activity"):
        assert 0 <= scores[name] <= 1
        assert 0 <= scores["floors"]["random_directions"][name] <= 1
    assert len(scores["details"]["directions"]) == 10
    assert (tmp_path / "content_tracking_similarity.png").exists()
    assert "content_tracking,score" in tables.to_csv({"content_tracking": scores})


def test_a_missing_tracker_is_said_before_any_work(context):
    with pytest.raises(ValueError, match="needs the path of its checkpoint"):
        evaluation.check(with_settings(context, tracker="tapir"), ["content_tracking"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["beta_vae", "dci", "modularity_explicitness"])
def test_the_longer_metrics(context, name):
    scores = evaluation.METRICS[name].measure(with_settings(context, seeds=1))
    for score in (score for key, score in scores.items() if key != "note"):
        assert np.isfinite(score["mean"])
        assert set(score["floors"]) == {"random_mix", "untrained"}
