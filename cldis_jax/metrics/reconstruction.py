"""Pixel metrics of reconstructions, one value per image. Images [B, H, W, C] in [-1, 1] are compared in [0, 1].

As in Diff-AE, metrics.py and ssim.py, SSIM has an 11x11 Gaussian window of sigma 1.5 and zero padding.
"""

import jax
import jax.numpy as jnp
import numpy as np

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
LARGEST = 1e3  # decoded pixels may be somewhat outside of [-1, 1]
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # for a dynamic range of 1 [Wang et al. 2004]


def mse(images: jax.Array, reference: jax.Array) -> jax.Array:
    """Mean squared error of pixels in [0, 1], [B]."""
    images, reference = _check(images, reference)
    return jnp.mean(jnp.square((images - reference) / 2), axis=(1, 2, 3))


def psnr(images: jax.Array, reference: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio in dB for a peak of 1, [B]; inf for equal images."""
    return -10 * jnp.log10(mse(images, reference))


def ssim(images: jax.Array, reference: jax.Array) -> jax.Array:
    """Structural similarity [Wang et al. 2004], mean over pixels and channels, [B]."""
    images, reference = _check(images, reference)
    x, y = ((image + 1) / 2 for image in (images, reference))
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = _blur(x * x) - mean_x**2
    var_y = _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + SSIM_C1) / (mean_x**2 + mean_y**2 + SSIM_C1)
    structure = (2 * covariance + SSIM_C2) / (var_x + var_y + SSIM_C2)
    return jnp.mean(luminance * structure, axis=(1, 2, 3))


def _blur(x: jax.Array) -> jax.Array:
    """Convolution of every channel with the Gaussian window, with zero padding."""
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    window = np.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    window = jnp.asarray(window / window.sum(), x.dtype)
    for kernel in (window[:, None], window[None, :]):
        x = jax.lax.conv_general_dilated(
            x,
            jnp.broadcast_to(kernel[..., None, None], (*kernel.shape, 1, x.shape[-1])),
            window_strides=(1, 1),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=x.shape[-1],
            precision=jax.lax.Precision.HIGHEST,
        )
    return x


def _check(*images) -> list[jax.Array]:
    """The two images in float32 or wider; their values are checked outside of `jit` only."""
    shapes = [image.shape for image in images]
    if images[0].ndim != 4 or shapes[0] != shapes[1] or 0 in shapes[0]:
        raise ValueError(f"images must be two [B, H, W, C] of one shape, not empty; got {shapes[0]} and {shapes[1]}")
    for image in images:
        if not jnp.issubdtype(image.dtype, jnp.floating):
            raise ValueError(f"images must be floats in [-1, 1], got {image.dtype}")
        if isinstance(image, jax.core.Tracer):
            continue
        largest = float(jnp.max(jnp.abs(image)))
        if not np.isfinite(largest):
            raise ValueError("images contain NaN or infinite values")
        if largest > LARGEST:
            raise ValueError(f"images must be in [-1, 1], but reach {largest:.0e}")
    return [jnp.asarray(image, jnp.promote_types(image.dtype, jnp.float32)) for image in images]
