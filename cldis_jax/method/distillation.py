"""L_dt: z_sem mimics the distribution of z_disen [paper]. The form, the units' weights and the schedule are choices."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from cldis_jax.method.vae_loss import Posterior

# --- The forms: how far z_sem is from N(mean, exp(log_var)) in each sample [B]; z_sem, mean and log_var are [B, d] ---


def kl(z_sem: jax.Array, mean: jax.Array, log_var: jax.Array, sigma_floor: float, unit_weight) -> jax.Array:
    """KL between Gaussians centred on z_sem and on mean, both of variance exp(log_var) + sigma_floor^2."""
    return (unit_weight * jnp.square(z_sem - mean) / (2 * (jnp.exp(log_var) + sigma_floor**2))).sum(-1)


def mse(z_sem: jax.Array, mean: jax.Array, log_var: jax.Array, sigma_floor: float, unit_weight) -> jax.Array:
    """Squared distance, summed over the units."""
    return (unit_weight * jnp.square(z_sem - mean)).sum(-1)


def softmax(z_sem: jax.Array, mean: jax.Array, log_var: jax.Array, sigma_floor: float, unit_weight) -> jax.Array:
    """KL(softmax(mean) || softmax(z_sem)) over the units; `unit_weight` has no meaning here."""
    return optax.losses.kl_divergence(jax.nn.log_softmax(z_sem), jax.nn.softmax(mean))


FORMS: dict[str, Callable[..., jax.Array]] = {"kl": kl, "mse": mse, "softmax": softmax}


def distillation_loss(config: ConfigDict, z_sem: jax.Array, q: Posterior) -> jax.Array:
    """L_dt [] of z_sem [B, d]; the posterior q is the teacher. 0 without distillation."""
    c = config.distillation
    if c.weight == 0:
        return jnp.float32(0)
    mean = q.mean if c.teacher_gradient else jax.lax.stop_gradient(q.mean)
    log_var = jax.lax.stop_gradient(q.log_var)
    weight = unit_weight(q) if c.weigh_units else 1.0
    return FORMS[c.form](z_sem, mean, log_var, c.sigma_floor, weight).mean()


def unit_weight(q: Posterior) -> jax.Array:
    """The teacher's KL of each unit over the batch, at most 1 nat [1, d].

    A silent unit (of no KL) has the prior's distribution already: L_dt leaves it to L_diff.
    """
    return jnp.minimum(jax.lax.stop_gradient(q.kl.mean(0, keepdims=True)), 1)


# --- The schedules: what lambda_dt is multiplied by [] ---


def constant(config: ConfigDict, q: Posterior) -> jax.Array:
    return 1.0


def adaptive(config: ConfigDict, q: Posterior) -> jax.Array:
    """The teacher's KL as a share of C_max: an early teacher, which knows little, counts little."""
    return jnp.clip(jax.lax.stop_gradient(q.kl.sum(-1).mean()) / config.feedback.max_capacity, 0, 1)


SCHEDULES: dict[str, Callable[[ConfigDict, Posterior], jax.Array]] = {"constant": constant, "adaptive": adaptive}


def distillation_weight(config: ConfigDict, q: Posterior) -> jax.Array | float:
    """lambda_dt []."""
    return config.distillation.weight * SCHEDULES[config.distillation.schedule](config, q)
