"""The denoiser of Diff-AE: an ADM U-Net, conditioned on time and on z_sem."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from cldis_jax.models.layers import (
    Conv3x3,
    CrossAttention,
    Dense,
    Dtype,
    GroupNorm,
    ResBlock,
    ScalarTokens,
    SelfAttention,
    from_patches,
    time_embedding,
    to_patches,
)


class UNet(nn.Module):
    """(x_t [B, H, W, C], t [B], z [B, latent_dim]) -> eps, v or x_0 [B, H, W, C] float32 [Preechakul et al. 2022].

    Conditioning `adagn`: in every block time scales and shifts the features, then z scales them.

    Conditioning `cross_attention` [EncDiff, Yang et al. 2024]: each scalar of z becomes a token, and AdaGN uses time
    alone. The features attend to the tokens once in the middle, and after each `..._block_{j}` of the levels whose side
    is at most `cross_attention_side`. There is no attention after the blocks that halve or double.

    Layer names: `down_{i}_block_{j}`, `down_{i}_down`, `middle_block_{0,1}`, `up_{i}_block_{j}`, `up_{i}_up`. Attention
    layers have the name of the block before them with `_attention` or `_cross` at the end (`middle_attention` in the
    middle). Level i = 0 is the finest.
    """

    base_channels: int
    channel_multipliers: tuple[int, ...]
    embed_dim: int = 512
    num_res_blocks: int = 2
    attention_resolutions: tuple[int, ...] = (16,)
    dropout: float = 0.1
    conditioning: str = "adagn"
    token_dim: int = 16
    cross_attention_side: int = 16
    patch_size: int = 1
    remat: bool = False
    narrow_groups: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x_t: jax.Array, t: jax.Array, z: jax.Array, *, train: bool = False) -> jax.Array:
        dtype = self.dtype
        out_channels = self.patch_size**2 * x_t.shape[-1]
        t_emb = Dense(self.embed_dim, dtype=dtype, name="time_0")(time_embedding(t, self.base_channels).astype(dtype))
        t_emb = Dense(self.embed_dim, dtype=dtype, name="time_1")(nn.silu(t_emb))
        by_attention = self.conditioning == "cross_attention"
        z = z.astype(dtype)
        tokens = ScalarTokens(self.token_dim, dtype, name="tokens")(z) if by_attention else None
        block_type = nn.remat(ResBlock, static_argnums=(4,)) if self.remat else ResBlock

        def block(h, features, name, resize=None):
            block = block_type(features, self.dropout, resize, dtype, self.narrow_groups, name=name)
            return block(h, t_emb, None if by_attention else z, train)

        def attend(h, name, middle=False):
            """Self-attention and cross-attention at the resolutions that have them."""
            if middle or h.shape[1] in self.attention_resolutions:
                h = SelfAttention(dtype, self.narrow_groups, name=f"{name}_attention")(h)
            if by_attention and (middle or h.shape[1] <= self.cross_attention_side):
                h = CrossAttention(dtype, self.narrow_groups, name=f"{name}_cross")(h, tokens)
            return h

        h = to_patches(x_t, self.patch_size).astype(dtype)
        h = Conv3x3(self.base_channels, dtype=dtype, name="stem")(h)
        skips = [h]
        last = len(self.channel_multipliers) - 1
        for i, multiplier in enumerate(self.channel_multipliers):
            features = multiplier * self.base_channels
            for j in range(self.num_res_blocks):
                h = attend(block(h, features, f"down_{i}_block_{j}"), f"down_{i}_block_{j}")
                skips.append(h)
            if i < last:
                h = block(h, features, f"down_{i}_down", "down")
                skips.append(h)

        h = attend(block(h, features, "middle_block_0"), "middle", middle=True)
        h = block(h, features, "middle_block_1")

        for i, multiplier in reversed(list(enumerate(self.channel_multipliers))):
            features = multiplier * self.base_channels
            for j in range(self.num_res_blocks + 1):
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                h = attend(block(h, features, f"up_{i}_block_{j}"), f"up_{i}_block_{j}")
            if i > 0:
                h = block(h, features, f"up_{i}_up", "up")

        h = nn.silu(GroupNorm(self.narrow_groups, name="norm")(h))
        h = Conv3x3(out_channels, zero=True, dtype=dtype, name="head")(h)
        return from_patches(h, self.patch_size).astype(jnp.float32)
