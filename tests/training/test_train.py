"""The run end to end at the smallest size: results, exact resume, damage, signals, refusals."""

import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from unittest import mock

import jax
import numpy as np
import pytest
from PIL import Image

from cldis_jax import api, config, data
from cldis_jax.configs import scenes
from cldis_jax.method import closed_loop, vae_loss
from cldis_jax.runtime import checkpoint, lock, partitioning, preemption
from cldis_jax.training import moments, program, train, watch
from cldis_jax.training import workdir as workdirs
from tests import doors


def shortened():
    c = scenes.get_config("tiny")
    c.train.steps, c.train.log_every, c.train.num_pictures, c.checkpoint.every_steps = 8, 2, 2, 4
    return c


@pytest.fixture
def short():
    return shortened()


@pytest.fixture
def vae_alone(short):
    """The VAE alone, which compiles in a tenth of the time."""
    short.diffusion.weight = short.distillation.weight = 0.0
    short.feedback.mode = "fixed"
    return short


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An uninterrupted run of 8 steps: (workdir, results)."""
    workdir = str(tmp_path_factory.mktemp("finished"))
    return workdir, train.train(shortened(), workdir)


def test_the_results_are_written(finished):
    workdir, results = finished
    saved = json.loads(pathlib.Path(workdir, "main.json").read_text())
    assert saved == results
    assert saved["step"] == 8
    assert saved["config"]["train"]["steps"] == 8
    assert len(saved["params_sha256"]) == 64
    for name in ("L_diff", "L_vae", "L_dt", "vae/kl", "vae/capacity", "vae/active_units"):
        assert np.isfinite(saved["scalars"][name])
    assert saved["scalars"]["reconstruction_mse/z_sem, inferred x_T"] > 0
    rows = [json.loads(line) for line in pathlib.Path(workdir, "scalars.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 6, 8]
    assert any(name.startswith("events") for name in os.listdir(f"{workdir}/tensorboard"))


def test_the_pictures_are_written(finished):
    workdir, _ = finished
    sizes = {}
    for name in ("reconstructions", "traversals_z_sem", "traversals_z_disen", "curves"):
        with Image.open(f"{workdir}/pictures/{name}_00000008.png") as picture:
            sizes[name] = picture.size
            assert len(picture.getcolors(2**24)) > 10
    assert sizes["traversals_z_sem"][1] > 10 * 64  # one row for each of the ten latents


def test_a_resumed_run_is_bit_identical(finished, undrawn, short, tmp_path):
    short.train.steps = 4
    first = train.train(short, str(tmp_path))
    short.train.steps = 8
    second = train.train(short, str(tmp_path))
    assert second["params_sha256"] == finished[1]["params_sha256"]
    assert first["params_sha256"] != second["params_sha256"]


def test_a_finished_run_is_not_repeated(finished, short):
    workdir, results = finished
    before = os.stat(f"{workdir}/scalars.jsonl").st_mtime_ns
    assert train.train(short, workdir) == results
    assert os.stat(f"{workdir}/scalars.jsonl").st_mtime_ns == before


def test_the_model_can_be_loaded(finished):
    bundle = api.load(finished[0])
    assert bundle.step == 8
    images = np.zeros((2, 16, 16, 3), np.float32)
    assert bundle.encode(images).shape == (2, 10)


def test_the_moments_are_those_of_the_ema_encoder_over_training_images(finished):
    """Pictures use the standard deviation of the codes of the same (EMA) encoder."""
    source = data.make_source(shortened().data)
    training, _ = data.split(len(source), shortened().data.holdout)
    images = source.fetch(train.some_of(training, moments.NUM_IMAGES)).astype(np.float32) / 127.5 - 1
    for step in (4, 8):
        bundle = api.load(finished[0], step)
        for latent in api.LATENTS:
            z = np.asarray(bundle.represent(images, latent), np.float64)
            np.testing.assert_allclose(bundle.moments(latent).mean, z.mean(0), atol=1e-5)
            np.testing.assert_allclose(bundle.moments(latent).std, z.std(0), rtol=1e-3, atol=1e-6)


SLOW = [pytest.param(how, marks=pytest.mark.slow) for how in ("remove", "garbage")]


@pytest.mark.parametrize("how", ["truncate", *SLOW])
def test_a_damaged_checkpoint_is_replaced_by_the_one_before(finished, undrawn, short, tmp_path, how, caplog):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    os.remove(workdir / "main.json")
    for path in (workdir / "checkpoints" / "8" / "state").rglob("*"):
        if path.is_file():
            if how == "truncate":
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            elif how == "remove":
                path.unlink()
            else:
                path.write_bytes(os.urandom(path.stat().st_size))
    results = train.train(short, str(workdir))
    assert results["params_sha256"] == finished[1]["params_sha256"]
    assert (workdir / "damaged" / "8").exists()
    assert "checkpoint 8 can't be read" in caplog.text


def test_another_config_is_refused_with_the_differing_fields(finished, short):
    short.model.latent_dim = 7
    short.train.learning_rate = 0.5
    with pytest.raises(checkpoint.CheckpointError) as error:
        train.train(short, finished[0])
    assert "model.latent_dim: 10 in the workdir, 7 asked for" in str(error.value)
    assert "train.learning_rate" in str(error.value)


def test_processes_with_other_images_are_refused(monkeypatch):
    ours = {"num_images": 3, "names_sha256": "ab"}
    monkeypatch.setattr(train.jax, "process_count", lambda: 2)
    for number, digest in ((3, 0xAB), (2, 0xCD)):
        gathered = np.array([3, number]), np.array([[0xAB], [digest]], np.uint8)
        monkeypatch.setattr(train.multihost_utils, "process_allgather", lambda mine, gathered=gathered: gathered)
        if number == 3:
            train.check_same_images(ours)
    with pytest.raises(data.DataError, match=r"process 0: 3, process 1: 2"):
        train.check_same_images(ours)


def test_a_failed_start_does_not_claim_the_workdir(finished, short, tmp_path):
    short.data.source, short.data.path = "folder", str(tmp_path / "nowhere")
    with pytest.raises(data.DataError):
        train.train(short, str(tmp_path / "run"))
    short.model.latent_dim = 7
    workdirs.claim(short, str(tmp_path / "run"))  # nothing was saved, so another config is accepted
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["model"]["latent_dim"] == 7


def test_results_of_an_earlier_stop_are_not_shown(finished, undrawn, short, tmp_path):
    """The run was killed after its last save and before its results, in a workdir of an earlier version."""
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    (workdir / "main.json").write_text(json.dumps(finished[1] | {"step": 4}))
    position = workdir / "checkpoints" / "8" / "data" / "metadata"
    known = json.loads(position.read_text())
    assert known.pop("num_images") == 480_000
    position.write_text(json.dumps(known))
    results = train.train(short, str(workdir))
    assert results["step"] == 8
    assert results["params_sha256"] == finished[1]["params_sha256"]


@pytest.mark.parametrize(
    ("change", "value", "message"),
    [("__len__", lambda self: 100, "has 100 images, not 480000"), ("digest", "another", "has 480000 images of other")],
)
def test_other_images_are_refused(finished, short, monkeypatch, change, value, message):
    monkeypatch.setattr(type(data.make_source(short.data)), change, value)
    short.train.steps = 12
    with pytest.raises(data.DataError, match=message) as error:
        train.train(short, finished[0])
    assert f"{finished[0]} was trained on other images" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_second_run_is_refused_before_it_writes(short, tmp_path):
    with lock.held(tmp_path), pytest.raises(lock.LockError, match="is in use by process"):
        train.train(short, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_workdir_that_orbax_can_not_write_is_refused_before_it_is_made(short, tmp_path):
    with pytest.raises(checkpoint.CheckpointError, match=r"has a \[ in it"):
        train.train(short, str(tmp_path / "run[1]"))
    assert list(tmp_path.iterdir()) == []


def test_a_run_starts_from_anothers_parameters(undrawn, vae_alone, tmp_path, monkeypatch):
    """It also waits for its last save while it still defers signals."""
    handlers = []
    wait = checkpoint.Checkpoints.wait
    monkeypatch.setattr(
        checkpoint.Checkpoints, "wait", lambda self: (handlers.append(signal.getsignal(signal.SIGTERM)), wait(self))
    )
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    train.train(vae_alone, first)
    handlers.clear()
    vae_alone.init_from, vae_alone.train.steps, vae_alone.train.learning_rate = first, 2, 1e-9
    assert train.train(vae_alone, second)["step"] == 2
    theirs, ours = (api.load(workdir).ema.params for workdir in (first, second))
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), ours, theirs)
    assert isinstance(handlers[0].__self__, preemption.StopRequest)


def test_parameters_of_another_method_are_refused(finished, short):
    short.init_from, short.diffusion.prediction, short.model.narrow_groups = finished[0], "eps", False
    short.train.learning_rate = 0.5  # may differ
    abstract = program.make_program(short, partitioning.make_mesh(short)).abstract_state
    with pytest.raises(config.ConfigError, match="would mean something else") as error:
        workdirs.start_from(short, abstract)
    lines = str(error.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == ["diffusion.prediction", "model.narrow_groups"]


@pytest.mark.slow
def test_several_steps_in_one_dispatch_log_save_trace_and_check_signals_on_time(short, tmp_path, monkeypatch):
    asked = []
    reached = preemption.StopRequest.reached
    monkeypatch.setattr(
        preemption.StopRequest, "reached", lambda self, dispatch: asked.append(dispatch) or reached(self, dispatch)
    )
    short.train.steps_per_dispatch, short.train.log_every, short.checkpoint.every_steps = 2, 3, 3
    short.profile_steps = "2-4"
    train.train(short, str(tmp_path))
    rows = [json.loads(line) for line in (tmp_path / "scalars.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [4, 6, 8]
    assert checkpoint.kept_steps(str(tmp_path)) == [4, 6, 8]
    assert asked == [1, 2, 3, 4]
    assert len(list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))) == 1


def test_nan_stops_the_run_and_names_step_and_term(vae_alone, tmp_path, monkeypatch):
    original = vae_loss.CAPACITY_FORMS["absolute"]
    vae_alone.vae.capacity_form = "absolute"
    monkeypatch.setitem(vae_loss.CAPACITY_FORMS, "absolute", lambda *args: original(*args) * np.nan)
    with pytest.raises(watch.NonFiniteError, match=r"step 1: .*L_vae=nan"):
        train.train(vae_alone, str(tmp_path))
    assert not [p for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()]


@pytest.mark.parametrize(
    ("mode", "capacity", "notes"), [("gain", 2.01, 1), ("progress", 2.01, 1), ("gain", 6.0, 0), ("anneal", 2.01, 0)]
)
def test_a_loop_that_stays_open_is_noted_once(tiny, mode, capacity, notes):
    tiny.train.steps, tiny.train.log_every = 6_000, 500
    tiny.feedback.mode, tiny.feedback.lead_capacity, tiny.feedback.max_capacity = mode, 2.0, 14.0
    log = mock.Mock()
    scalars = watch.Watch(tiny, log, 0, {})
    note_counts = []
    for step in range(500, 6_001, 500):
        scalars.record(step, {"vae/capacity": np.float32(capacity), "feedback/z_gain": np.float32(0.004)})
        scalars.report(step)
        note_counts.append(log.say.call_count)
    assert note_counts[:3] == [0, 0, 0]  # the note waits for a quarter of the run, and scalars are read late
    assert note_counts[-1] == notes
    if notes:
        (line,) = log.say.call_args.args
        assert "2.01 of 14 nats at step 1500" in line
        assert "lead_capacity" in line


@pytest.mark.parametrize("per_dispatch", [1, 2])
def test_scalars_of_an_interval_that_was_interrupted(tiny, per_dispatch):
    """The mean is over the whole interval, as without the interruption."""
    tiny.train.steps_per_dispatch = per_dispatch
    values = np.linspace(0, 1, 10, dtype=np.float32).reshape(5, 2) if per_dispatch > 1 else np.linspace(0, 1, 10)

    def run(interrupted):
        log = mock.Mock()
        scalars = watch.Watch(tiny, log, 0, {})
        for i, value in enumerate(values.astype(np.float32)):
            if interrupted and i == 3:
                saved = json.loads(json.dumps(scalars.unfinished()))
                scalars = watch.Watch(tiny, log, i * per_dispatch, saved)
            scalars.record((i + 1) * per_dispatch, {"loss": value})
        scalars.report(10)
        scalars.flush()
        assert scalars.unfinished() == {}
        (step, means, _), _ = log.scalars.call_args
        return step, means["loss"]

    assert run(True) == run(False)
    resumed = watch.Watch(tiny, mock.Mock(), 2, {"loss": [1.0, 1.0]})
    resumed.record(2 + per_dispatch, {"loss": np.full(per_dispatch, np.nan, np.float32)})
    with pytest.raises(watch.NonFiniteError, match="step 3: loss=nan"):
        resumed.flush()


def test_one_trace_and_a_donated_state(short, monkeypatch):
    traces = []
    original = closed_loop.closed_loop_loss

    def counted(*args, **kwargs):
        traces.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(closed_loop, "closed_loop_loss", counted)
    p = program.make_program(short, partitioning.make_mesh(short))
    state = p.create()
    for i in range(3):
        batch = partitioning.to_global(np.full(p.abstract_batch.shape, i, np.uint8), p.batch_sharding)
        old = state
        with jax.transfer_guard("disallow"):
            state, _ = p.update(old, batch)
    assert len(traces) == 1
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old.params))


def test_z_sem_starts_standardized(short):
    """In the parameters and in their moving average. These stay two buffers, because the first step donates them."""
    short.model.standardize_z_sem = True
    p = program.make_program(short, partitioning.make_mesh(short))
    images = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3)).astype(np.uint8)
    train_state = p.create(images)
    for params in (train_state.params, train_state.ema.params):
        encoder = {"params": params["semantic_encoder"]}
        z = p.networks.semantic_encoder.apply(encoder, images.astype(np.float32) / 127.5 - 1)
        np.testing.assert_allclose(z.mean(0), 0, atol=0.01)
        np.testing.assert_allclose(z.std(0), 1, rtol=0.01)
    batch = partitioning.to_global(np.zeros(p.abstract_batch.shape, np.uint8), p.batch_sharding)
    assert int(p.update(train_state, batch)[0].step) == 1


@pytest.mark.slow
def test_steps_in_one_dispatch_are_the_same_steps(short):
    """K steps by lax.scan against K calls, on the same batches."""
    images = np.random.default_rng(0).integers(0, 255, (2, 8, 16, 16, 3)).astype(np.uint8)
    digests = []
    for k in (1, 2):
        short.train.steps_per_dispatch = k
        p = program.make_program(short, partitioning.make_mesh(short))
        state = p.create()
        for batch in images if k == 1 else [images]:
            state, _ = p.update(state, partitioning.to_global(batch, p.batch_sharding))
        digests.append(jax.device_get(state.params))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), *digests)


def start(workdir, *overrides):
    command = [sys.executable, "-m", "cldis_jax.main", "--config=configs/scenes.py:tiny", f"--workdir={workdir}"]
    return subprocess.Popen([*command, *overrides], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_sigterm_saves_first(tmp_path):
    run = start(tmp_path, "--config.train.steps=1000000", "--config.checkpoint.every_steps=1000000")
    deadline = time.time() + 300
    while not (tmp_path / "scalars.jsonl").exists() and time.time() < deadline and run.poll() is None:
        time.sleep(0.2)
    run.send_signal(signal.SIGTERM)
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 143, output
    with checkpoint.Checkpoints(str(tmp_path), read_only=True) as checkpoints:
        (step,) = checkpoints.steps()
    assert output.index("stopping after this step, saving") < output.index(f"stopped at step {step} and saved")


@pytest.mark.slow
def test_kill_9_loses_only_the_steps_since_the_last_save(tmp_path):
    """Killed at two moments, the run resumes and ends like one that was never killed."""
    every, killed = 3, tmp_path / "killed"
    for saves in (2, 4):
        run = start(killed, "--config.train.steps=1000000", f"--config.checkpoint.every_steps={every}")
        deadline, saved = time.time() + 300, killed / "checkpoints" / str(saves * every)
        while not saved.exists() and time.time() < deadline and run.poll() is None:
            time.sleep(0.01)
        run.kill()
        run.communicate(timeout=120)
        with checkpoint.Checkpoints(str(killed), read_only=True) as checkpoints:
            newest = checkpoints.steps()[0]
        assert newest >= saves * every
    c = scenes.get_config("tiny")
    c.train.steps, c.train.num_pictures, c.checkpoint.every_steps = newest + 2, 2, 1000
    resumed = train.train(c, str(killed))
    assert resumed["params_sha256"] == train.train(c, str(tmp_path / "whole"))["params_sha256"]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.model.latnt_dim=3", "latnt_dim"),
        ("--config.feedback.mode=wrong", "timestep, progress, gain, anneal, fixed"),
        pytest.param("--config.data.image_size=18", "can't be halved", marks=pytest.mark.slow),
        ("--workdir=/proc/nowhere", "can't be written"),
    ],
)
def test_bad_input_is_one_line_before_training(tmp_path, flag, message):
    done = doors.run("main", "--config=configs/scenes.py:tiny", f"--workdir={tmp_path}", flag)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert message in lines[0]
    assert "Traceback" not in done.stderr
