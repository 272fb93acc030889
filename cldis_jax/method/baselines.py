"""The baselines: Diff-AE alone [Preechakul et al. 2022] and the beta-VAE alone, with the terms of the closed loop."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cldis_jax.method import closed_loop, diffusion
from cldis_jax.method.closed_loop import LoopOutput, random_keys
from cldis_jax.method.feedback import Feedback, Signals, capacity_of, measure, vae_input
from cldis_jax.method.independence import independence_loss, independence_weight
from cldis_jax.method.prediction import prediction_of
from cldis_jax.method.vae_loss import posterior, vae_loss
from cldis_jax.models import Networks

Loss = Callable[..., tuple[jax.Array, LoopOutput]]  # takes the arguments of `closed_loop_loss`


def objective(config: ConfigDict) -> Loss:
    """The loss of the branches that a config trains. A branch of weight 0 is not trained."""
    if config.vae.weight == 0:
        return diffae_loss
    return beta_vae_loss if config.diffusion.weight == 0 else closed_loop.closed_loop_loss


def diffae_loss(
    params: dict,
    networks: Networks,
    config: ConfigDict,
    x0: jax.Array,
    feedback: Feedback,
    step: jax.Array,
    key: jax.Array,
) -> tuple[jax.Array, LoopOutput]:
    """lambda_diff L_diff + lambda_ind L_ind. The arguments are those of `closed_loop_loss`."""
    schedule, prediction, keys = diffusion.schedule_of(config), prediction_of(config), random_keys(key)
    noised = diffusion.forward_process(schedule, x0, keys["t"], keys["eps"])
    z_sem = networks.encode_semantic(params, x0)
    denoise = networks.denoiser(params, z_sem, dropout=keys["dropout"])
    error = diffusion.squared_error(denoise, prediction, noised).mean(axis=(1, 2, 3))  # [B]
    L_diff = error.mean()
    L_ind, units = independence_loss(config, networks, params, x0, z_sem, feedback.units)
    lambda_ind = independence_weight(config, step)
    loss = config.diffusion.weight * L_diff + lambda_ind * L_ind
    signals = measure(config, schedule, networks, params, z_sem, error, noised, step)
    scalars = _scalars(config, loss, L_diff=L_diff, L_ind=L_ind, lambda_ind=lambda_ind)
    return loss, LoopOutput(scalars, signals.replace(units=units))


def beta_vae_loss(
    params: dict,
    networks: Networks,
    config: ConfigDict,
    x0: jax.Array,
    feedback: Feedback,
    step: jax.Array,
    key: jax.Array,
) -> tuple[jax.Array, LoopOutput]:
    """lambda_vae L_vae. The arguments are those of `closed_loop_loss`."""
    schedule, keys = diffusion.schedule_of(config), random_keys(key)
    noised = diffusion.forward_process(schedule, x0, keys["t"], keys["eps"])
    q = posterior(networks, params, vae_input(config, noised), keys["z"])
    L_vae, vae_scalars = vae_loss(config, networks, params, x0, q, capacity_of(config, feedback, schedule, noised.t))
    loss = config.vae.weight * L_vae
    zero = jnp.float32(0)
    return loss, LoopOutput(_scalars(config, loss, L_vae=L_vae) | vae_scalars, Signals(zero, zero, zero))


def _scalars(config: ConfigDict, loss: jax.Array, **terms: jax.Array) -> dict[str, jax.Array]:
    """The same scalars as those of the closed loop. Absent terms are 0."""
    absent = dict.fromkeys(("L_diff", "L_vae", "L_dt", "L_ind", "lambda_ind"), jnp.float32(0))
    return {"loss": loss, "lambda_dt": jnp.float32(config.distillation.weight)} | absent | terms
