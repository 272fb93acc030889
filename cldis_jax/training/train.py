"""The run, top to bottom: mesh, workdir, data, model and state, checkpoints, loop, results."""

import functools
import os
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from cldis_jax import api, data
from cldis_jax.api import pictures
from cldis_jax.config import validate
from cldis_jax.models import pixels
from cldis_jax.runtime import checkpoint, config_json, lock, partitioning, preemption, report, visualize
from cldis_jax.training import moments
from cldis_jax.training import workdir as workdirs
from cldis_jax.training.program import make_program
from cldis_jax.training.watch import Watch

NUM_STANDARD = 256  # training images over which z_sem is standardised at the start
NUM_RECONSTRUCTED = 64  # images in the reconstruction errors at the end


def train(config: ConfigDict, workdir: str) -> dict[str, Any]:
    """Train until `config.train.steps`, from the newest checkpoint in `workdir`; returns the content of `main.json`.

    Raises:
      ConfigError, data.DataError, CheckpointError, LockError: before any training.
      watch.NonFiniteError: a loss is not finite; the last good checkpoint is kept.
      SystemExit: a signal asked the run to stop, and it has saved.
    """
    validate(config)
    workdir = os.path.expanduser(workdir)
    checkpoint.check_path(workdir)
    with lock.held(workdir):
        return _train(config, workdir)


