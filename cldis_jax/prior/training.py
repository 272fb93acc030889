"""Training of the latent prior on a trained model's codes of its training images."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from ml_collections import ConfigDict
from tqdm import tqdm

from cldis_jax import api, data
from cldis_jax.api.codes import encode
from cldis_jax.prior import method, store
from cldis_jax.runtime import checkpoint, config_json, lock, preemption, report
from cldis_jax.runtime.errors import NonFiniteError, UserError
from cldis_jax.runtime.files import atomic, check_writable

CHUNK = 100  # optimiser steps in one dispatch
SAVES = 10  # checkpoints over the whole training
SETTINGS = {  # name -> (section of the config, smallest value)
    "num_images": ("codes", 0),  # training images to encode; 0: all
    "num_layers": ("model", 2),
    "hidden_dim": ("model", 1),
    "steps": ("train", 1),
    "batch_size": ("train", 1),
    "learning_rate": ("train", 0),
}


def train_prior(bundle: api.Bundle, workdir: str | None = None, *, seed: int = 0, **settings) -> dict[str, Any]:
    """Train a prior of z_sem in `workdir` (default: the model's own), or continue the one that is there.

    Args:
      seed: of the choice of images, the initial weights and the training.
      settings: names of SETTINGS. None, like an absent name, means the default of `method.default_config`.

    Returns the content of `WORKDIR/latent_prior.json`: the results of `fit`, and the `config`.

    Raises:
      UserError: the model has no z_sem, a value is too small, or the workdir holds a prior that can't be continued.
    """
    workdir = bundle.workdir if workdir is None else workdir
    if not bundle.has_diffusion:
        raise UserError(f"{workdir} holds a VAE alone, whose prior is N(0, I); there is no z_sem to learn a prior of")
    config = method.default_config(bundle.config.model.latent_dim)
    config.codes.model_step, config.train.seed = bundle.step, seed
    for name, value in settings.items():
        section, least = SETTINGS[name]
        if value is not None and not value >= least:
            raise UserError(f"{name}={value} must be at least {least}")
        config[section][name] = config[section][name] if value is None else value
    if not config.train.learning_rate > 0:
        raise UserError(f"learning_rate={config.train.learning_rate} must be positive")
    store.check_trainable(workdir)
    path = epath.Path(workdir) / "latent_prior.json"
    check_writable(path)
    results = fit(workdir, bundle, config) | {"config": config.to_dict()}
    if results["loss"] is None and path.exists():  # no step was left
        earlier = report.read_json(path)
        results["loss"] = earlier["loss"] if earlier["steps"] == results["steps"] else None
    report.write_json(path, results)
    return results


def training_codes(bundle: api.Bundle, source: data.Source, num_images: int, seed: int) -> np.ndarray:
    """z_sem [N, d] of the images of `source` that the model was trained on, unflipped.

    Args:
      num_images: the most images, a random subset drawn by `seed`; 0: all.
    """
    if difference := data.difference(source, bundle.trained_on):
        print(f"note: the model was trained on other images: {difference}", flush=True)
    indices = data.parts(source, bundle.config.data).train
    indices = data.subset(indices, num_images or len(indices), seed)
    if len(indices) < 2:
        raise data.DataError(f"{source.name} has {len(indices)} training images; a prior needs at least 2")
    return encode(bundle, "z_sem", source, indices)


def stored_codes(folder: str, bundle: api.Bundle, source: data.Source, num_images: int, seed: int) -> np.ndarray:
    """`training_codes`, kept in `folder` for the next run."""
    file = epath.Path(folder) / f"codes_{source.digest[:8]}_step{bundle.step}_n{num_images}_seed{seed}.npy"
    if file.exists():
        with file.open("rb") as stream:
            return np.load(stream)
    codes = training_codes(bundle, source, num_images, seed)
    with atomic(file) as stream:
        np.save(stream, codes)
    return codes


def fit(workdir: str, bundle: api.Bundle, config: ConfigDict) -> dict[str, Any]:
    """Train a prior of z_sem until `config.train.steps`, from the newest checkpoint in `WORKDIR/latent_prior`, if any.

    Returns `num_codes`, `model_step`, `parameters`, `steps`, `code_mean`, `code_std` and `loss`: the mean over the last
    tenth of the steps of this call, None if there were none.

    Raises:
      CheckpointError: the workdir holds a prior of another config.
      DataError: it holds a prior of other images.
      LockError: another process trains there.
      NonFiniteError: the loss is not finite; the last good checkpoint is kept.
    """
    folder = store.prior_dir(workdir)
    checkpoint.check_path(folder)
    with lock.held(folder):
        return _fit(folder, bundle, config)


def _fit(folder: str, bundle: api.Bundle, config: ConfigDict) -> dict[str, Any]:
    checkpoint.claim(folder, config_json.config_to_json(config), "a prior")
    source = data.make_source(bundle.config.data)
    codes = jnp.asarray(stored_codes(folder, bundle, source, config.codes.num_images, config.train.seed))
    mean, std = method.code_moments(np.asarray(codes))
    total = config.train.steps
    every = max(total // SAVES // CHUNK, 1) * CHUNK
    update = jax.jit(functools.partial(method.train_steps, config), static_argnums=0, donate_argnums=2)

    with preemption.StopRequest() as stop, checkpoint.Checkpoints(folder) as checkpoints:  # it waits for its saves
        restored = checkpoints.restore(store.abstract_state(config))
        if restored is None:
            prior_state = jax.jit(functools.partial(method.create_state, config))(mean, std)
        elif difference := data.difference(source, restored[1]):
            raise data.DataError(f"{folder} holds a prior of other images: {difference}; delete it or restore these")
        else:
            prior_state = jax.jit(lambda s: s)(restored[0])  # arrays of Orbax may not be donated
        step, losses = int(prior_state.step), []
        with tqdm(total=total, initial=step, desc="training the prior", unit="step", disable=None) as bar:
            while step < total:
                num_steps = min(CHUNK, total - step)
                prior_state, chunk = update(num_steps, codes, prior_state)
                losses.append(np.asarray(chunk))
                if not np.isfinite(losses[-1]).all():
                    raise NonFiniteError(f"the prior's loss is not finite between steps {step} and {step + CHUNK}")
                step += num_steps
                bar.update(num_steps)
                bar.set_postfix(L1=f"{losses[-1].mean():.4f}", refresh=False)
                stopping = stop.reached(step // CHUNK)
                if step % every < num_steps or step == total or stopping:
                    checkpoints.save(step, config, prior_state.ema, prior_state, data.identity(source))
                if stopping and step < total:
                    raise SystemExit(stop.exit_code)
    done = np.concatenate(losses) if losses else None
    return {
        "num_codes": len(codes),
        "model_step": bundle.step,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(prior_state.params)),
        "steps": step,
        "loss": None if done is None else float(done[-max(len(done) // 10, 1) :].mean()),
        "code_mean": np.asarray(prior_state.ema.mean).tolist(),
        "code_std": np.asarray(prior_state.ema.std).tolist(),
    }
