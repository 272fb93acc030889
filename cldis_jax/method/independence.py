"""L_ind: a price on the dependence between the units of z_sem [choice], in two forms.

L_diff does not mind if two units of z_sem encode one factor, or if each of them mixes the same two. L_ind does:

  cosines     the squared covariances between functions of two units. They see a factor that is in two units, as the
              cosine and the sine of a hue are. It may change what z_sem encodes.
  negentropy  the mutual information of the units, as in independent component analysis (Comon 1994). It trains the last
              layer of E_sem alone, and is meant for factors that are rarely far from their mean, as in photographs.
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
NEGENTROPY_FACTORS = (36 / (8 * 3**0.5 - 9), 24 / (16 * 3**0.5 - 27))  # of the odd and the even mean [Hyvarinen 1998]
RIDGE = 0.01  # added to each unit's correlation with itself, so that the price of two equal units is finite


@struct.dataclass
class UnitStatistics:
    """Of one batch, or averages over many; d units. A subclass for each form has the statistics of its L_ind."""

    mean: jax.Array  # of each unit of z_sem [d]
    square: jax.Array  # mean of its square [d]


def initial_statistics(config: ConfigDict) -> UnitStatistics:
    """Standardised units without dependence."""
    return FORMS[config.independence.form].initial(config.model.latent_dim)


def independence_loss(
    config: ConfigDict,
    networks: Networks,
    params: dict,
    x0: jax.Array,
    z_sem: jax.Array,
    average: UnitStatistics | None,
) -> tuple[jax.Array, UnitStatistics | None]:
    """(L_ind [], the batch's statistics); (0, None) if independence.weight is 0.

    A batch is too small for the dependence of units. L_ind is therefore that of the moving average over many batches,
    and its gradient is that of the batch's statistics, each multiplied by the derivative of L_ind at the average. With
    train.accumulate a micro-batch counts as a batch.

    Args:
      params: parameters by network.
      x0: the images [B, H, W, C] in [-1, 1] of the codes z_sem [B, d].
      average: the moving average of the statistics before this step.
    """
    if config.independence.weight == 0:
        return jnp.float32(0), None
    form, average = FORMS[config.independence.form], jax.lax.stop_gradient(average)
    z = z_of_last_layer(networks, params, x0) if form.last_layer_alone else z_sem
    batch = form.measure(z, standardize(z, average))
    value, slope = jax.value_and_grad(form.dependence)(average)
    change = sum(jax.tree.leaves(jax.tree.map(lambda a, b: (a * b).sum(), slope, batch)))
    return value + change - jax.lax.stop_gradient(change), jax.lax.stop_gradient(batch)


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
    """z [B, d] with the mean and the variance of the average, and a gradient that neither shifts nor scales a unit."""
    mean, std = z.mean(0, keepdims=True), jnp.sqrt(z.var(0, keepdims=True) + 1e-6)
    variance = jnp.maximum(average.square - jnp.square(average.mean), 0)
    own_mean, own_std = jax.lax.stop_gradient((mean, std))
    return ((z - mean) / std * own_std + own_mean - average.mean[None]) / jnp.sqrt(variance[None] + 1e-6)


# --- The forms ---


@struct.dataclass
class CosineStatistics(UnitStatistics):
    """Covariances between cosines of two units.

    Cosine i of a unit u is sqrt(2) cos(pi i Phi(u)), i from 1 to K = FREQUENCIES, with Phi the normal distribution
    function. For a normal unit the cosines are orthonormal, and the sum over i and j of the squares is a truncated mean
    square contingency (Pearson; Renyi 1959), which is 0 for independent units.
    """

    covariances: jax.Array  # [K, K, d, d]; [i, j, k, l] is that of cosine i of unit k with cosine j of unit l

    last_layer_alone = False

    @classmethod
    def initial(cls, d: int) -> "CosineStatistics":
        return cls(jnp.zeros(d), jnp.ones(d), jnp.zeros((FREQUENCIES, FREQUENCIES, d, d)))

    @classmethod
    def measure(cls, z: jax.Array, u: jax.Array) -> "CosineStatistics":
        """Of a batch of codes z [B, d] and the standardised units u [B, d]."""
        frequency = jnp.arange(1, FREQUENCIES + 1)[:, None, None]
        cosines = 2**0.5 * jnp.cos(jnp.pi * frequency * norm.cdf(u)[None])  # [K, B, d]
        cosines -= cosines.mean(1, keepdims=True)
        covariances = jnp.einsum("ibk,jbl->ijkl", cosines, cosines, precision=jax.lax.Precision.HIGHEST) / len(u)
        return cls(z.mean(0), jnp.square(z).mean(0), covariances * (1 - jnp.eye(u.shape[-1]))[None, None])

    def dependence(self) -> jax.Array:
        """The sum of the squared covariances []."""
        return jnp.square(self.covariances).sum()


@struct.dataclass
class AxisStatistics(UnitStatistics):
    """Products of two units, and how far each unit is from a normal one.

    The mutual information of units is the sum of their entropies minus the joint one. Turning the axes does not change
    the joint one. Of normal units with correlations R it is -log det(R) / 2; the entropy of any unit is less than that
    of a normal one by its negentropy J. So it is -log det(R) / 2 - sum J, up to a constant.
    """

    products: jax.Array  # means of the products of two units, centred in the batch [d, d]
    odd: jax.Array  # E u exp(-u^2 / 2) of each centred unit [d]
    even: jax.Array  # E exp(-u^2 / 2) of each centred unit [d]

    last_layer_alone = True

    @classmethod
    def initial(cls, d: int) -> "AxisStatistics":
        return cls(jnp.zeros(d), jnp.ones(d), jnp.eye(d), jnp.zeros(d), jnp.full(d, 0.5**0.5))

    @classmethod
    def measure(cls, z: jax.Array, u: jax.Array) -> "AxisStatistics":
        """Of a batch of codes z [B, d] and the standardised units u [B, d]."""
        u -= u.mean(0, keepdims=True)
        products = jnp.einsum("bk,bl->kl", u, u, precision=jax.lax.Precision.HIGHEST) / len(u)
        bell = jnp.exp(-jnp.square(u) / 2)
        return cls(z.mean(0), jnp.square(z).mean(0), products, (u * bell).mean(0), bell.mean(0))

    def dependence(self) -> jax.Array:
        """The mutual information of the units [], nats, up to a constant."""
        std = jnp.sqrt(jnp.diagonal(self.products) + 1e-6)
        correlations = self.products / (std[:, None] * std[None])
        regular = (correlations + RIDGE * jnp.eye(len(std))) / (1 + RIDGE)
        return -jnp.linalg.slogdet(regular)[1] / 2 - self.negentropy().sum()

    def negentropy(self) -> jax.Array:
        """J in nats [d], approximated [Hyvarinen 1998, "New approximations of differential entropy"].

        The averages lag behind z_sem, so that units are standardised with an error. Compared with a normal unit of
        their own variance, they do not seem less normal for it.
        """
        k_odd, k_even = NEGENTROPY_FACTORS
        even_if_normal = 1 / jnp.sqrt(1 + jnp.diagonal(self.products))
        return k_odd * jnp.square(self.odd) + k_even * jnp.square(self.even - even_if_normal)


FORMS: dict[str, type[UnitStatistics]] = {"cosines": CosineStatistics, "negentropy": AxisStatistics}
