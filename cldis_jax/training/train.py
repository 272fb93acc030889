"""The run, top to bottom: mesh, data, model and state, step, checkpoints, loop, results."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from cldis_jax import api, data
from cldis_jax.api import pictures
from cldis_jax.config import ConfigError, validate
from cldis_jax.method import train_step
from cldis_jax.models import pixels
from cldis_jax.runtime import checkpoint, partitioning, preemption, report, visualize
from cldis_jax.training.program import make_program
from cldis_jax.training.watch import Watch

CURVES = {
    "L_diff": ("L_diff",),
    "L_dt": ("L_dt",),
    "VAE": ("L_vae", "vae/reconstruction"),
    "capacity and KL (nats)": ("vae/capacity", "vae/kl"),
    "feedback": ("feedback/progress", "feedback/z_gain", "feedback/z_gain_zero"),
}
MEANINGS = {  # fields that change what a network's parameters compute, not their shapes
    "unet": (
        *("diffusion.prediction", "diffusion.num_steps", "diffusion.beta_start", "diffusion.beta_end"),
        *("model.conditioning", "model.num_heads", "model.narrow_groups"),
    ),
    "semantic_encoder": ("model.num_heads", "model.narrow_groups"),
    "beta_vae": ("vae.likelihood",),
}
NUM_STANDARD = 256  # training images over which z_sem is standardised at the start
NUM_MEASURED = 64  # images in the reconstruction errors at the end


def train(config: ConfigDict, workdir: str) -> dict[str, Any]:
    """Train until `config.train.steps`, going on where `workdir` stands; returns what `main.json` holds.

    Raises:
      ConfigError, data.DataError, CheckpointError: before any training.
      watch.NonFiniteError: a loss went wrong; the last good checkpoint stays.
      SystemExit: a signal asked the run to stop, and it has saved.
    """
    validate(config)
    steps_per_dispatch, total_steps = config.train.steps_per_dispatch, config.train.steps

    # Mesh
    mesh = partitioning.make_mesh(config)
    is_first = jax.process_index() == 0

    # Workdir
    claim_workdir(config, workdir)

    # Data
    source = data.make_source(config.data)
    train_indices, heldout_indices = data.split(len(source), config.data.holdout)
    if config.data.batch_size > len(train_indices) and is_first:
        print(f"note: a batch of {config.data.batch_size} is larger than the {len(train_indices)} training images")
    has_teacher = min(config.diffusion.weight, config.vae.weight, config.distillation.weight) > 0
    if has_teacher and config.distillation.listen_steps >= total_steps and is_first:
        print(
            f"note: L_diff will not move z_sem: distillation.listen_steps={config.distillation.listen_steps} of "
            f"train.steps={total_steps}"
        )
    loader = data.make_loader(
        source,
        train_indices,
        batch_size=config.data.batch_size,
        seed=config.train.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        threads=config.data.threads,
        prefetch=config.data.prefetch,
    )

    # Model, state and step: one compiled program
    program = make_program(config, mesh)

    # Checkpoints
    own = jax.jit(lambda s: s, out_shardings=program.shardings)  # buffers of Orbax, or shared ones, may not be donated
    checkpoints = checkpoint.Checkpoints(
        workdir, keep=config.checkpoint.keep, keep_period=config.checkpoint.keep_period
    )
    restored = checkpoints.restore(program.abstract_state)
    if restored is None:
        train_state, start = program.create(), 0
        if config.model.standardize_z_sem and program.networks.semantic_encoder is not None:
            images = source.fetch(some_of(train_indices, NUM_STANDARD))
            train_state = program.standardize_z_sem(train_state, images)
        if config.init_from:
            train_state = own(start_from(config, train_state))
    elif restored[2] >= total_steps and (results := written_results(workdir, restored[2])):
        checkpoints.close()
        return show_results(results, workdir)
    else:
        train_state, position, start = restored
        train_state = own(train_state)
        num_images = position.pop("num_images", len(source))  # earlier versions did not write it
        if num_images != len(source):
            raise data.DataError(
                f"{source.name} has {len(source)} images, but {workdir} was trained on {num_images}: bring them back, "
                f"or train on in a new workdir, with --config.init_from={workdir}"
            )
        loader.set_state(position)

    # Loop
    log = report.Report(workdir, total_steps, start, enabled=is_first)
    if restored is not None:
        log.say(f"resuming {workdir} at step {start}")
    functions = api.make_functions(config)
    unseen_indices = heldout_indices if len(heldout_indices) else train_indices  # as far as there are any
    shown_indices = some_of(unseen_indices, config.train.num_pictures)
    watch = Watch(config, log, start)
    profile = _profiler(config, workdir)

    def save(step):
        watch.flush()  # a state whose losses went wrong is never saved
        position = loader.get_state() | {"num_images": len(source)}
        checkpoints.save(step, config, train_state.ema, train_state, position)

    def draw(step):
        ema = partitioning.to_host(train_state.ema)
        if is_first:
            bundle = api.Bundle(functions, jax.device_put(ema), step)
            shown = pixels.to_unit_range(jnp.asarray(source.fetch(shown_indices)))
            for name, picture in pictures.training_pictures(bundle, shown):
                log.picture(step, name, picture)
            log.picture(step, "curves", visualize.curves(log.history, CURVES))

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
            checkpoints.wait()  # while a signal still waits, too
        if step < total_steps:
            log.say(f"stopped at step {step} and saved; run the same command to go on")
            raise SystemExit(stop.exit_code)
        draw(step)
        results = _results(config, workdir, source, unseen_indices, functions, train_state, step, log)
    finally:
        log.close()
        checkpoints.close()
    return results


def claim_workdir(config: ConfigDict, workdir: str) -> None:
    """Make the workdir this config's own: refuse one where another config left a model, write `config.json`."""
    path = epath.Path(workdir) / "config.json"
    asked = checkpoint.config_to_json(config)
    try:
        if path.exists() and (checkpoint.has_any(workdir) or path.with_name("main.json").exists()):
            differing = checkpoint.differing_fields(report.read_json(path), asked)
            if differing:
                raise ConfigError(
                    f"{workdir} holds a run of another config; choose another --workdir, or agree on:\n  "
                    + "\n  ".join(differing)
                )
        if jax.process_index() == 0:
            report.write_json(path, asked)
    except OSError as error:
        raise ConfigError(f"--workdir={workdir} can't be written: {error}") from error


