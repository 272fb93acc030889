"""The code that conditions the denoiser: z_sem [paper], or what a choice makes of the two codes."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict


def exchange(config: ConfigDict, z_sem: jax.Array, z_disen: jax.Array, step: jax.Array, key: jax.Array) -> jax.Array:
    """The denoiser's code [B, d] of z_sem and a sample z_disen of q_phi(z|x), each [B, d]."""
    z = z_sem
    if config.distillation.listen_steps > 0 and config.distillation.weight > 0:
        z = listening(z, step, config.distillation.listen_steps)
    if config.feedback.swap_probability > 0:
        z = swapped(z, z_disen, step, key, config.feedback.swap_probability, config.feedback.swap_steps)
    return z


def listening(z_sem: jax.Array, step: jax.Array, num_steps: int) -> jax.Array:
    """z_sem, through which no gradient flows in the first steps: until then L_dt alone moves E_sem."""
    return jnp.where(step < num_steps, jax.lax.stop_gradient(z_sem), z_sem)


def swapped(
    z: jax.Array, z_disen: jax.Array, step: jax.Array, key: jax.Array, probability: float, num_steps: int
) -> jax.Array:
    """z, with z_disen in place of some samples in the first steps (0: in all), so that L_diff also moves q_phi."""
    swap = jax.random.bernoulli(key, probability, (len(z), 1))
    if num_steps > 0:
        swap &= step < num_steps
    return jnp.where(swap, z_disen, z)
