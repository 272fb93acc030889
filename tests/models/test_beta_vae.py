"""The beta-VAE: its convolutions against XLA's strided ones, sizes, parameter counts, initialisation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange
from jax import lax

from cldis_jax.models.beta_vae import BetaVAE, StridedConv, StridedConvTranspose, num_stages

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def strided_conv(x, kernel):
    """XLA's convolution: 4x4, stride 2, padding 1."""
    return lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=DIMENSIONS)


def test_strided_conv_is_the_4x4_convolution_of_stride_2():
    x = jax.random.normal(jax.random.key(0), (2, 8, 6, 3))
    conv = StridedConv(5)
    params = conv.init(jax.random.key(1), x)
    layer = params["params"]["Conv_0"]
    kernel = rearrange(layer["kernel"], "h w (p q c) o -> (h p) (w q) c o", p=2, q=2)
    assert kernel.shape == (4, 4, 3, 5)
    np.testing.assert_allclose(
        conv.apply(params, x), strided_conv(x, kernel) + layer["bias"][None, None, None], atol=1e-5
    )


def transposed(params, x, features):
    """(bias, 4x4 kernel [4, 4, features, C]) of the convolution that the layer transposes."""
    kernel = params["params"]["Conv_0"]["kernel"].reshape(2, 2, x.shape[-1], 2, 2, features)
    # Output rows 2i - 1 + k come from input row i. The 2x2 window is flipped: tap a is row 1 - a of the 4x4 kernel.
    return params["params"]["bias"], rearrange(kernel[::-1, ::-1], "h w c p q o -> (h p) (w q) o c")


def test_strided_conv_transpose_is_the_gradient_of_the_convolution():
    x = jax.random.normal(jax.random.key(0), (2, 4, 3, 5))
    layer = StridedConvTranspose(3)
    params = layer.init(jax.random.key(1), x)
    bias, kernel = transposed(params, x, 3)
    _, pullback = jax.vjp(lambda image: strided_conv(image, kernel), jnp.zeros((2, 8, 6, 3)))
    np.testing.assert_allclose(layer.apply(params, x), pullback(x)[0] + bias[None, None, None], atol=1e-5)


def test_strided_conv_transpose_is_xlas_transposed_convolution():
    x = jax.random.normal(jax.random.key(0), (2, 4, 3, 5))
    layer = StridedConvTranspose(3)
    params = layer.init(jax.random.key(1), x)
    bias, kernel = transposed(params, x, 3)
    padding = ((2, 2), (2, 2))
    expected = lax.conv_transpose(x, kernel, (2, 2), padding, dimension_numbers=DIMENSIONS, transpose_kernel=True)
    np.testing.assert_allclose(layer.apply(params, x), expected + bias[None, None, None], atol=1e-5)


@pytest.mark.parametrize("module", [StridedConv(64), StridedConvTranspose(64)])
def test_convolutions_have_he_initialisation(module):
    params = module.init(jax.random.key(0), jnp.zeros((1, 4, 4, 16)))["params"]
    fan_in = 16 * 16 if isinstance(module, StridedConv) else 4 * 16  # 4x4 inputs, or the 2x2 inputs of one output
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
    biases = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 1]
    assert len(kernels) == len(biases) == 1
    assert jnp.std(kernels[0]) == pytest.approx((2 / fan_in) ** 0.5, rel=0.03)
    assert not biases[0].any()


def test_the_signal_reaches_the_latent_and_the_pixels():
    """If a code starts near its mean for every image, most units stay inactive; see the module's docstring."""
    vae = BetaVAE(image_size=32, channels=3, latent_dim=10)
    x = jax.random.uniform(jax.random.key(0), (64, 3), minval=-1, maxval=1)  # 64 images of one colour each
    x = jnp.broadcast_to(x[:, None, None], (64, 32, 32, 3))
    params = jax.jit(vae.init)(jax.random.key(1), x)
    mean, _ = jax.jit(functools.partial(vae.apply, method="encode"))(params, x)
    assert jnp.median(mean.std(axis=0)) > 0.2  # .001 with PyTorch's default initialisation
    z = jax.random.normal(jax.random.key(2), (64, 10))
    assert jax.jit(functools.partial(vae.apply, method="decode"))(params, z).std(axis=0).mean() > 0.3


