"""The code that conditions the denoiser: z_sem [paper], with two options [choice]."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cldis_jax.method.distillation import listens


def exchange(config: ConfigDict, z_sem: jax.Array, z_disen: jax.Array, step: jax.Array, key: jax.Array) -> jax.Array:
    """The code of the denoiser [B, d]. z_disen is a sample of q_phi(z|x); both codes are [B, d]."""
    z = z_sem
    if listens(config):
        z = listening(z, step, config.distillation.listen_steps)
    if config.feedback.swap_probability > 0:
        z = swapped(z, z_disen, step, key, config.feedback.swap_probability, config.feedback.swap_steps)
    return z


def listening(z_sem: jax.Array, step: jax.Array, num_steps: int) -> jax.Array:
    """z_sem without its gradient for the first `num_steps` steps, in which L_dt alone trains E_sem."""
    return jnp.where(step < num_steps, jax.lax.stop_gradient(z_sem), z_sem)


def swapped(
    z: jax.Array, z_disen: jax.Array, step: jax.Array, key: jax.Array, probability: float, num_steps: int
) -> jax.Array:
    """z with random samples replaced by z_disen in the first steps (0: in all), so that L_diff also trains q_phi."""
    swap = jax.random.bernoulli(key, probability, (len(z), 1))
    if num_steps > 0:
        swap &= step < num_steps
    return jnp.where(swap, z_disen, z)
