"""L_vae = -log p_theta(x|z) + beta |KL(q_phi(z|x) || p(z)) - C| [paper], and the choices within it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from cldis_jax.models import Networks

ACTIVE_VARIANCE = 0.01  # a unit is active if its mean varies more than this over images [Burda et al. 2016]


@struct.dataclass
class Posterior:
    """q_phi(z|x) = N(mean, exp(log_var)) for a batch, with two samples; each array is [B, d]."""

    mean: jax.Array
    log_var: jax.Array
    sample: jax.Array  # z_disen = mean + sigma eps, eps ~ N(0, I)
    mirrored_sample: jax.Array  # mean - sigma eps, the antithetic sample

    @property
    def kl(self) -> jax.Array:
        """KL(q_phi(z|x) || N(0, I)) of each unit, nats [B, d]."""
        return gaussian_kl(self.mean, self.log_var)


def posterior(networks: Networks, params: dict, x: jax.Array, key: jax.Array) -> Posterior:
    """q_phi(z|x) of images [B, H, W, C] in [-1, 1]."""
    mean, log_var = networks.encode_posterior(params, x)
    noise = jnp.exp(0.5 * log_var) * jax.random.normal(key, mean.shape)
    return Posterior(mean, log_var, mean + noise, mean - noise)


def vae_loss(
    config: ConfigDict, networks: Networks, params: dict, x0: jax.Array, q: Posterior, capacity: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """(L_vae [], its parts by name, each []) for images x0 and their posterior q. `capacity` is C, [] or [B]."""
    c = config.vae
    kl = q.kl.sum(-1)
    mean_kl = kl.mean()

    def reconstruct(z):
        return bernoulli(x0, networks.decode_vae(params, z)).mean()

    reconstruction = reconstruct(q.sample)
    if c.antithetic:  # Wu et al. 2019: part of the two samples' noise cancels
        reconstruction = (reconstruction + reconstruct(q.mirrored_sample)) / 2
    # With one C for the batch the penalty is on the mean KL; with a C per sample it is on the KL of each sample.
    penalty = CAPACITY_FORMS[c.capacity_form](kl if capacity.ndim else mean_kl, capacity, c.beta, c.beta_min).mean()
    active = (q.mean.var(axis=0) > ACTIVE_VARIANCE).sum().astype(jnp.float32)
    return reconstruction + penalty, {
        "vae/reconstruction": reconstruction,
        "vae/kl": mean_kl,
        "vae/capacity": capacity.mean(),
        "vae/active_units": active,
    }


def gaussian_kl(mean: jax.Array, log_var: jax.Array) -> jax.Array:
    """KL(N(mean, exp(log_var)) || N(0, 1)) of each dimension, nats [B, d]."""
    return 0.5 * (jnp.square(mean) + jnp.exp(log_var) - log_var - 1.0)


def bernoulli(x: jax.Array, logits: jax.Array) -> jax.Array:
    """-log p_theta(x|z), summed over pixels, nats [B], for images x in [-1, 1] and the decoder's output.

    The target is the probability (x + 1) / 2; the minimum is the entropy of the images.
    """
    return optax.sigmoid_binary_cross_entropy(logits, (x + 1) / 2).sum(axis=(1, 2, 3))


def decoder_mean(logits: jax.Array) -> jax.Array:
    """The mean image in [-1, 1] for the decoder's output."""
    return 2 * jax.nn.sigmoid(logits) - 1


# --- The penalties on a KL with capacity C, both in nats, [] or [B] ---


def absolute(kl: jax.Array, capacity: jax.Array, beta: float, beta_min: float) -> jax.Array:
    """beta |KL - C| [paper]."""
    return beta * jnp.abs(kl - capacity)


def hinge(kl: jax.Array, capacity: jax.Array, beta: float, beta_min: float) -> jax.Array:
    """beta relu(KL - C) + beta_min KL [choice]. `absolute` rewards a weak VAE for a KL that carries no information."""
    return beta * jax.nn.relu(kl - capacity) + beta_min * kl


CAPACITY_FORMS: dict[str, Callable[[jax.Array, jax.Array, float, float], jax.Array]] = {
    "absolute": absolute,
    "hinge": hinge,
}