@pytest.mark.parametrize(
    ("size", "stages"), [(4, 1), (8, 2), (16, 3), (24, 3), (32, 4), (48, 4), (64, 4), (96, 5), (128, 5), (256, 6)]
)
def test_stages_halve_to_2_or_4_pixels(size, stages):
    assert num_stages(size) == stages
    assert size % 2**stages == 0
    assert 2 <= size // 2**stages <= 4


def test_the_standard_network_of_64_pixels_layer_by_layer():
    vae = BetaVAE(image_size=64, channels=3, latent_dim=10)
    shapes = jax.eval_shape(vae.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"]
    counts = {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in shapes.items()}
    assert counts == {  # weights + biases of 4x4 convolutions and dense layers
        "encoder_convs_0": 16 * 3 * 32 + 32,
        "encoder_convs_1": 16 * 32 * 32 + 32,
        "encoder_convs_2": 16 * 32 * 64 + 64,
        "encoder_convs_3": 16 * 64 * 64 + 64,
        "encoder_hidden": 1024 * 256 + 256,
        "posterior": 256 * 20 + 20,
        "decoder_hidden": 10 * 256 + 256,
        "decoder_features": 256 * 1024 + 1024,
        "decoder_convs_0": 16 * 64 * 64 + 64,
        "decoder_convs_1": 16 * 64 * 32 + 32,
        "decoder_convs_2": 16 * 32 * 32 + 32,
        "decoder_convs_3": 16 * 32 * 3 + 3,
    }


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (16, 3), (24, 3), (32, 3), (128, 1)])
def test_shapes_and_float32_results(size, channels):
    vae = BetaVAE(size, channels, latent_dim=4, base_channels=4, hidden_dim=8, dtype=jnp.bfloat16)

    def run(x):
        params = vae.init(jax.random.key(1), x)
        mean, log_var = vae.apply(params, x, method="encode")
        return params, mean, log_var, vae.apply(params, mean, method="decode")

    x = jax.ShapeDtypeStruct((2, size, size, channels), jnp.float32)
    params, mean, log_var, decoded = jax.eval_shape(run, x)
    assert mean.shape == log_var.shape == (2, 4)
    assert decoded.shape == x.shape
    assert {mean.dtype, log_var.dtype, decoded.dtype} == {jnp.dtype(jnp.float32)}
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}


def test_bfloat16_stays_close_to_float32():
    x = jax.random.uniform(jax.random.key(0), (4, 16, 16, 3), minval=-1, maxval=1)
    exact, rounded = (BetaVAE(16, 3, 4, 8, 16, dtype) for dtype in (jnp.float32, jnp.bfloat16))
    params = jax.jit(exact.init)(jax.random.key(1), x)
    expected, actual = jax.jit(exact.apply)(params, x), jax.jit(rounded.apply)(params, x)
    assert 0 < jnp.abs(actual - expected).max() < 0.02


def test_raw_output_may_leave_the_image_range():
    """The output is logits or means, without an activation function."""
    vae = BetaVAE(16, 3, 4, 8, 16)
    params = jax.jit(vae.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    shifted = jax.tree.map(lambda leaf: leaf, params)
    shifted["params"]["decoder_convs_2"]["bias"] = jnp.array([-30.0, 0.0, 30.0])
    out = jax.jit(functools.partial(vae.apply, method="decode"))(shifted, jnp.zeros((1, 4)))
    assert out[..., 0].max() < -25
    assert out[..., 2].min() > 25
