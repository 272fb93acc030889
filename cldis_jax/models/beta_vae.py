"""The co-pilot: the standard convolutional beta-VAE with its own encoder and its own pixel decoder.

Higgins et al. 2017 and Burgess et al. 2018 (arXiv 1804.03599): 4x4 convolutions of stride 2 and padding 1. Such a
convolution equals a 2x2 convolution over the 2x2 patches of the padded image; the transposed one is the reverse. This
form runs faster on CPU.

Weights are initialised as in He et al. 2015 and biases at 0, as in the reimplementation 1Konny/Beta-VAE [choice].
PyTorch's default initialisation shrinks the signal in every layer, and the posterior means of different colours then
differ by only 0.001. Few units become active in training, and each encodes several factors (docs/studies/cpu).
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from cldis_jax.models.layers import Dtype, from_patches, to_patches

he_normal = nn.initializers.he_normal()


def stage_widths(base_channels: int, image_size: int) -> list[int]:
    """The channels of the strided convolutions: base_channels twice, then twice as many."""
    return [base_channels * (1 if i < 2 else 2) for i in range(num_stages(image_size))]


class StridedConv(nn.Module):
    """A 4x4 convolution of stride 2 and padding 1: [B, H, W, C] -> [B, H / 2, W / 2, features]."""

    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        patches = to_patches(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 2)
        conv = nn.Conv(self.features, (2, 2), padding="VALID", kernel_init=he_normal, dtype=self.dtype)
        return conv(patches)


class StridedConvTranspose(nn.Module):
    """The transpose of StridedConv: [B, H, W, C] -> [B, 2 H, 2 W, features]."""

    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        conv = nn.Conv(
            4 * self.features, (2, 2), padding="VALID", kernel_init=he_normal, use_bias=False, dtype=self.dtype
        )
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return from_patches(conv(padded), 2)[:, 1:-1, 1:-1] + bias.astype(self.dtype)[None, None, None]


def num_stages(image_size: int) -> int:
    """How often the image is halved: 4 times from 32 to 64 px (to a side of 2 to 4), more above, fewer below."""
    stages, side = 0, image_size
    while side > 4 or (side == 4 and stages < 4):
        side, stages = side // 2, stages + 1
    return stages


class BetaVAE(nn.Module):
    """q_phi(z|x) and p_theta(x|z) over images [B, image_size, image_size, channels].

    The convolutions have 32, 32, 64, 64, 64, ... channels (for base_channels 32). A dense layer of hidden_dim follows.
    """

    image_size: int
    channels: int
    latent_dim: int
    base_channels: int = 32
    hidden_dim: int = 256
    dtype: Dtype = jnp.float32

    def setup(self):
        widths = stage_widths(self.base_channels, self.image_size)
        self.side, self.widest = self.image_size // 2 ** len(widths), widths[-1]
        self.encoder_convs = [StridedConv(width, self.dtype) for width in widths]
        dense = functools.partial(nn.Dense, kernel_init=he_normal, dtype=self.dtype)
        self.encoder_hidden = dense(self.hidden_dim)
        self.posterior = dense(2 * self.latent_dim)
        self.decoder_hidden = dense(self.hidden_dim)
        self.decoder_features = dense(self.side**2 * self.widest)
        outputs = [*widths[-2::-1], self.channels]
        self.decoder_convs = [StridedConvTranspose(width, self.dtype) for width in outputs]

    def encode(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(mean, log variance) of q_phi(z|x), each [B, latent_dim] float32, for x in [-1, 1]."""
        h = x.astype(self.dtype)
        for conv in self.encoder_convs:
            h = nn.relu(conv(h))
        h = nn.relu(self.encoder_hidden(h.reshape(h.shape[0], -1)))
        mean, log_var = jnp.split(self.posterior(h).astype(jnp.float32), 2, axis=-1)
        return mean, log_var

    def decode(self, z: jax.Array) -> jax.Array:
        """The decoder's raw output [B, H, W, C] float32: the logits of p_theta(x|z), a Bernoulli."""
        h = nn.relu(self.decoder_hidden(z.astype(self.dtype)))
        h = nn.relu(self.decoder_features(h)).reshape(-1, self.side, self.side, self.widest)
        for i, conv in enumerate(self.decoder_convs):
            h = conv(nn.relu(h) if i else h)
        return h.astype(jnp.float32)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The reconstruction from the posterior mean. It uses every parameter, as `init` needs."""
        return self.decode(self.encode(x)[0])
