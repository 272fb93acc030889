"""Training of the latent prior: the codes of the training images, and the loop. Stands on a trained model."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from ml_collections import ConfigDict
from tqdm import tqdm

from cldis_jax import api, data
from cldis_jax.models import pixels
from cldis_jax.prior import method as prior
from cldis_jax.runtime import checkpoint, preemption
from cldis_jax.runtime.files import atomic

ENCODE_BATCH = 64
CHUNK = 100  # optimiser steps in one dispatch
SAVES = 10  # checkpoints over the whole training


def training_codes(bundle: api.Bundle, num_images: int, seed: int) -> np.ndarray:
    """z_sem [N, d] of the images that the model was trained on, unflipped; a random subset where N < all of them.

    Args:
      num_images: at most so many, drawn by `seed`; 0: all.
    """
    config = bundle.config
    source = data.make_source(config.data)
    indices, _ = data.split(len(source), config.data.holdout)
    if 0 < num_images < len(indices):
        indices = np.sort(np.random.default_rng(seed).choice(indices, num_images, replace=False))
    if len(indices) < 2:
        raise data.DataError(f"{source.name} has {len(indices)} training images; a prior needs at least 2")
    codes = np.empty((len(indices), config.model.latent_dim), np.float32)
    for start in tqdm(range(0, len(indices), ENCODE_BATCH), "encoding the images", unit="batch", disable=None):
        rows = np.arange(start, start + ENCODE_BATCH).clip(max=len(indices) - 1)  # padded: one shape, one program
        z = bundle.encode(pixels.to_unit_range(jnp.asarray(source.fetch(indices[rows]))))
        codes[start : start + ENCODE_BATCH] = np.asarray(z)[: len(indices) - start]
    if not np.isfinite(codes).all():
        raise FloatingPointError(f"the encoder of step {bundle.step} gives codes that are not finite")
    return codes


def stored_codes(folder: str, bundle: api.Bundle, num_images: int, seed: int) -> np.ndarray:
    """`training_codes`, kept in `folder` for the next run."""
    file = epath.Path(folder) / f"codes_step{bundle.step}_n{num_images}_seed{seed}.npy"
    if file.exists():
        with file.open("rb") as stream:
            return np.load(stream)
    codes = training_codes(bundle, num_images, seed)
    with atomic(file) as stream:
        np.save(stream, codes)
    return codes


def fit(workdir: str, bundle: api.Bundle, config: ConfigDict) -> dict[str, Any]:
    """Train a prior of the bundle's z_sem until `config.train.steps`, going on where `workdir` stands.

    Returns facts and the mean loss over the last tenth of the steps done now (None where there were none to do).

    Raises:
      ValueError: the workdir holds a prior of another config.
      FloatingPointError: the loss went wrong; the last good checkpoint stays.
    """
    folder = prior.prior_dir(workdir)
    if prior.exists(workdir):
        _claim(folder, config)
    codes = jnp.asarray(stored_codes(folder, bundle, config.codes.num_images, config.train.seed))
    mean, std = prior.code_moments(np.asarray(codes))
    total = config.train.steps
    every = max(total // SAVES // CHUNK, 1) * CHUNK
    update = jax.jit(functools.partial(prior.train_steps, config), static_argnums=0, donate_argnums=2)

    with preemption.StopRequest() as stop, checkpoint.Checkpoints(folder) as checkpoints:  # which waits for its saves
        restored = checkpoints.restore(prior.abstract_state(config))
        if restored is None:
            prior_state = jax.jit(functools.partial(prior.create_state, config))(mean, std)
        else:
            prior_state = jax.jit(lambda s: s)(restored[0])  # arrays of Orbax may not be donated
        step, losses = int(prior_state.step), []
        with tqdm(total=total, initial=step, desc="training the prior", unit="step", disable=None) as bar:
            while step < total:
                num_steps = min(CHUNK, total - step)
                prior_state, chunk = update(num_steps, codes, prior_state)
                losses.append(np.asarray(chunk))
                if not np.isfinite(losses[-1]).all():
                    raise FloatingPointError(f"the prior's loss is not finite between steps {step} and {step + CHUNK}")
                step += num_steps
                bar.update(num_steps)
                bar.set_postfix(L1=f"{losses[-1].mean():.4f}", refresh=False)
                stopping = stop.reached(step // CHUNK)
                if step % every < num_steps or step == total or stopping:
                    checkpoints.save(step, config, prior_state.ema, prior_state, {})
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


def _claim(folder: str, config: ConfigDict) -> None:
    with checkpoint.Checkpoints(folder, read_only=True) as checkpoints:
        if not checkpoints.steps():
            return
        saved = checkpoint.config_to_json(checkpoints.config())
    differing = checkpoint.differing_fields(saved, checkpoint.config_to_json(config))
    if differing:
        raise ValueError(
            f"{folder} holds a prior of another config; move it away, or agree on:\n  " + "\n  ".join(differing)
        )
