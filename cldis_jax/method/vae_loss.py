"""L_vae = -log p_theta(x|z) + beta |KL(q_phi(z|x) || p(z)) - C| [paper], and the choices within it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from cldis_jax.models import Networks

ACTIVE_VARIANCE = 0.01  # of a unit's mean over the images, above which it counts as active [Burda et al. 2016]


@struct.dataclass
class Posterior:
    """q_phi(z|x) = N(mean, exp(log_var)) of a batch, with samples of it; each [B, d]."""

    mean: jax.Array
    log_var: jax.Array
    sample: jax.Array  # z_disen = mean + sigma eps, eps ~ N(0, I)
    mirrored_sample: jax.Array  # mean - sigma eps, the other end of the antithetic pair

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
    """(L_vae [], its parts by name, each []) of images x0 and the posterior q; `capacity` is C, [] or [B]."""
    c = config.vae
    kl = q.kl.sum(-1)
    mean_kl = kl.mean()

    def reconstruct(z):
        decoded = networks.decode_vae(params, z)
        return LIKELIHOODS[c.likelihood](x0, decoded, c.gaussian_std).mean()

    reconstruction = reconstruct(q.sample)
    if c.antithetic:  # Wu et al. 2019: the noise that the two samples share cancels
        reconstruction = (reconstruction + reconstruct(q.mirrored_sample)) / 2
    # A C of each sample binds that sample's KL; one C for all binds the batch's mean.
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


# --- The likelihoods: -log p_theta(x|z) of images x in [-1, 1] and the decoder's raw output, nats [B] ---


def bernoulli(x: jax.Array, output: jax.Array, std: float) -> jax.Array:
    """`output` holds logits; x is read as the probability (x + 1) / 2, so that the minimum is the images' entropy."""
    return optax.sigmoid_binary_cross_entropy(output, (x + 1) / 2).sum(axis=(1, 2, 3))


def gaussian(x: jax.Array, output: jax.Array, std: float) -> jax.Array:
    """`output` holds the mean; the standard deviation is fixed."""
    nll = 0.5 * jnp.square((x - output) / std) + jnp.log(std) + 0.5 * jnp.log(2 * jnp.pi)
    return nll.sum(axis=(1, 2, 3))


LIKELIHOODS: dict[str, Callable[[jax.Array, jax.Array, float], jax.Array]] = {
    "bernoulli": bernoulli,
    "gaussian": gaussian,
}


def decoder_mean(likelihood: str, output: jax.Array) -> jax.Array:
    """The image in [-1, 1] that a decoder's raw output stands for."""
    return 2 * jax.nn.sigmoid(output) - 1 if likelihood == "bernoulli" else jnp.clip(output, -1, 1)


# --- The penalties: what a KL beside a capacity C costs, nats, [] or [B] ---


def absolute(kl: jax.Array, capacity: jax.Array, beta: float, beta_min: float) -> jax.Array:
    """beta |KL - C| [paper]."""
    return beta * jnp.abs(kl - capacity)


def hinge(kl: jax.Array, capacity: jax.Array, beta: float, beta_min: float) -> jax.Array:
    """beta relu(KL - C) + beta_min KL [choice]: the absolute form rewards useless nats while the VAE is weak."""
    return beta * jax.nn.relu(kl - capacity) + beta_min * kl


CAPACITY_FORMS: dict[str, Callable[[jax.Array, jax.Array, float, float], jax.Array]] = {
    "absolute": absolute,
    "hinge": hinge,
}
