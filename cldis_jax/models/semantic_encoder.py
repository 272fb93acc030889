"""E_sem: that of Diff-AE, the first half of a U-Net; or strided convolutions, as in the encoder of the VAE."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cldis_jax.models.beta_vae import StridedConv, stage_widths
from cldis_jax.models.layers import Conv3x3, Dense, Dtype, EncoderBlock, GroupNorm, SelfAttention, to_patches

KINDS = ("unet", "strided")


class SemanticEncoder(nn.Module):
    """x [B, H, W, C] in [-1, 1] -> z_sem [B, latent_dim] float32, unbounded [Preechakul et al. 2022].

    The head averages the features over all positions.
    Layer names: `level_{i}_block_{j}`, followed by `level_{i}_attention_{j}`; `level_{i}_down`; `middle_block_{0,1}`.
    """

    latent_dim: int
    base_channels: int
    channel_multipliers: tuple[int, ...]
    num_res_blocks: int = 2
    attention_resolutions: tuple[int, ...] = (16,)
    patch_size: int = 1
    remat: bool = False
    narrow_groups: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        block_type = nn.remat(EncoderBlock) if self.remat else EncoderBlock
        block = functools.partial(block_type, dtype=self.dtype, narrow_groups=self.narrow_groups)
        attention = functools.partial(SelfAttention, self.dtype, self.narrow_groups)
        h = to_patches(x, self.patch_size).astype(self.dtype)
        h = Conv3x3(self.base_channels, dtype=self.dtype, name="stem")(h)
        last = len(self.channel_multipliers) - 1
        for i, multiplier in enumerate(self.channel_multipliers):
            features = multiplier * self.base_channels
            for j in range(self.num_res_blocks):
                h = block(features, name=f"level_{i}_block_{j}")(h)
                if h.shape[1] in self.attention_resolutions:
                    h = attention(name=f"level_{i}_attention_{j}")(h)
            if i < last:
                h = block(features, resize="down", name=f"level_{i}_down")(h)
        h = block(features, name="middle_block_0")(h)
        h = attention(name="middle_attention")(h)
        h = block(features, name="middle_block_1")(h)
        h = nn.silu(GroupNorm(self.narrow_groups, name="norm")(h))
        h = h.mean(axis=(1, 2))
        return Dense(self.latent_dim, dtype=self.dtype, name="head")(h).astype(jnp.float32)


class StridedEncoder(nn.Module):
    """x [B, H, W, C] in [-1, 1] -> z_sem [B, latent_dim] float32, unbounded [choice].

    The layers are those of the beta-VAE's encoder, with weights of their own, SiLU in place of ReLU, and PyTorch's
    initial weights in the dense layers. They keep the positions of the features, whose average loses shape, scale and
    orientation in a small network.
    """

    latent_dim: int
    base_channels: int = 32
    hidden_dim: int = 256
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = x.astype(self.dtype)
        for i, width in enumerate(stage_widths(self.base_channels, x.shape[1])):
            h = nn.silu(StridedConv(width, self.dtype, name=f"conv_{i}")(h))
        h = nn.silu(Dense(self.hidden_dim, dtype=self.dtype, name="hidden")(h.reshape(len(h), -1)))
        return Dense(self.latent_dim, dtype=self.dtype, name="head")(h).astype(jnp.float32)


def standardize(params: dict[str, Any], z_sem: jax.Array) -> dict[str, Any]:
    """E_sem's `params` with the last layer rescaled: the given z_sem [N, latent_dim] gets mean 0 and variance 1.

    This is data-dependent initialisation (Mishkin and Matas 2016) of the last layer alone. Without it z_sem of the
    small network starts with a standard deviation near .1 (docs/studies/long), and a unit that the losses do not use
    stays that small.
    """
    layer, mean, std = params["head"]["layer"], z_sem.mean(0), jnp.maximum(z_sem.std(0), 1e-3)
    rescaled = layer | {"kernel": layer["kernel"] / std[None], "bias": (layer["bias"] - mean) / std}
    return params | {"head": params["head"] | {"layer": rescaled}}
