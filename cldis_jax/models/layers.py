"""Building blocks of Diff-AE's networks, with PyTorch's initialisation. Norms and softmax are computed in float32.

Sources: Preechakul et al. 2022 (arXiv 2111.15640) and its reference implementation phizaz/diffae, `model/blocks.py`.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

Dtype = Any


def torch_uniform(fan_in: int) -> nn.initializers.Initializer:
    """PyTorch's default initialisation of weights and biases: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    bound = 1.0 / math.sqrt(fan_in)

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Dense(nn.Module):
    """A linear layer, or a 1x1 convolution on [B, H, W, C]. `zero`: weights and bias start at 0."""

    features: int
    zero: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.initializers.zeros if self.zero else torch_uniform(x.shape[-1])
        return nn.Dense(self.features, kernel_init=init, bias_init=init, dtype=self.dtype, name="layer")(x)


class Conv3x3(nn.Module):
    """A 3x3 convolution of stride 1 that keeps the size. `zero`: weights and bias start at 0."""

    features: int
    zero: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.initializers.zeros if self.zero else torch_uniform(9 * x.shape[-1])
        return nn.Conv(
            self.features, (3, 3), padding=1, kernel_init=init, bias_init=init, dtype=self.dtype, name="layer"
        )(x)


class GroupNorm(nn.Module):
    """Group norm with 32 groups and epsilon 1e-5, computed in float32 and cast back.

    The number of groups is smaller if 32 does not divide the channels. `narrow`: groups have at least 4 channels, or 2
    from 64 channels on. A group of one channel loses the channel's mean, and with it the colour of the image.
    """

    narrow: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        least = (2 if channels >= 64 else 4) if self.narrow else 1
        groups = math.gcd(32, channels, channels // least)
        return _GroupNorm(groups, name="layer")(x.astype(jnp.float32)).astype(x.dtype)


class _GroupNorm(nn.Module):
    """`flax.linen.GroupNorm` of [B, H, W, C] float32, without its array of groups [B, H, W, groups, C / groups].

    With that array XLA makes float32 copies of the features on TPUs. Here the moments are averaged over the pixels of
    each channel, and then, by a matrix product, over the channels of each group.
    """

    num_groups: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))[None, None, None]
        bias = self.param("bias", nn.initializers.zeros, (channels,))[None, None, None]
        size = channels // self.num_groups
        in_group = jnp.eye(self.num_groups).repeat(size, axis=0)  # [C, groups]
        moments = jnp.stack([x.mean((1, 2)), jnp.square(x).mean((1, 2))])  # [2, B, C]
        moments = jnp.matmul(moments, in_group / size, precision="highest")
        mean, square = jnp.matmul(moments, in_group.T, precision="highest")[:, :, None, None]
        variance = jnp.maximum(square - jnp.square(mean), 0)
        return (x - mean) * (jax.lax.rsqrt(variance + 1e-5) * scale) + bias


