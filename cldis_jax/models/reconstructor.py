"""The reconstructor R of Navigation: it predicts the direction and the shift from an image pair.

R is a small residual convolutional network. Its depth follows the image size. `factor_probe` uses the same trunk.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from cldis_jax.models.beta_vae import StridedConv
from cldis_jax.models.layers import Conv3x3, Dense, Dtype, GroupNorm

MAX_WIDENING = 4  # the channels grow from `width` to at most this multiple of it


class Trunk(nn.Module):
    """Images [B, H, W, C] -> features [B, hidden].

    Each stage halves the image and applies one residual block, until the side is at most 4 or odd. The result is
    flattened, not pooled: the features must encode positions.
    """

    width: int = 32
    hidden: int = 128
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h, i = x.astype(self.dtype), 0
        while h.shape[1] > 4 and h.shape[1] % 2 == 0:
            features = self.width * min(2**i, MAX_WIDENING)
            h = nn.silu(GroupNorm(name=f"norm_{i}")(StridedConv(features, self.dtype, name=f"down_{i}")(h)))
            residual = Conv3x3(features, dtype=self.dtype, name=f"conv_{i}")(h)
            h = h + nn.silu(GroupNorm(name=f"norm_residual_{i}")(residual))
            i += 1
        return nn.silu(Dense(self.hidden, dtype=self.dtype, name="hidden")(h.reshape(h.shape[0], -1)))


class Reconstructor(nn.Module):
    """R(x, x') -> (k, eps) [Voynov & Babenko 2020, arXiv 2002.03754]. Their R is a ResNet-18 or a LeNet."""

    num_directions: int
    width: int = 32
    hidden: int = 128
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, pairs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(Logits [B, K] of the direction, signed shift [B]) for x and x' concatenated to `pairs` [B, H, W, 2 C]."""
        h = Trunk(self.width, self.hidden, self.dtype, name="trunk")(pairs).astype(jnp.float32)
        return Dense(self.num_directions, name="direction")(h), Dense(1, name="shift")(h)[:, 0]
