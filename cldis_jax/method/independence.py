"""L_ind: a price on the dependence between the units of z_sem [choice], in two forms.

L_diff does not mind if two units of z_sem encode one factor, or if each of them mixes the same two. L_ind does. Both
forms are quadratic in statistics of the standardised units:

  cosines     the squared covariances between functions of two units. They see a factor that is in two units, as the
              cosine and the sine of a hue are. It may change what z_sem encodes.
  negentropy  the squared correlations minus the negentropies: independent component analysis (Comon 1994). It turns the
              axes of z_sem alone, and suits factors that are rarely far from their mean, as in photographs.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jax.scipy.stats import norm
from ml_collections import ConfigDict

from cldis_jax.method.distillation import listens
from cldis_jax.models import Networks

FREQUENCIES = 4  # the first cosine depends on order alone, as a rank correlation does; the second on size too
RAMP_STEPS = 2_000  # until L_ind has its whole weight
NEGENTROPY_FACTORS = (36 / (8 * 3**0.5 - 9), 24 / (16 * 3**0.5 - 27))  # of the two contrasts [Hyvarinen 1998]


@struct.dataclass
class UnitStatistics:
    """Of one batch, or averages over many; d units. A subclass for each form has the statistics of its L_ind."""

    mean: jax.Array  # of each unit of z_sem [d]
    square: jax.Array  # mean of its square [d]


def initial_statistics(config: ConfigDict) -> UnitStatistics:
    """Standardised units without dependence."""
    d = config.model.latent_dim
    nothing = jax.eval_shape(FORMS[config.independence.form].measure, *[jnp.zeros((2, d))] * 2)
    return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), nothing).replace(square=jnp.ones(d))


def independence_loss(
    config: ConfigDict,
    networks: Networks,
    params: dict,
    x0: jax.Array,
    z_sem: jax.Array,
    average: UnitStatistics | None,
) -> tuple[jax.Array, UnitStatistics | None]:
    """(L_ind [], the batch's statistics); (0, None) if independence.weight is 0.

    A batch is too small to estimate a square. L_ind therefore multiplies two estimates of each statistic, the moving
    average over many batches and this batch's, and has the gradient of the square. With train.accumulate a micro-batch
    counts as a batch.

    Args:
      params: parameters by network.
      x0: the images [B, H, W, C] in [-1, 1] of the codes z_sem [B, d].
      average: the moving average of the statistics before this step.
    """
    if config.independence.weight == 0:
        return jnp.float32(0), None
    form, average = FORMS[config.independence.form], jax.lax.stop_gradient(average)
    z = z_of_last_layer(networks, params, x0) if form.turns_axes_alone else z_sem
    batch = form.measure(z, standardize(z, average))
    product = average.product(batch)
    loss = 2 * product - jax.lax.stop_gradient(product)  # the product, with twice its gradient
    return loss, jax.lax.stop_gradient(batch)


def independence_weight(config: ConfigDict, step: jax.Array) -> jax.Array:
    """lambda_ind [] at the optimiser step `step` []: it rises over `RAMP_STEPS` steps, once z_sem no longer listens."""
    start = config.distillation.listen_steps if listens(config) and config.vae.weight > 0 else 0
    return config.independence.weight * jnp.clip((step - start) / RAMP_STEPS, 0, 1)


def z_of_last_layer(networks: Networks, params: dict, x0: jax.Array) -> jax.Array:
    """z_sem [B, d] with a gradient for the last layer of E_sem alone."""
    encoder = params["semantic_encoder"]
    frozen = jax.lax.stop_gradient(encoder) | {"head": encoder["head"]}
    return networks.encode_semantic({"semantic_encoder": frozen}, x0)


def standardize(z: jax.Array, average: UnitStatistics) -> jax.Array:
    """z [B, d] with the mean and the variance of the average, and the gradient of the batch's own mean and variance.

    So a loss of the result does not shift a unit. Where the batch has the average's moments, it does not scale one.
    """
    mean, variance = z.mean(0), z.var(0)
    known_variance = jnp.maximum(average.square - jnp.square(average.mean), 0)
    mean += jax.lax.stop_gradient(average.mean - mean)
    variance += jax.lax.stop_gradient(known_variance - variance)
    return (z - mean[None]) / jnp.sqrt(variance[None] + 1e-6)


# --- The forms ---


@struct.dataclass
class CosineStatistics(UnitStatistics):
    """Covariances between cosines of two units.

    Cosine i of a unit u is sqrt(2) cos(pi i Phi(u)), i from 1 to K = FREQUENCIES, with Phi the normal distribution
    function. For a normal unit the cosines are orthonormal, and the sum over i and j of the squares is a truncated mean
    square contingency (Pearson; Renyi 1959), which is 0 for independent units.
    """

    covariances: jax.Array  # [K, K, d, d]; [i, j, k, l] is that of cosine i of unit k with cosine j of unit l

    turns_axes_alone = False

    @classmethod
    def measure(cls, z: jax.Array, u: jax.Array) -> "CosineStatistics":
        """Of a batch of codes z [B, d] and the standardised units u [B, d]."""
        frequency = jnp.arange(1, FREQUENCIES + 1)[:, None, None]
        cosines = 2**0.5 * jnp.cos(jnp.pi * frequency * norm.cdf(u)[None])  # [K, B, d]
        cosines -= cosines.mean(1, keepdims=True)
        covariances = jnp.einsum("ibk,jbl->ijkl", cosines, cosines, precision=jax.lax.Precision.HIGHEST) / len(u)
        return cls(z.mean(0), jnp.square(z).mean(0), covariances * _other_units(u)[None, None])

    def product(self, other: "CosineStatistics") -> jax.Array:
        """L_ind [], each factor of a square from another estimate."""
        return (self.covariances * other.covariances).sum()


@struct.dataclass
class AxisStatistics(UnitStatistics):
    """Correlations between two units, and how far each unit is from a normal one.

    The mutual information of units is the sum of their entropies minus the joint one. Turning the axes does not change
    the joint one. Of normal units with small correlations r it is the sum of r^2 / 2 over pairs; and the entropy of a
    unit is less than that of a normal one by its negentropy J. So L_ind = sum r^2 / 2 - sum J.
    """

    correlations: jax.Array  # [d, d]; a unit has 0 with itself
    contrasts: jax.Array  # E u exp(-u^2 / 2) and E exp(-u^2 / 2) of each unit u, minus those of a normal one [2, d]

    turns_axes_alone = True

    @classmethod
    def measure(cls, z: jax.Array, u: jax.Array) -> "AxisStatistics":
        """Of a batch of codes z [B, d] and the standardised units u [B, d]."""
        centred = u - u.mean(0, keepdims=True)
        correlations = jnp.einsum("bk,bl->kl", centred, centred, precision=jax.lax.Precision.HIGHEST) / (len(u) - 1)
        bell = jnp.exp(-jnp.square(u) / 2)
        contrasts = jnp.stack([(u * bell).mean(0), bell.mean(0) - 0.5**0.5])
        return cls(z.mean(0), jnp.square(z).mean(0), correlations * _other_units(u), contrasts)

    def product(self, other: "AxisStatistics") -> jax.Array:
        """L_ind [] in nats, up to a constant, each factor of a square from another estimate."""
        return (self.correlations * other.correlations).sum() / 4 - self.negentropy(other).sum()

    def negentropy(self, other: "AxisStatistics") -> jax.Array:
        """J in nats [d], approximated [Hyvarinen 1998, "New approximations of differential entropy"]."""
        return (jnp.array(NEGENTROPY_FACTORS)[:, None] * self.contrasts * other.contrasts).sum(0)


FORMS: dict[str, type[UnitStatistics]] = {"cosines": CosineStatistics, "negentropy": AxisStatistics}


def _other_units(u: jax.Array) -> jax.Array:
    """[d, d], 0 for a unit with itself, else 1."""
    return 1 - jnp.eye(u.shape[-1])
