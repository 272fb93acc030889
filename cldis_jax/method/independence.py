"""L_ind: two units of z_sem say different things [choice].

The units that the teacher does not use are trained by L_diff alone, and L_diff does not mind if two units repeat one
factor. L_ind does: it is the sum of the squared correlations between units, and between their squares. Two units that
share a hue, such as its cosine and its sine, have no correlation, but their squares do.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

RAMP_STEPS = 2_000  # after listening, until L_ind has its full weight
CLIP = 3.0  # standard deviations: so that no single image has a large share in a covariance of squares


def independence_loss(
    config: ConfigDict, z_sem: jax.Array, average: jax.Array | None, step: jax.Array
) -> tuple[jax.Array, jax.Array | None]:
    """(L_ind [], the batch's `unit_covariances`); (0, None) if independence.weight is 0. L_ind is 0 while z_sem listens.

    A batch is too small to estimate a squared covariance. The gradient is therefore that of the product of two
    covariances: the moving average over many batches, a constant, and this batch's.

    Args:
      z_sem: [B, d].
      average: the moving average of the covariances before this step [2, 2, d, d].
    """
    if config.independence.weight == 0:
        return jnp.float32(0), None
    covariances = unit_covariances(z_sem)
    average, listen_steps = jax.lax.stop_gradient(average), config.distillation.listen_steps
    share = jnp.clip((step - listen_steps) / RAMP_STEPS, 0, 1) if listen_steps > 0 else 1.0
    loss = share * 2 * (average * covariances).sum()
    return loss, jax.lax.stop_gradient(covariances)


def unit_covariances(z: jax.Array) -> jax.Array:
    """Covariances [2, 2, d, d] over the batch of z [B, d]: [i, j, k, l] is that of feature i of unit k with j of l.

    The features of a unit u, standardised over the batch, are u and (u^2 - 1) / sqrt(2). They are the first two Hermite
    polynomials, so that for normal and independent units each feature has variance 1. A unit has 0 with itself.
    """
    u = (z - z.mean(0, keepdims=True)) / jnp.sqrt(z.var(0, keepdims=True) + 1e-6)
    u = jnp.clip(u, -CLIP, CLIP)
    features = jnp.stack([u, (jnp.square(u) - 1) / 2**0.5])  # [2, B, d]
    features -= features.mean(1, keepdims=True)
    covariances = jnp.einsum("ibk,jbl->ijkl", features, features) / len(z)
    return covariances * (1 - jnp.eye(z.shape[-1]))[None, None]