def written_results(workdir: str, step: int) -> dict[str, Any] | None:
    """What `main.json` holds, unless it tells of a time before `step`."""
    path = epath.Path(workdir) / "main.json"
    results = report.read_json(path) if path.exists() else {"step": -1}
    return results if results["step"] >= step else None


def start_from(config: ConfigDict, train_state: train_step.TrainState) -> train_step.TrainState:
    """`train_state` with the parameters that `init_from`'s moving averages hold, network by network, on the host.

    Raises:
      ConfigError: no network in common, or shapes or meanings that differ.
    """
    workdir, bundle = config.init_from, api.load(config.init_from)
    params = jax.device_get(bundle.ema.params)
    common = params.keys() & train_state.params.keys()
    if not common:
        raise ConfigError(f"init_from={workdir}: it holds {sorted(params)}, this config {sorted(train_state.params)}")
    for name in sorted(common):
        theirs, ours = (dict(jax.tree_util.tree_leaves_with_path(p[name])) for p in (params, train_state.params))
        for path in sorted(theirs.keys() | ours.keys(), key=jax.tree_util.keystr):
            shapes = [np.shape(leaves[path]) if path in leaves else "(absent)" for leaves in (theirs, ours)]
            if shapes[0] != shapes[1]:
                field = name + jax.tree_util.keystr(path)
                raise ConfigError(f"init_from={workdir}: {field} is {shapes[0]} there and {shapes[1]} in this config")
    differing = checkpoint.differing_fields(*map(checkpoint.config_to_json, (bundle.config, config)))
    meanings = tuple(f"{field}:" for name in common for field in MEANINGS[name])
    if differing := [line for line in differing if line.startswith(meanings)]:
        raise ConfigError(f"init_from={workdir} would mean something else here:\n  " + "\n  ".join(differing))

    taken = {name: params[name] for name in common}
    ema = train_state.ema.replace(params=train_state.ema.params | taken)
    return train_state.replace(params=train_state.params | taken, ema=ema)


def some_of(indices: np.ndarray, num: int) -> np.ndarray:
    """`num` of the indices (all, if there are fewer), the same ones in every run."""
    return np.random.default_rng(0).choice(indices, min(num, len(indices)), replace=False)


def _profiler(config: ConfigDict, workdir: str):
    """A function of the step that traces `profile_steps` ("start-stop") for TensorBoard."""
    if not config.profile_steps:
        return lambda step: None
    from clu import periodic_actions  # imports TensorFlow, which takes seconds; a wrong config is told of before

    first, last = (int(part) for part in config.profile_steps.split("-"))
    return periodic_actions.Profile(
        logdir=workdir, num_profile_steps=last - first, first_profile=first, profile_duration_ms=None, every_secs=None
    )


def _results(config, workdir, source, unseen_indices, functions, train_state, step, log) -> dict[str, Any]:
    """Measure the finished model on images that it has not seen (where some are held out), print it, write it."""
    ema = partitioning.to_host(train_state.ema)
    digest = checkpoint.params_sha256(train_state.params)
    scalars = {name: value for name, value in (log.history[-1] if log.history else {}).items() if name != "step"}
    if jax.process_index() == 0:
        bundle = api.Bundle(functions, jax.device_put(ema), step)
        images = pixels.to_unit_range(jnp.asarray(source.fetch(some_of(unseen_indices, NUM_MEASURED))))
        rows = pictures.reconstructions(bundle, images, config.diffusion.decode_steps)
        for name, error in pictures.mean_squared_errors(rows).items():
            scalars[f"reconstruction_mse/{name}"] = error
    results = {
        "step": step,
        "scalars": scalars,
        "params_sha256": digest,
        "config": checkpoint.config_to_json(config),
    }
    log.result("main", results)
    return show_results(results, workdir)


def show_results(results: dict[str, Any], workdir: str) -> dict[str, Any]:
    """Print what `main.json` holds as a short table, on the first process; returns it."""
    if jax.process_index() == 0:
        scalars = results["scalars"]
        print(report.table([(name, f"{scalars[name]:.5g}") for name in sorted(scalars)], ("scalar", "value")))
        print(f"\npictures: {workdir}/pictures   results: {workdir}/main.json", flush=True)
    return results
