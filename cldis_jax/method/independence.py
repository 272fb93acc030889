"""L_ind: a price on the dependence between any two units of z_sem [choice].

L_diff does not mind if two units encode one factor, or if each of them mixes the same two factors. L_ind does. For
normal units it is a truncated mean square contingency (Pearson; Renyi 1959): the squared correlations between two
units, summed over the first `FREQUENCIES` functions of an orthonormal basis for each unit. It is 0 for independent
units.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jax.scipy.stats import norm
from ml_collections import ConfigDict

from cldis_jax.method.distillation import listens

FREQUENCIES = 4  # the first cosine depends on order alone, as a rank correlation does; the second on size too
RAMP_STEPS = 2_000  # until L_ind has its whole weight


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
    config: ConfigDict, z_sem: jax.Array, average: UnitStatistics | None
) -> tuple[jax.Array, UnitStatistics | None]:
    """(L_ind [], the batch's statistics); (0, None) if independence.weight is 0.

    A batch is too small to estimate a squared covariance. L_ind is therefore the product of two estimates, the moving
    average over many batches and this batch's, and has the gradient of the square. With train.accumulate a micro-batch
    counts as a batch.

    Args:
      z_sem: [B, d].
      average: the moving average of the statistics before this step.
    """
    if config.independence.weight == 0:
        return jnp.float32(0), None
    average = jax.lax.stop_gradient(average)
    covariances = unit_covariances(standardize(z_sem, average))
    product = (average.covariances * covariances).sum()
    loss = 2 * product - jax.lax.stop_gradient(product)  # the product, with twice its gradient
    batch = UnitStatistics(z_sem.mean(0), jnp.square(z_sem).mean(0), covariances)
    return loss, jax.lax.stop_gradient(batch)


def independence_weight(config: ConfigDict, step: jax.Array) -> jax.Array:
    """lambda_ind [] at the optimiser step `step` []: it rises over `RAMP_STEPS` steps, once z_sem no longer listens."""
    start = config.distillation.listen_steps if listens(config) and config.vae.weight > 0 else 0
    return config.independence.weight * jnp.clip((step - start) / RAMP_STEPS, 0, 1)


def standardize(z: jax.Array, average: UnitStatistics) -> jax.Array:
    """z [B, d] with the mean and the variance of the average, and the gradient of the batch's own mean and variance.

    So a loss of the result does not shift a unit. Where the batch has the average's moments, it does not scale one.
    """
    mean, variance = z.mean(0), z.var(0)
    known_variance = jnp.maximum(average.square - jnp.square(average.mean), 0)
    mean += jax.lax.stop_gradient(average.mean - mean)
    variance += jax.lax.stop_gradient(known_variance - variance)
    return (z - mean[None]) / jnp.sqrt(variance[None] + 1e-6)


def unit_covariances(u: jax.Array) -> jax.Array:
    """Covariances [K, K, d, d] over the batch of standardised units u [B, d]. A unit has 0 with itself.

    Cosine i of a unit is sqrt(2) cos(pi i Phi(u)), i from 1 to K, with Phi the normal distribution function. For a
    normal unit the cosines are orthonormal.
    """
    frequency = jnp.arange(1, FREQUENCIES + 1)[:, None, None]
    cosines = 2**0.5 * jnp.cos(jnp.pi * frequency * norm.cdf(u)[None])  # [K, B, d]
    cosines -= cosines.mean(1, keepdims=True)
    covariances = jnp.einsum("ibk,jbl->ijkl", cosines, cosines, precision=jax.lax.Precision.HIGHEST) / len(u)
    return covariances * (1 - jnp.eye(u.shape[-1]))[None, None]
