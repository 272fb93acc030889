"""L_ind: two units of z_sem say different things [choice].

The units that the teacher does not use are trained by L_diff alone, and L_diff does not mind if two units repeat one
factor, or if each says something of two factors. L_ind does: it is 0 only if any two units are independent, as far as
the first `FREQUENCIES` cosines of each can tell. This is a truncated form of the mean square contingency of Pearson and
Renyi: the sum of squared correlations over an orthonormal basis of functions of each unit.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jax.scipy.stats import norm
from ml_collections import ConfigDict

from cldis_jax.method.distillation import listens

FREQUENCIES = 4  # the first sees order, as a rank correlation does; the second sees squares; the others see mixtures
RAMP_STEPS = 2_000  # in which L_ind gets its weight, after listening


@struct.dataclass
class UnitStatistics:
    """Of one batch, or averages over many. d units, K = FREQUENCIES."""

    mean: jax.Array  # of each unit of z_sem [d]
    square: jax.Array  # mean of its square [d]
    covariances: jax.Array  # [K, K, d, d]; [i, j, k, l] is that of cosine i of unit k with cosine j of unit l


def initial_statistics(latent_dim: int) -> UnitStatistics:
    """Standardised units without covariances."""
    shape = (FREQUENCIES, FREQUENCIES, latent_dim, latent_dim)
    return UnitStatistics(jnp.zeros(latent_dim), jnp.ones(latent_dim), jnp.zeros(shape))


def independence_loss(
    config: ConfigDict, z_sem: jax.Array, average: UnitStatistics | None, step: jax.Array
) -> tuple[jax.Array, UnitStatistics | None]:
    """(L_ind [], the batch's statistics); (0, None) if independence.weight is 0. L_ind is 0 while z_sem listens.

    A batch is too small to estimate a squared covariance. The gradient is therefore that of the product of two
    covariances: the moving average over many batches, a constant, and this batch's.

    Args:
      z_sem: [B, d].
      average: the moving average of the statistics before this step.
    """
    if config.independence.weight == 0:
        return jnp.float32(0), None
    average = jax.lax.stop_gradient(average)
    covariances = unit_covariances(standardize(z_sem, average))
    start = config.distillation.listen_steps if listens(config) else 0
    share = jnp.clip((step - start) / RAMP_STEPS, 0, 1)
    loss = share * 2 * (average.covariances * covariances).sum()
    batch = UnitStatistics(z_sem.mean(0), jnp.square(z_sem).mean(0), covariances)
    return loss, jax.lax.stop_gradient(batch)


def standardize(z: jax.Array, average: UnitStatistics) -> jax.Array:
    """z [B, d] with the mean and the deviation of the average. The gradient is that of the batch's own mean and
    deviation, so that L_ind does not shrink or shift a unit."""
    mean, variance = z.mean(0), z.var(0)
    known_variance = jnp.maximum(average.square - jnp.square(average.mean), 0)
    mean += jax.lax.stop_gradient(average.mean - mean)
    variance += jax.lax.stop_gradient(known_variance - variance)
    return (z - mean[None]) / jnp.sqrt(variance[None] + 1e-6)


def unit_covariances(u: jax.Array) -> jax.Array:
    """Covariances [K, K, d, d] over the batch of standardised units u [B, d]. A unit has 0 with itself.

    Cosine i of a unit is sqrt(2) cos(pi i Phi(u)), i from 1 to K, with Phi the normal distribution function: for a
    normal unit they are orthonormal.
    """
    frequency = jnp.arange(1, FREQUENCIES + 1)[:, None, None]
    cosines = 2**0.5 * jnp.cos(jnp.pi * frequency * norm.cdf(u)[None])  # [K, B, d]
    cosines -= cosines.mean(1, keepdims=True)
    covariances = jnp.einsum("ibk,jbl->ijkl", cosines, cosines) / len(u)
    return covariances * (1 - jnp.eye(u.shape[-1]))[None, None]
