"""The loss of CL-Dis: two branches and the loop between them (arXiv 2402.02346).

    x0 -- E_sem --> z_sem --> conditions every step of x_T -> ... -> x_0          Diff-AE
                      ^                                  |
                      | L_dt, distillation               | information grows along the reverse process
                      |                                  v
    x -- q_phi(z|x) --> z_disen --> p_theta(x|z)      C of beta |KL - C|          beta-VAE

This file follows the paper's framework figure. Where what we could read of the paper leaves a question open, a config
field decides, which configs/default.py marks as [choice]. Each choice is a small function in `feedback`, `exchange`,
`distillation`, `vae_loss` or `independence`. `baselines` has the losses of a single branch.
"""

import jax
import jax.numpy as jnp
from flax import struct
from ml_collections import ConfigDict

from cldis_jax.method import diffusion
from cldis_jax.method.distillation import distillation_loss, distillation_weight
from cldis_jax.method.exchange import exchange
from cldis_jax.method.feedback import Feedback, Signals, capacity_of, measure, vae_input
from cldis_jax.method.independence import independence_loss, independence_weight
from cldis_jax.method.prediction import prediction_of
from cldis_jax.method.vae_loss import posterior, vae_loss
from cldis_jax.models import Networks


@struct.dataclass
class LoopOutput:
    """What the loss function returns besides the loss."""

    scalars: dict[str, jax.Array]  # the terms of the loss, for the log, each []
    signals: Signals  # measured on this batch; `feedback.close_loop` reads them


def closed_loop_loss(
    params: dict,
    networks: Networks,
    config: ConfigDict,
    x0: jax.Array,
    feedback: Feedback,
    step: jax.Array,
    key: jax.Array,
) -> tuple[jax.Array, LoopOutput]:
    """(L [], its terms and signals), where L = lambda_diff L_diff + lambda_dt L_dt + lambda_vae L_vae
    + lambda_ind L_ind.

    Args:
      params: parameters by network, as from `models.init_params`.
      x0: images [B, H, W, C] in [-1, 1].
      feedback: the loop's state before this step.
      step: the optimiser step [].
      key: this step's random key.
    """
    schedule, prediction, keys = diffusion.schedule_of(config), prediction_of(config), random_keys(key)

    # The forward process: x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, t uniform.
    noised = diffusion.forward_process(schedule, x0, keys["t"], keys["eps"])

    # The two codes: z_sem = E_sem(x_0), and z_disen ~ q_phi(z|x) = N(mu, sigma^2).
    z_sem = networks.encode_semantic(params, x0)
    q = posterior(networks, params, vae_input(config, noised), keys["z"])

    # 1. L_diff = || target - denoiser(x_t, t, z) ||^2. z is z_sem [paper]; options of `exchange` change it.
    z = exchange(config, z_sem, q.sample, step, keys["swap"])
    denoise = networks.denoiser(params, z, dropout=keys["dropout"])
    error = diffusion.squared_error(denoise, prediction, noised).mean(axis=(1, 2, 3))  # [B]
    L_diff = error.mean()
    signals = measure(config, schedule, networks, params, z, error, noised, step)

    # 2. L_dt: z_sem mimics the distribution of z_disen.
    L_dt = distillation_loss(config, z_sem, q)
    lambda_dt = distillation_weight(config, q, step)

    # 3. L_vae = -log p_theta(x|z) + beta |KL(q_phi(z|x) || p(z)) - C|. The diffusion side sets the capacity C.
    C = capacity_of(config, feedback, schedule, noised.t)
    L_vae, vae_scalars = vae_loss(config, networks, params, x0, q, C)

    # 4. L_ind: any two units of z_sem are independent [choice].
    L_ind, units = independence_loss(config, networks, params, x0, z_sem, feedback.units)
    lambda_ind = independence_weight(config, step)

    # 5. The sum.
    loss = config.diffusion.weight * L_diff + lambda_dt * L_dt + config.vae.weight * L_vae
    loss += lambda_ind * L_ind

    scalars = {"loss": loss, "L_diff": L_diff, "L_vae": L_vae, "L_dt": L_dt, "lambda_dt": jnp.float32(lambda_dt)}
    scalars |= {"L_ind": L_ind, "lambda_ind": lambda_ind} | vae_scalars
    return loss, LoopOutput(scalars, signals.replace(units=units))


def random_keys(key: jax.Array) -> dict[str, jax.Array]:
    """A key for each random draw of a step."""
    return {name: jax.random.fold_in(key, i) for i, name in enumerate(("t", "eps", "z", "swap", "dropout"))}
