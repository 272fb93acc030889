"""The denoiser of the latent prior: Diff-AE's MLP with skip connections over z (Preechakul et al. 2022, appendix)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from cldis_jax.models.layers import Dense, time_embedding, torch_uniform

TIME_CHANNELS = 64  # width of the sinusoidal embedding


class LatentMLP(nn.Module):
    """(z_t [B, d], t [B]) -> eps [B, d], all float32.

    The input is concatenated to the features of every layer but the first. The time embedding scales the output of each
    layer before its LayerNorm. The last layer is linear. With d = 512 and hidden_dim 2048, 10 layers have 54,109,696
    parameters and 20 layers 117,106,176.
    """

    num_layers: int
    hidden_dim: int
    embed_dim: int

    @nn.compact
    def __call__(self, z_t: jax.Array, t: jax.Array) -> jax.Array:
        t_emb = Dense(self.embed_dim, name="time_0")(time_embedding(t, TIME_CHANNELS))
        t_emb = nn.silu(Dense(self.embed_dim, name="time_1")(nn.silu(t_emb)))
        h = z_t
        for i in range(self.num_layers - 1):
            h = _kaiming(self.hidden_dim, f"linear_{i}", h if i == 0 else jnp.concatenate([h, z_t], axis=-1))
            h = h * (1 + _kaiming(self.hidden_dim, f"time_scale_{i}", t_emb))
            h = nn.silu(nn.LayerNorm(epsilon=1e-5, name=f"norm_{i}")(h))
        return Dense(z_t.shape[-1], name="head")(jnp.concatenate([h, z_t], axis=-1))


def _kaiming(features: int, name: str, x: jax.Array) -> jax.Array:
    """A linear layer whose initial weights have variance 2 / fan_in."""
    kernel_init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
    return nn.Dense(features, kernel_init=kernel_init, bias_init=torch_uniform(x.shape[-1]), name=name)(x)
