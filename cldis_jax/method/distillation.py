"""L_dt: z_sem mimics the distribution of z_disen [paper]. Its form, unit weights and schedule are choices."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from cldis_jax.method.vae_loss import Posterior

# --- The forms: the distance of z_sem from N(mean, exp(log_var)) [B]; z_sem, mean and log_var are [B, d] ---


def kl(z_sem: jax.Array, mean: jax.Array, log_var: jax.Array, sigma_floor: float, unit_weight) -> jax.Array:
    """KL between Gaussians with means z_sem and `mean`, both of variance exp(log_var) + sigma_floor^2."""
    return (unit_weight * jnp.square(z_sem - mean) / (2 * (jnp.exp(log_var) + sigma_floor**2))).sum(-1)


def mse(z_sem: jax.Array, mean: jax.Array, log_var: jax.Array, sigma_floor: float, unit_weight) -> jax.Array:
    """Squared distance, summed over the units."""
    return (unit_weight * jnp.square(z_sem - mean)).sum(-1)


def softmax(z_sem: jax.Array, mean: jax.Array, log_var: jax.Array, sigma_floor: float, unit_weight) -> jax.Array:
    """KL(softmax(mean) || softmax(z_sem)) over the units; `unit_weight` is not used."""
    return optax.losses.kl_divergence(jax.nn.log_softmax(z_sem), jax.nn.softmax(mean))


FORMS: dict[str, Callable[..., jax.Array]] = {"kl": kl, "mse": mse, "softmax": softmax}


def distillation_loss(config: ConfigDict, z_sem: jax.Array, q: Posterior) -> jax.Array:
    """L_dt [] of z_sem [B, d] with the posterior q as the teacher. It is 0 if distillation.weight is 0."""
    c = config.distillation
    if c.weight == 0:
        return jnp.float32(0)
    mean = q.mean if c.teacher_gradient else jax.lax.stop_gradient(q.mean)
    log_var = jax.lax.stop_gradient(q.log_var)
    weight = unit_weight(q) if c.weigh_units else 1.0
    return FORMS[c.form](z_sem, mean, log_var, c.sigma_floor, weight).mean()


def unit_weight(q: Posterior) -> jax.Array:
    """The weight of each unit [1, d]: the teacher's mean KL over the batch, at most 1 nat.

    A silent unit of the teacher has a KL of 0, so L_dt does not move this unit of z_sem; only L_diff does.
    """
    return jnp.minimum(jax.lax.stop_gradient(q.kl.mean(0, keepdims=True)), 1)


# --- The schedules: a factor [] of lambda_dt ---


def constant(config: ConfigDict, q: Posterior) -> jax.Array:
    return 1.0


def adaptive(config: ConfigDict, q: Posterior) -> jax.Array:
    """The teacher's KL divided by C_max, at most 1. A teacher that encodes little has little weight."""
    return jnp.clip(jax.lax.stop_gradient(q.kl.sum(-1).mean()) / config.feedback.max_capacity, 0, 1)


SCHEDULES: dict[str, Callable[[ConfigDict, Posterior], jax.Array]] = {"constant": constant, "adaptive": adaptive}


def distillation_weight(config: ConfigDict, q: Posterior, step: jax.Array) -> jax.Array | float:
    """lambda_dt [] at the optimiser step `step` [].

    While z_sem listens, no other loss trains E_sem, and Adam makes the size of the gradient irrelevant. But Adam
    remembers it: after a small gradient the first steps of L_diff are too long. So listen_weight should make the
    gradient of L_dt as large as that of L_diff will be.
    """
    c = config.distillation
    weight = jnp.where(step < c.listen_steps, c.listen_weight, c.weight) if listens(config) else c.weight
    return weight * SCHEDULES[c.schedule](config, q)


def listens(config: ConfigDict) -> bool:
    """Whether L_dt alone trains E_sem in the first steps."""
    return config.distillation.listen_steps > 0 and config.distillation.weight > 0
