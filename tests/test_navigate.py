"""The search on a tiny untrained model: resuming, memory of the DDIM gradient, decoders and errors."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cldis_jax import api, data
from cldis_jax.navigation import decoders, run
from cldis_jax.navigation import method as navigation_method
from cldis_jax.navigation import results as navigation_results
from cldis_jax.navigation import search as navigation_search
from cldis_jax.runtime import checkpoint, report
from cldis_jax.runtime.errors import UserError
from tests import doors, random_params

CODES = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)


@pytest.fixture
def bundle(tiny):
    return random_params.bundle(tiny)


def small_config(**fields):
    config = navigation_method.default_config()
    config.width = 8
    config.decode_steps = 2
    config.data.batch_size = 4
    config.train.steps = 6
    config.train.log_every = 2
    config.update(fields)
    return config


def test_a_resumed_search_equals_an_uninterrupted_one(bundle, tmp_path):
    through = small_config(decoder="vae")
    whole = navigation_search.Search(through, bundle, CODES).fit(str(tmp_path / "through"))

    half = small_config(decoder="vae")
    half.train.steps = 4
    navigation_search.Search(half, bundle, CODES).fit(str(tmp_path / "halves"))
    found = navigation_search.Search(through, bundle, CODES).fit(str(tmp_path / "halves"))

    assert found.steps == 2
    assert [row["step"] for row in found.history] == [2, 4, 6]
    assert [row["loss"] for row in found.history] == [row["loss"] for row in whole.history]
    jax.tree.map(np.testing.assert_array_equal, found.state.params, whole.state.params)
    start = navigation_search.Search(through, bundle, CODES).create()
    assert np.abs(np.asarray(found.state.params["directions"] - start.params["directions"])).max() > 0
    assert found.seconds_per_step is None  # there was one block, which includes compilation
    assert whole.compile_seconds > 5 * whole.seconds_per_step > 0


def test_other_settings_are_refused_and_nothing_is_overwritten(bundle, tmp_path):
    config = small_config(decoder="vae")
    config.train.steps = 2
    navigation_search.Search(config, bundle, CODES).fit(str(tmp_path))
    before = (tmp_path / "scalars.jsonl").read_text()
    with pytest.raises(
        checkpoint.CheckpointError,
        match=r"(?s)a search of another config.*max_shift: 6.0 in the workdir, 3.0 asked for",
    ):
        navigation_search.Search(small_config(decoder="vae", max_shift=3.0), bundle, CODES).fit(str(tmp_path))
    assert (tmp_path / "scalars.jsonl").read_text() == before


def test_a_loss_that_is_not_finite_names_its_step_and_saves_nothing(bundle, tmp_path):
    broken = CODES.copy()
    broken[:, 0] = np.nan
    with pytest.raises(FloatingPointError, match=r"step 1 of the search: .*loss=nan"):
        navigation_search.Search(small_config(decoder="vae"), bundle, broken).fit(str(tmp_path))
    assert not any(path.name.isdigit() for path in (tmp_path / "checkpoints").iterdir())


def test_a_gradient_that_is_not_finite_is_noticed_when_the_loss_is_finite(bundle, tmp_path, monkeypatch):
    def decoder(config, functions):
        # Its value is 0; its derivative is not finite.
        return lambda params, z, x_T: x_T + jnp.sqrt(0 * z.sum(-1))[:, None, None, None]

    monkeypatch.setattr(navigation_search, "make_decoder", decoder)
    with pytest.raises(FloatingPointError, match=r"step 1 of the search: gradient_norm/directions=nan;"):
        navigation_search.Search(small_config(), bundle, CODES).fit(str(tmp_path))
    assert not any(path.name.isdigit() for path in (tmp_path / "checkpoints").iterdir())


def test_a_batch_must_be_divisible_by_the_devices():
    decoders.check_devices(small_config(), 4)
    with pytest.raises(ValueError, match="--batch_size=4 is not divisible by the 3 devices"):
        decoders.check_devices(small_config(), 3)


def test_directions_are_read_back_and_another_step_is_noted(bundle, tmp_path, capsys):
    found = navigation_results.Directions(np.eye(10), np.ones(10), np.arange(10), np.zeros(10), "z_sem", bundle.step)
    found.save(tmp_path / "directions.npz")
    loaded = navigation_results.Directions.load(str(tmp_path / "directions.npz"), bundle)
    jax.tree.map(np.testing.assert_array_equal, loaded, found)
    assert (loaded.latent, loaded.model_step) == ("z_sem", 0)
    assert capsys.readouterr().out == ""

    found._replace(model_step=7).save(tmp_path / "directions.npz")
    navigation_results.Directions.load(tmp_path / "directions.npz", bundle)
    (line,) = capsys.readouterr().out.splitlines()
    assert "directions of step 7, the model is of step 0" in line

    with pytest.raises(UserError, match="directions of z_sem, not of --latent=z_disen"):
        navigation_results.Directions.load(tmp_path / "directions.npz", bundle, "z_disen")
    found._replace(A=np.eye(9), scales=np.ones(9)).save(tmp_path / "directions.npz")
    with pytest.raises(UserError, match=r"\(9, 9\) with scales \(9,\) don't fit a z of 10"):
        navigation_results.Directions.load(tmp_path / "directions.npz", bundle)
    (tmp_path / "directions.npz").write_bytes(b"none")
    with pytest.raises(UserError, match="can't be read as directions"):
        navigation_results.Directions.load(tmp_path / "directions.npz", bundle)


@pytest.mark.parametrize("decoder", ["ddim", "x0", "vae"])
def test_every_decoder_passes_a_gradient_to_z(bundle, decoder):
    config = small_config(decoder=decoder)
    decode = decoders.make_decoder(config, bundle.functions)
    x_T = jax.random.normal(jax.random.key(0), (2, *bundle.image_shape))
    z = jnp.asarray(CODES[:2])

    @jax.jit
    def images_and_gradient(z):
        images, pull = jax.vjp(lambda z: decode(bundle.ema.params, z, x_T), z)
        return images, *pull(jnp.ones_like(images))

    images, gradient = images_and_gradient(z)
    assert images.shape == x_T.shape
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_the_training_decoder_is_the_models_own(bundle):
    config = small_config(decoder="ddim", decode_steps=4)
    x_T = jax.random.normal(jax.random.key(0), (2, *bundle.image_shape))
    images = decoders.make_decoder(config, bundle.functions)(bundle.ema.params, CODES[:2], x_T)
    np.testing.assert_allclose(images, bundle.decode(x_T, CODES[:2], 4), atol=1e-4)


def temporary_bytes(bundle, num_steps):
    config = small_config(decoder="ddim", decode_steps=num_steps)
    compiled = navigation_search.Search(config, bundle, CODES).lower().compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_memory_grows_by_one_image_a_step(bundle, monkeypatch):
    """With a loop of DDIM steps, as on accelerators."""
    monkeypatch.setattr(decoders, "UNROLLED_STEPS", 0)
    per_image = np.prod(bundle.image_shape) * 4
    num_images = 2 * small_config().data.batch_size
    growth = (temporary_bytes(bundle, 20) - temporary_bytes(bundle, 5)) / (15 * num_images * per_image)
    assert growth <= 1.05


def test_measures_on_fresh_pairs(bundle):
    search = navigation_search.Search(small_config(decoder="vae"), bundle, CODES)
    measured = search.measure(search.create().params, CODES, num_batches=5)
    assert measured["count"].sum() == 20
    assert measured["rca"] == pytest.approx((measured["accuracy"] * measured["count"]).sum() / 20)


@pytest.mark.parametrize(
    ("section", "decoder", "words"),
    [("vae", "vae", "no VAE"), ("diffusion", "ddim", "VAE alone"), ("diffusion", "x0", "VAE alone")],
)
def test_a_missing_decoder_is_named(tiny, section, decoder, words):
    tiny[section].weight = 0.0
    bundle = api.Bundle(api.make_functions(tiny), None, 0)
    with pytest.raises(ValueError, match=words):
        decoders.check_decoder(small_config(decoder=decoder), bundle)


def test_baseline_directions_have_length_one_and_pca_finds_covariation():
    rng = np.random.default_rng(0)
    together = rng.normal(size=(2000, 1))
    codes = np.concatenate([together, 5 * together, rng.normal(size=(2000, 1))], axis=1)
    rivals = navigation_results.baseline_directions(codes, 2, seed=0)
    for rows in rivals.values():
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.abs(rivals["pca"][0]), [np.sqrt(0.5), np.sqrt(0.5), 0], atol=0.05)
    assert rivals["pca"].shape == (2, 3)
    assert len(rivals["axes"]) == 3


def test_a_step_along_a_direction_is_one_deviation():
    A = np.array([[0.6, 0.0], [0.8, 0.0], [0.0, 1.0], [0.0, 0.0]])
    scales, ranking = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 0])
    axes = navigation_results.Directions(A, scales, ranking, np.ones(2), "z_sem", 0).axes
    np.testing.assert_allclose(axes.steps, [[0.6, 1.6, 0, 0], [0, 0, 3, 0]])
    assert axes.order == [1, 0]


@pytest.mark.parametrize("decoder", [pytest.param("ddim", marks=pytest.mark.slow), "vae"])  # docs run the first, too
def test_navigation_without_flags(bundle, tmp_path, decoder, monkeypatch):
    monkeypatch.setattr(run.factor_probe, "NUM_TESTED", 40)
    config = run.config_for(bundle, decoder=decoder, width=8, decode_steps=1, num_codes=64, num_directions=2)
    config.data.batch_size, config.train.steps = 4, 2
    results = run.navigate(bundle, tmp_path, config, eval_batches=1, probe_steps=2)
    assert results == report.read_json(tmp_path / "navigation.json")
    assert (results["chance"], results["steps"], results["fresh_pairs"]) == (0.5, 2, 4)
    assert set(results["factor_share"]) == {"navigation", "axes", "pca", "random"}
    found = navigation_results.Directions.load(tmp_path / "directions.npz", bundle)
    assert found.axes.latent == {"ddim": "z_sem", "vae": "z_disen"}[decoder]
    assert found.axes.steps.shape == (2, 10)
    files = ("directions.png", "best.gif", "curves.png", "factors.png")
    assert all((tmp_path / name).exists() for name in files)
    with pytest.raises(UserError, match="num_directions=11 is more than the 10 dimensions"):
        run.navigate(bundle, tmp_path / "other", run.config_for(bundle, num_directions=11))


def test_directions_of_a_set_with_attributes(bundle, tmp_path, monkeypatch):
    """The probe reads attributes in place of factors; images without labels are left out."""
    source = data.make_source(bundle.config.data)
    known = data.make_source(bundle.config.data)

    def attributes(indices):
        assert known.labelled(indices).all()
        floor, wall, *_ = source.factors(indices).T
        return np.stack([floor > 4, wall > 4, floor > 99], axis=-1).astype(np.int64)

    monkeypatch.setattr(type(known), "factor_names", ())
    monkeypatch.setattr(type(known), "attribute_names", ("floor", "wall", "never"))
    monkeypatch.setattr(known, "attributes", attributes)
    monkeypatch.setattr(known, "labelled", lambda indices: np.asarray(indices) % 2 == 0)
    monkeypatch.setattr(run.data, "make_source", lambda config: known)
    monkeypatch.setattr(run.factor_probe, "NUM_TESTED", 64)
    config = run.config_for(bundle, decoder="vae", width=8, num_codes=64, num_directions=2)
    config.data.batch_size, config.train.steps = 4, 2
    results = run.navigate(bundle, tmp_path, config, eval_batches=1, probe_steps=2)
    assert np.shape(results["factor_changes"]["navigation"]) == (2, 3)
    scores = results["probe_auroc"]["originals"]
    assert 0 <= scores["floor"] <= 1
    assert scores["never"] is None
    assert (tmp_path / "factors.png").exists()


def test_no_row_for_a_probe_without_scores():
    """A score is None where all images have the same value of an attribute."""
    one = {"probe_auroc": {"originals": {"hat": None, "smile": 0.8}, "decoded": {"hat": None, "smile": 0.6}}}
    none = {"probe_auroc": {"originals": {"hat": None, "smile": 0.8}, "decoded": {"hat": None, "smile": None}}}
    assert [value for _, value in navigation_results.probe_rows(one)] == ["0.80 / 0.60"]
    assert navigation_results.probe_rows(none) == navigation_results.probe_rows({}) == []


SMALL = ("--steps=4", "--batch_size=4", "--eval_batches=2", "--probe_steps=5", "--num_codes=64", "--decode_steps=2")


def command(*arguments):
    return [sys.executable, "-m", "cldis_jax.navigate", *arguments]


def run_binary(*arguments, binary="navigate"):
    return doors.run(binary, *arguments)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_no_checkpoint_is_one_clear_line_of_one_process_among_others_too(tmp_path):
    """The processes can connect only before a device is used."""
    done = run_binary(
        f"--workdir={tmp_path}", f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=1", "--process_id=0"
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(f"error: no checkpoint in {tmp_path}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_binary_end_to_end(tiny, tmp_path):
    from cldis_jax.training import train

    tiny.train.steps = 20
    train.train(tiny, str(tmp_path))
    done = run_binary(f"--workdir={tmp_path}", *SMALL)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "navigation"
    results = report.read_json(folder / "navigation.json")
    assert results["chance"] == pytest.approx(0.1)
    assert sorted(results["ranking"]) == list(range(10))
    assert set(results["factor_share"]) == {"navigation", "axes", "pca", "random"}
    with np.load(folder / "directions.npz") as file:
        np.testing.assert_allclose(file["A"].T @ file["A"], np.eye(10), atol=1e-4)
        assert file["scales"].shape == file["accuracy"].shape == file["ranking"].shape == (10,)
    for name in ("directions.png", "best.gif", "curves.png", "factors.png"):
        assert (folder / name).stat().st_size > 0

    assert results["images"] == "held-out"
    assert results["compile_seconds"] > 0

    record = tmp_path / "checkpoints" / "20" / "data" / "metadata"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"num_images": 9}))
    other = run_binary(f"--workdir={tmp_path}", *SMALL)
    assert "note: the model was trained on other images: scenes has 480000 images, not 9" in other.stdout
    assert report.read_json(folder / "navigation.json")["images"] == "other"

    refused = run_binary(f"--workdir={tmp_path}", "--num_directions=11")
    assert refused.returncode == 1
    assert "more than the 10 dimensions" in refused.stderr.strip().splitlines()[-1]

    Image.fromarray(np.full((20, 20, 3), 99, np.uint8)).save(tmp_path / "grey.png")
    edited = run_binary(
        *(f"--workdir={tmp_path}", f"--images={tmp_path / 'grey.png'}", f"--out={tmp_path / 'edited'}"),
        *(f"--directions={folder / 'directions.npz'}", "--traverse=2,5", "--encode_steps=3", "--animation=none"),
        binary="edit",
    )
    assert edited.returncode == 0, edited.stderr
    assert "note:" not in edited.stdout
    assert report.read_json(tmp_path / "edited" / "edit.json")["files"] == ["grey_traverse.png"]


@pytest.fixture
def own_workdir(untrained_workdir, tmp_path):
    """A copy of the untrained workdir for one test."""
    return shutil.copytree(untrained_workdir, tmp_path / "run")


@pytest.mark.slow
def test_sigterm_saves_and_the_search_resumes(own_workdir):
    arguments = (f"--workdir={own_workdir}", *SMALL, "--steps=100000", "--decoder=vae")
    log = own_workdir / "navigation" / "scalars.jsonl"
    process = subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (log.exists() and log.read_text()):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 143
    (step,) = checkpoint.kept_steps(str(own_workdir / "navigation"))
    assert step > 0
    assert not (own_workdir / "navigation" / "navigation.json").exists()

    done = run_binary(f"--workdir={own_workdir}", *SMALL, f"--steps={step + 2}", "--decoder=vae")
    assert done.returncode == 0, done.stderr
    assert f"at step {step}" in done.stdout
    assert report.read_json(own_workdir / "navigation" / "navigation.json")["steps"] == step + 2


@pytest.mark.slow
def test_two_processes_find_the_directions_of_one(own_workdir, tmp_path):
    arguments = (f"--workdir={own_workdir}", *SMALL, "--decoder=vae")
    alone = run_binary(*arguments, f"--out={tmp_path / 'alone'}")
    assert alone.returncode == 0, alone.stderr
    meeting = (f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2", f"--out={tmp_path / 'together'}")
    processes = [
        subprocess.Popen(
            command(*arguments, *meeting, f"--process_id={i}"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(2)
    ]
    outputs = [process.communicate(timeout=400)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    results = [report.read_json(tmp_path / name / "navigation.json") for name in ("alone", "together")]
    assert results[1]["fresh_pairs"] == results[0]["fresh_pairs"]
    found = [np.load(tmp_path / name / "directions.npz") for name in ("alone", "together")]
    np.testing.assert_allclose(found[1]["A"], found[0]["A"], atol=1e-3)