def _train(config: ConfigDict, workdir: str) -> dict[str, Any]:
    steps_per_dispatch, total_steps = config.train.steps_per_dispatch, config.train.steps

    # Mesh
    mesh = partitioning.make_mesh(config)
    is_first = jax.process_index() == 0

    # Workdir
    workdirs.claim(config, workdir)

    # Data
    source = data.make_source(config.data)
    train_indices, heldout_indices, _ = data.parts(source, config.data)
    unseen_indices = heldout_indices if len(heldout_indices) else train_indices
    identity = data.identity(source)
    check_same_images(identity)
    loader = data.training_loader(config, source, train_indices)
    for note in notes(config, len(train_indices)) if is_first else ():
        print(f"note: {note}")

    # Model, state and step: one compiled program
    program = make_program(config, mesh)

    # Checkpoints
    unfinished = {}
    copy = jax.jit(lambda s: s, out_shardings=program.shardings)  # restored or shared arrays may not be donated
    checkpoints = checkpoint.Checkpoints(
        workdir, keep=config.checkpoint.keep, keep_period=config.checkpoint.keep_period
    )
    restored = checkpoints.restore(program.abstract_state)
    if restored is None:
        standard = some_of(train_indices, NUM_STANDARD) if config.model.standardize_z_sem else None
        start, train_state = 0, program.create(None if standard is None else source.fetch(standard))
        if config.init_from:
            train_state = copy(workdirs.start_from(config, train_state))
    elif restored[2] >= total_steps and (results := workdirs.written_results(workdir, restored[2])):
        checkpoints.close()
        return workdirs.show_results(results, workdir)
    else:
        train_state, position, start = restored
        train_state = copy(train_state)
        record = {name: position.pop(name) for name in identity if name in position}  # earlier versions wrote less
        if difference := data.difference(source, record):
            raise data.DataError(
                f"{workdir} was trained on other images: {difference}; restore these, or continue in a new workdir "
                f"with --config.init_from={workdir}"
            )
        unfinished = position.pop("unfinished", {})
        loader.set_state(position)

    # Loop
    project, values = config.train.wandb, config_json.config_to_json(config)
    log = report.Report(workdir, total_steps, start, enabled=is_first, project=project, config=values)
    if restored is not None:
        log.say(f"resuming {workdir} at step {start}")
    functions = api.make_functions(config)
    measured_images = source.fetch(some_of(train_indices, moments.NUM_IMAGES))
    shown_indices = some_of(unseen_indices, config.train.num_pictures)
    watch = Watch(config, log, start, unfinished)
    profile = _profiler(config, workdir)

    @functools.lru_cache(maxsize=1)
    def model(step):
        """The model as it is loaded from this step's checkpoint."""
        ema = jax.device_put(partitioning.to_host(train_state.ema))
        return moments.with_moments(api.Bundle(functions, ema, step), measured_images)

    def save(step):
        watch.flush()  # raises for a loss that is not finite, so such a state is never saved
        measured = partitioning.replicate(mesh, (model(step).ema.z_sem, model(step).ema.z_disen))
        ema = train_state.ema.replace(z_sem=measured[0], z_disen=measured[1])
        position = loader.get_state() | identity | {"unfinished": watch.unfinished()}
        checkpoints.save(step, config, ema, train_state, position)

    def draw(step):
        shown_model = model(step)  # on every process, because it gathers arrays from all
        if is_first:
            shown = pixels.to_unit_range(jnp.asarray(source.fetch(shown_indices)))
            for name, picture in pictures.training_pictures(shown_model, shown):
                log.picture(step, name, picture)
            log.picture(step, "curves", visualize.curves(log.history, pictures.CURVES))

    def due(every):
        """Whether the last dispatch has reached or passed a multiple of `every` steps."""
        return step % every < steps_per_dispatch

    step, stopping = start, False
    try:
        with preemption.StopRequest() as stop:
            while step < total_steps and not stopping:
                waiting = time.perf_counter()
                batches = [next(loader)["image"] for _ in range(steps_per_dispatch)]
                watch.waited += time.perf_counter() - waiting
                images = np.stack(batches) if steps_per_dispatch > 1 else batches[0]
                batch = partitioning.to_global(images, program.batch_sharding)
                with jax.transfer_guard("disallow"):
                    train_state, scalars = program.update(train_state, batch)
                step += steps_per_dispatch
                watch.record(step, scalars)
                profile(step)
                stopping = stop.reached(step // steps_per_dispatch)
                ending = stopping or step >= total_steps
                if due(config.train.log_every) or step >= total_steps:
                    watch.report(step)
                if due(config.checkpoint.every_steps) or ending:
                    save(step)
                if due(config.train.picture_every) and not ending:
                    draw(step)
            checkpoints.wait()  # inside the context, so that a signal can't interrupt the save
        if step < total_steps:
            log.say(f"stopped at step {step} and saved; run the same command to continue")
            raise SystemExit(stop.exit_code)
        draw(step)
        digest = checkpoint.params_sha256(train_state.params)
        images = source.fetch(some_of(unseen_indices, NUM_RECONSTRUCTED))
        log.result("main", results := _results(config, model(step), images, digest, log))
    finally:
        try:
            log.close()
        finally:
            checkpoints.close()
    return workdirs.show_results(results, workdir)


def notes(config: ConfigDict, num_images: int) -> list[str]:
    """Notes on what is possible but unusual in a run on `num_images` training images."""
    found = []
    if config.data.batch_size > num_images:
        found.append(f"a batch of {config.data.batch_size} is larger than the {num_images} training images")
    has_teacher = min(config.diffusion.weight, config.vae.weight, config.distillation.weight) > 0
    if has_teacher and config.distillation.listen_steps >= config.train.steps:
        found.append(
            f"L_diff will not move z_sem: distillation.listen_steps={config.distillation.listen_steps} of "
            f"train.steps={config.train.steps}"
        )
    return found


def check_same_images(identity: dict[str, int | str]) -> None:
    """Raise DataError, on every process, unless all of them read the same images."""
    if jax.process_count() == 1:
        return
    ours = np.array(identity["num_images"]), np.frombuffer(bytes.fromhex(identity["names_sha256"]), np.uint8)
    numbers, digests = multihost_utils.process_allgather(ours)
    if (digests != digests[0]).any():
        counts = ", ".join(f"process {i}: {number:,}" for i, number in enumerate(numbers))
        raise data.DataError(f"the processes read different images ({counts}); give each of them the same files")


def some_of(indices: np.ndarray, num: int) -> np.ndarray:
    """`num` of the indices, or all if there are fewer; the same ones in every run."""
    return np.random.default_rng(0).choice(indices, min(num, len(indices)), replace=False)


def _profiler(config: ConfigDict, workdir: str):
    """A function of the step that traces `profile_steps` ("start-stop") for TensorBoard."""
    if not config.profile_steps:
        return lambda step: None
    from clu import profiler  # needs no TensorFlow, unlike clu.periodic_actions

    first, last = (int(part) for part in config.profile_steps.split("-"))
    is_tracing = False

    def trace(step):
        nonlocal is_tracing
        if is_tracing and step >= last:
            profiler.stop()
            is_tracing = False
        elif first <= step < last and not is_tracing:
            profiler.start(workdir)
            is_tracing = True

    return trace


def _results(config: ConfigDict, model: api.Bundle, images: np.ndarray, digest: str, log: report.Report) -> dict:
    """The content of `main.json`: the last scalars, and the model's errors on uint8 images [N, H, W, C]."""
    scalars = {name: value for name, value in (log.history[-1] if log.history else {}).items() if name != "step"}
    if jax.process_index() == 0:
        rows = pictures.reconstructions(model, pixels.to_unit_range(jnp.asarray(images)), config.diffusion.decode_steps)
        for name, error in pictures.mean_squared_errors(rows).items():
            scalars[f"reconstruction_mse/{name}"] = error
    return {
        "step": model.step,
        "scalars": scalars,
        "params_sha256": digest,
        "config": config_json.config_to_json(config),
    }