def upsample(x: jax.Array) -> jax.Array:
    """Nearest-neighbour upsampling of [B, H, W, C] by 2."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def downsample(x: jax.Array) -> jax.Array:
    """2x2 average pooling of [B, H, W, C]."""
    return nn.avg_pool(x, (2, 2), (2, 2))


RESIZE = {"up": upsample, "down": downsample, None: lambda x: x}


def time_embedding(t: jax.Array, dim: int, max_period: float = 10_000.0) -> jax.Array:
    """Sinusoids of t [B], cosines first, float32 [B, dim]."""
    half = dim // 2
    frequencies = jnp.exp(-math.log(max_period) * jnp.arange(half, dtype=jnp.float32) / half)
    angles = t.astype(jnp.float32)[:, None] * frequencies[None]
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def ada_gn(h: jax.Array, t_scale: jax.Array, t_shift: jax.Array, z_scale: jax.Array | None) -> jax.Array:
    """(h (1 + t_scale) + t_shift) (1 + z_scale) for normalised features h [B, H, W, C]; the others are [B, C]."""
    with jax.named_scope("ada_gn"):  # `plan --breakdown` reads the name
        h = h * (1 + t_scale[:, None, None]) + t_shift[:, None, None]
        return h if z_scale is None else h * (1 + z_scale[:, None, None])


class ResBlock(nn.Module):
    """Residual block of the U-Net. AdaGN conditions it on time and on z [B, d] (None: on time alone)."""

    features: int
    dropout: float = 0.0
    resize: str | None = None  # up | down
    dtype: Dtype = jnp.float32
    narrow_groups: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, t_emb: jax.Array, z: jax.Array | None, train: bool) -> jax.Array:
        resize = RESIZE[self.resize]
        h = resize(nn.silu(GroupNorm(self.narrow_groups, name="norm_in")(x)))
        h = Conv3x3(self.features, dtype=self.dtype, name="conv_in")(h)
        time = Dense(2 * self.features, dtype=self.dtype, name="time_scale_shift")(nn.silu(t_emb))
        t_scale, t_shift = jnp.split(time, 2, axis=-1)
        z_scale = None if z is None else Dense(self.features, dtype=self.dtype, name="z_scale")(nn.silu(z))
        h = nn.silu(ada_gn(GroupNorm(self.narrow_groups, name="norm_out")(h), t_scale, t_shift, z_scale))
        h = nn.Dropout(self.dropout)(h, deterministic=not train)
        h = Conv3x3(self.features, zero=True, dtype=self.dtype, name="conv_out")(h)
        return _skip(self, resize(x)) + h


class EncoderBlock(nn.Module):
    """Residual block of the semantic encoder: one convolution, no dropout, no zero initialisation."""

    features: int
    resize: str | None = None
    dtype: Dtype = jnp.float32
    narrow_groups: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        resize = RESIZE[self.resize]
        h = resize(nn.silu(GroupNorm(self.narrow_groups, name="norm_in")(x)))
        h = Conv3x3(self.features, dtype=self.dtype, name="conv_in")(h)
        return _skip(self, resize(x)) + h


def _skip(block: ResBlock | EncoderBlock, x: jax.Array) -> jax.Array:
    """The identity, or a 1x1 convolution if the number of channels changes."""
    return x if x.shape[-1] == block.features else Dense(block.features, dtype=block.dtype, name="skip")(x)


class SelfAttention(nn.Module):
    """Residual self-attention over the positions of [B, H, W, C]. The output projection starts at 0."""

    dtype: Dtype = jnp.float32
    narrow_groups: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        qkv = Dense(3 * channels, dtype=self.dtype, name="qkv")(GroupNorm(self.narrow_groups, name="norm")(x))
        q, k, v = (rearrange(part, "b h w c -> b (h w) 1 c") for part in jnp.split(qkv, 3, axis=-1))
        h = rearrange(attend(q, k, v), "b (h w) 1 c -> b h w c", h=x.shape[1])
        return x + Dense(channels, zero=True, dtype=self.dtype, name="project")(h)


class CrossAttention(nn.Module):
    """Residual cross-attention from the positions of [B, H, W, C] to tokens [B, n, token_dim].

    After EncDiff (Yang et al. 2024). The output projection starts at 0.
    """

    dtype: Dtype = jnp.float32
    narrow_groups: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, tokens: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        q = Dense(channels, dtype=self.dtype, name="query")(GroupNorm(self.narrow_groups, name="norm")(x))
        kv = Dense(2 * channels, dtype=self.dtype, name="key_value")(tokens)
        q = rearrange(q, "b h w c -> b (h w) 1 c")
        k, v = (rearrange(part, "b n c -> b n 1 c") for part in jnp.split(kv, 2, axis=-1))
        h = rearrange(attend(q, k, v), "b (h w) 1 c -> b h w c", h=x.shape[1])
        return x + Dense(channels, zero=True, dtype=self.dtype, name="project")(h)


def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """softmax(q k^T / sqrt(c)) v for arrays [B, positions, heads, c]; q and k are each scaled by c^(-1/4)."""
    scale = q.shape[-1] ** -0.25
    logits = jnp.einsum("bqhc,bkhc->bhqk", q * scale, k * scale, preferred_element_type=jnp.float32)
    return jnp.einsum("bhqk,bkhc->bqhc", jax.nn.softmax(logits, axis=-1).astype(v.dtype), v)


class ScalarTokens(nn.Module):
    """z [B, d] -> tokens [B, d, token_dim]: an MLP (1 - 64 - 128 - token_dim, ELU) of its own for each scalar."""

    token_dim: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        per_scalar = nn.vmap(_TokenMLP, in_axes=1, out_axes=1, variable_axes={"params": 0}, split_rngs={"params": True})
        return per_scalar(self.token_dim, self.dtype, name="mlp")(z[..., None])


class _TokenMLP(nn.Module):
    token_dim: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i, width in enumerate((64, 128)):
            x = nn.elu(Dense(width, dtype=self.dtype, name=f"dense_{i}")(x))
        return Dense(self.token_dim, dtype=self.dtype, name="dense_2")(x)


def to_patches(x: jax.Array, size: int) -> jax.Array:
    """Space to depth: [B, H, W, C] -> [B, H / size, W / size, size * size * C]."""
    return rearrange(x, "b (h p) (w q) c -> b h w (p q c)", p=size, q=size)


def from_patches(x: jax.Array, size: int) -> jax.Array:
    """Depth to space, the inverse of `to_patches`."""
    return rearrange(x, "b h w (p q c) -> b (h p) (w q) c", p=size, q=size)
