"""The latent prior of Diff-AE: a diffusion model of z_sem, from which new codes are drawn (Preechakul et al. 2022).

The codes are standardised, the loss is the L1 error in eps, and the diffusion has 1000 steps of beta = 0.008.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from ml_collections import ConfigDict

from cldis_jax.method import diffusion
from cldis_jax.method.prediction import PredictEps
from cldis_jax.models.latent_mlp import LatentMLP
from cldis_jax.runtime.errors import UserError

LARGE = 128  # codes of at least this size use the reference's network and recipe, smaller codes a smaller network


def default_config(latent_dim: int) -> ConfigDict:
    """The reference's recipe (ffhq128's) for large codes; for small ones a network that a CPU trains in a minute."""
    large = latent_dim >= LARGE
    config = ConfigDict()
    config.model = ConfigDict()
    config.model.latent_dim = latent_dim
    config.model.num_layers = 10 if large else 4
    config.model.hidden_dim = 2048 if large else 256
    config.model.embed_dim = 512 if large else 128
    config.diffusion = ConfigDict({"num_steps": 1000, "beta": 0.008})
    config.codes = ConfigDict()
    config.codes.model_step = 0  # the step of the model whose codes these are
    config.codes.num_images = 0 if large else 20_000  # a random subset of the training images; 0: all
    config.train = ConfigDict()
    config.train.steps = 400_000 if large else 3_000
    config.train.batch_size = 256
    config.train.learning_rate = 1e-4 if large else 1e-3
    config.train.weight_decay = 0.01
    config.train.clip_norm = 1.0
    config.train.ema_decay = 0.9999 if large else 0.998
    config.train.seed = 0
    return config


@struct.dataclass
class PriorAverages:
    """What sampling uses: the MLP's moving average, and the codes' mean and standard deviation [d]."""

    params: dict[str, Any]
    mean: jax.Array
    std: jax.Array


@struct.dataclass
class PriorState:
    step: jax.Array  # int32 []
    params: dict[str, Any]
    opt_state: optax.OptState
    ema: PriorAverages


def schedule_of(config: ConfigDict) -> diffusion.Schedule:
    return diffusion.constant_schedule(config.diffusion.num_steps, config.diffusion.beta)


def make_mlp(config: ConfigDict) -> LatentMLP:
    m = config.model
    return LatentMLP(m.num_layers, m.hidden_dim, m.embed_dim)


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    c = config.train
    return optax.chain(
        optax.clip_by_global_norm(c.clip_norm), optax.adamw(c.learning_rate, weight_decay=c.weight_decay)
    )


def create_state(config: ConfigDict, mean: jax.Array, std: jax.Array) -> PriorState:
    """The state before the first step, for codes of this mean and standard deviation [d]."""
    params = init_params(config)
    ema = PriorAverages(params=jax.tree.map(jnp.copy, params), mean=jnp.asarray(mean), std=jnp.asarray(std))
    return PriorState(
        step=jnp.zeros((), jnp.int32), params=params, opt_state=make_optimizer(config).init(params), ema=ema
    )


def init_params(config: ConfigDict) -> dict[str, Any]:
    z = jnp.zeros((1, config.model.latent_dim))
    return make_mlp(config).init(jax.random.key(config.train.seed), z, jnp.zeros(1, jnp.int32))["params"]


def latent_loss(config: ConfigDict, params: dict, z: jax.Array, key: jax.Array) -> jax.Array:
    """Mean absolute error in eps of normalised codes z [B, d] at uniform timesteps []."""
    t_key, eps_key = jax.random.split(key)
    schedule = schedule_of(config)
    t = jax.random.randint(t_key, z.shape[:1], 0, schedule.num_steps)
    eps = jax.random.normal(eps_key, z.shape)
    output = make_mlp(config).apply({"params": params}, diffusion.q_sample(schedule, z, t, eps), t)
    return jnp.abs(output - eps).mean()


def train_step(config: ConfigDict, codes: jax.Array, state: PriorState) -> tuple[PriorState, jax.Array]:
    """One optimiser step on a random batch of `codes` [N, d]; all randomness is fold_in(seed, step)."""
    key = jax.random.fold_in(jax.random.key(config.train.seed), state.step)
    rows = jax.random.randint(jax.random.fold_in(key, 0), (config.train.batch_size,), 0, codes.shape[0])
    z = (codes[rows] - state.ema.mean[None]) / state.ema.std[None]
    loss, gradient = jax.value_and_grad(lambda p: latent_loss(config, p, z, jax.random.fold_in(key, 1)))(state.params)
    updates, opt_state = make_optimizer(config).update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema.replace(params=optax.incremental_update(params, state.ema.params, 1 - config.train.ema_decay))
    return PriorState(step=state.step + 1, params=params, opt_state=opt_state, ema=ema), loss


def train_steps(
    config: ConfigDict, num_steps: int, codes: jax.Array, state: PriorState
) -> tuple[PriorState, jax.Array]:
    """`num_steps` optimiser steps in one dispatch; returns the losses as [num_steps]."""
    return jax.lax.scan(lambda state, _: train_step(config, codes, state), state, length=num_steps)


def code_moments(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased standard deviation [d] of codes [N, d]; a constant dimension gets deviation 1."""
    std = codes.std(axis=0, ddof=1)
    return codes.mean(axis=0), np.where(std > 1e-6, std, 1.0).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class LatentPrior:
    """A trained prior."""

    config: ConfigDict
    averages: PriorAverages
    step: int

    @functools.cached_property
    def _decode(self):
        mlp = make_mlp(self.config)

        def decode(averages, tables, z_T):
            z = diffusion.ddim_decode(
                lambda z_t, t: mlp.apply({"params": averages.params}, z_t, t), PredictEps(), tables, z_T, clip=False
            )
            return z * averages.std[None] + averages.mean[None]

        return jax.jit(decode)

    def sample(self, key: jax.Array, num: int, num_steps: int) -> jax.Array:
        """Codes z [num, d] by unclipped DDIM of `num_steps` from N(0, I).

        Raises:
          UserError: a number of steps out of range.
        """
        schedule = schedule_of(self.config)
        if not 1 <= num_steps <= schedule.num_steps:
            raise UserError(f"the latent prior needs between 1 and {schedule.num_steps} steps, got {num_steps}")
        tables = diffusion.ddim_tables(schedule, num_steps, length=schedule.num_steps)
        return self._decode(self.averages, tables, jax.random.normal(key, (num, self.config.model.latent_dim)))
