"""The Inception network of the FID papers (pt_inception-2015-12-05) in Flax. The user provides the weights.

It follows the TensorFlow graph of 2015 and differs from torchvision's InceptionV3: average pools ignore their padding,
the last block uses max pooling, and batch norm has epsilon 1e-3. Structure: mseitzer/pytorch-fid, inception.py.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from cldis_jax.metrics import weights

IMAGE_SIZE = 299
NUM_FEATURES = 2048
WHERE = (
    "FID needs pt_inception-2015-12-05-6726825d.pth, from the releases of mseitzer/pytorch-fid "
    "(the same weights are weights-inception-2015-12-05-6726825d.pth in those of toshas/torch-fidelity)"
)
UNUSED = ("fc.weight", "fc.bias")  # the classifier after the features


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm with stored statistics, ReLU."""

    features: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: tuple[int, int] = (0, 0)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        padding = [(pad, pad) for pad in self.padding]
        x = nn.Conv(
            self.features,
            self.kernel,
            strides=self.stride,
            padding=padding,
            use_bias=False,
            precision=jax.lax.Precision.HIGHEST,
            name="conv",
        )(x)
        return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=1e-3, name="bn")(x))


def same(features: int, height: int, width: int, name: str) -> ConvNorm:
    """A convolution that keeps the size."""
    return ConvNorm(features, (height, width), padding=(height // 2, width // 2), name=name)


def down(features: int, name: str) -> ConvNorm:
    """A 3x3 convolution of stride 2 without padding."""
    return ConvNorm(features, (3, 3), stride=2, name=name)


def average_pool(x: jax.Array) -> jax.Array:
    return nn.avg_pool(x, (3, 3), padding=((1, 1), (1, 1)), count_include_pad=False)


def max_pool(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (3, 3), strides=(2, 2))


class BlockA(nn.Module):
    pool_features: int

    @nn.compact
    def __call__(self, x):
        five = same(64, 5, 5, "branch5x5_2")(same(48, 1, 1, "branch5x5_1")(x))
        three = same(96, 3, 3, "branch3x3dbl_2")(same(64, 1, 1, "branch3x3dbl_1")(x))
        three = same(96, 3, 3, "branch3x3dbl_3")(three)
        pool = same(self.pool_features, 1, 1, "branch_pool")(average_pool(x))
        return jnp.concatenate([same(64, 1, 1, "branch1x1")(x), five, three, pool], axis=-1)


class BlockB(nn.Module):
    @nn.compact
    def __call__(self, x):
        three = same(96, 3, 3, "branch3x3dbl_2")(same(64, 1, 1, "branch3x3dbl_1")(x))
        three = down(96, "branch3x3dbl_3")(three)
        return jnp.concatenate([down(384, "branch3x3")(x), three, max_pool(x)], axis=-1)


class BlockC(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        seven = same(self.width, 1, 7, "branch7x7_2")(same(self.width, 1, 1, "branch7x7_1")(x))
        seven = same(192, 7, 1, "branch7x7_3")(seven)
        twice = same(self.width, 7, 1, "branch7x7dbl_2")(same(self.width, 1, 1, "branch7x7dbl_1")(x))
        twice = same(self.width, 7, 1, "branch7x7dbl_4")(same(self.width, 1, 7, "branch7x7dbl_3")(twice))
        twice = same(192, 1, 7, "branch7x7dbl_5")(twice)
        pool = same(192, 1, 1, "branch_pool")(average_pool(x))
        return jnp.concatenate([same(192, 1, 1, "branch1x1")(x), seven, twice, pool], axis=-1)


class BlockD(nn.Module):
    @nn.compact
    def __call__(self, x):
        three = down(320, "branch3x3_2")(same(192, 1, 1, "branch3x3_1")(x))
        seven = same(192, 1, 7, "branch7x7x3_2")(same(192, 1, 1, "branch7x7x3_1")(x))
        seven = down(192, "branch7x7x3_4")(same(192, 7, 1, "branch7x7x3_3")(seven))
        return jnp.concatenate([three, seven, max_pool(x)], axis=-1)


class BlockE(nn.Module):
    pool_by_maximum: bool

    @nn.compact
    def __call__(self, x):
        three = same(384, 1, 1, "branch3x3_1")(x)
        three = [same(384, 1, 3, "branch3x3_2a")(three), same(384, 3, 1, "branch3x3_2b")(three)]
        twice = same(384, 3, 3, "branch3x3dbl_2")(same(448, 1, 1, "branch3x3dbl_1")(x))
        twice = [same(384, 1, 3, "branch3x3dbl_3a")(twice), same(384, 3, 1, "branch3x3dbl_3b")(twice)]
        pool = nn.max_pool(x, (3, 3), padding=((1, 1), (1, 1))) if self.pool_by_maximum else average_pool(x)
        pool = same(192, 1, 1, "branch_pool")(pool)
        return jnp.concatenate([same(320, 1, 1, "branch1x1")(x), *three, *twice, pool], axis=-1)


class InceptionV3(nn.Module):
    """Images [B, 299, 299, 3] in [-1, 1] to the 2048 pooled features that FID compares, [B, 2048]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = ConvNorm(32, (3, 3), stride=2, name="Conv2d_1a_3x3")(x)
        x = ConvNorm(32, (3, 3), name="Conv2d_2a_3x3")(x)
        x = max_pool(same(64, 3, 3, "Conv2d_2b_3x3")(x))
        x = ConvNorm(80, (1, 1), name="Conv2d_3b_1x1")(x)
        x = max_pool(ConvNorm(192, (3, 3), name="Conv2d_4a_3x3")(x))
        for name, pool_features in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = BlockA(pool_features, name=name)(x)
        x = BlockB(name="Mixed_6a")(x)
        for name, width in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
            x = BlockC(width, name=name)(x)
        x = BlockD(name="Mixed_7a")(x)
        x = BlockE(False, name="Mixed_7b")(x)
        x = BlockE(True, name="Mixed_7c")(x)
        return x.mean(axis=(1, 2))


def convert(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Flax variables from a state dict (arrays by name) of pytorch-fid's network.

    The classifier (fc) and the batch norms' `num_batches_tracked` are not used.

    Raises:
      ValueError: entries are missing, unknown or of another shape; the message names them.
    """
    image = jax.ShapeDtypeStruct((1, IMAGE_SIZE, IMAGE_SIZE, 3), jnp.float32)
    shapes = jax.eval_shape(InceptionV3().init, jax.random.key(0), image)
    names = {
        ("params", "conv", "kernel"): "conv.weight",
        ("params", "bn", "scale"): "bn.weight",
        ("params", "bn", "bias"): "bn.bias",
        ("batch_stats", "bn", "mean"): "bn.running_mean",
        ("batch_stats", "bn", "var"): "bn.running_var",
    }
    wanted = {
        path: (".".join((*path[1:-2], names[path[0], *path[-2:]])), leaf.shape)
        for path, leaf in flax.traverse_util.flatten_dict(shapes).items()
    }
    state_dict = {name: value for name, value in state_dict.items() if not name.endswith("num_batches_tracked")}
    return flax.traverse_util.unflatten_dict(weights.convert(state_dict, wanted, UNUSED, "Inception weights"))


def load_weights(path: str | pathlib.Path) -> dict[str, Any]:
    """Flax variables from a file of the FID papers' network: .pth (needs PyTorch), or .npz with the same names.

    Raises:
      FileNotFoundError: there is no such file; the message says where to find it.
      ValueError: the file has another format or is of another network.
    """
    return convert(weights.read(path, WHERE))
