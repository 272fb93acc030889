"""The terms of the objective, one function each: plain maths on arrays, float32, one value per sample unless said."""

import jax
import jax.numpy as jnp
import optax

LIKELIHOODS = ("bernoulli", "gaussian")
CAPACITY_FORMS = ("absolute", "hinge")
DISTILLATION_FORMS = ("kl", "mse", "softmax")


def gaussian_kl(mean: jax.Array, log_var: jax.Array) -> jax.Array:
    """KL(N(mean, exp(log_var)) || N(0, 1)) of each dimension, nats [B, d]."""
    return 0.5 * (jnp.square(mean) + jnp.exp(log_var) - log_var - 1.0)


def negative_log_likelihood(likelihood: str, x: jax.Array, output: jax.Array, std: float = 0.5) -> jax.Array:
    """-log p_theta(x | z), summed over pixels, nats [B].

    Args:
      likelihood: `bernoulli` (output: logits; x is read as the probability (x + 1) / 2, so that its minimum is the
        images' own entropy) or `gaussian` (output: the mean, with fixed standard deviation `std`).
      x: images [B, H, W, C] in [-1, 1].
      output: the decoder's raw output [B, H, W, C].
    """
    if likelihood == "bernoulli":
        nll = optax.sigmoid_binary_cross_entropy(output, (x + 1) / 2)
    else:
        nll = 0.5 * jnp.square((x - output) / std) + jnp.log(std) + 0.5 * jnp.log(2 * jnp.pi)
    return nll.sum(axis=tuple(range(1, x.ndim)))


def decoder_mean(likelihood: str, output: jax.Array) -> jax.Array:
    """The image in [-1, 1] that a decoder's raw output stands for."""
    return 2 * jax.nn.sigmoid(output) - 1 if likelihood == "bernoulli" else jnp.clip(output, -1, 1)


def capacity_penalty(form: str, kl: jax.Array, capacity: jax.Array, beta: float, beta_min: float) -> jax.Array:
    """beta |KL - C| [CL-Dis], or beta relu(KL - C) + beta_min KL, which never pays for useless nats (our choice)."""
    if form == "absolute":
        return beta * jnp.abs(kl - capacity)
    return beta * jax.nn.relu(kl - capacity) + beta_min * kl


def distillation(
    form: str,
    z_sem: jax.Array,
    mean: jax.Array,
    log_var: jax.Array,
    sigma_floor: float,
    unit_weight: jax.Array | float = 1.0,
) -> jax.Array:
    """How far z_sem is from what the VAE's posterior says, [B]; z_sem, mean and log_var are [B, d].

    kl: KL between Gaussians centred on z_sem and on mean, both of variance exp(log_var) + sigma_floor^2;
    mse: squared distance, summed over dimensions;
    softmax: KL(softmax(mean) || softmax(z_sem)) over the dimensions; has no `unit_weight` ([1, d], or one for all).
    """
    if form == "kl":
        return (unit_weight * jnp.square(z_sem - mean) / (2 * (jnp.exp(log_var) + sigma_floor**2))).sum(-1)
    if form == "mse":
        return (unit_weight * jnp.square(z_sem - mean)).sum(-1)
    return optax.losses.kl_divergence(jax.nn.log_softmax(z_sem), jax.nn.softmax(mean))
