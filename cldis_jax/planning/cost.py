"""The cost of a config, from shapes alone: elements, bytes, FLOPs."""

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cldis_jax import models
from cldis_jax.method import baselines, feedback
from cldis_jax.models.unet import UNet
from cldis_jax.planning import flops

BATCH_SIZE = 127  # a prime that divides no size of a network


def count(tree: Any) -> int:
    """Number of elements of a tree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def num_bytes(tree: Any) -> int:
    """Bytes of a tree of arrays or shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


class _WithoutProbe:
    """A U-Net that returns zeros unless the batch is the training batch: the probe of z is slow to trace."""

    def __init__(self, unet: UNet):
        self.unet = unet

    def apply(self, variables: Any, x_t: jax.Array, *arguments: Any, **options: Any) -> jax.Array:
        if len(x_t) != BATCH_SIZE:
            return jnp.zeros_like(x_t)
        return self.unet.apply(variables, x_t, *arguments, **options)


def training_flops_per_image(config: ConfigDict, params: Any = None) -> float:
    """FLOPs of one training step an image, two for a multiply-add.

    Work that is done once a step (the optimiser, the probe of z) does not count.

    Args:
      params: parameters or their shapes, as from `models.init_params`; None: made here.
    """
    networks = models.make_networks(config)
    if params is None:
        params = jax.eval_shape(lambda: models.init_params(networks, config, jax.random.key(0)))
    config = config.copy_and_resolve_references()
    config.feedback.probe_size = 2
    traced = networks.replace(unet=networks.unet and _WithoutProbe(networks.unet))

    def gradient(params, x0, step, key):
        loss = jax.grad(baselines.objective(config), has_aux=True)
        return loss(params, traced, config, x0, feedback.initial_feedback(config), step, key)

    size, channels = config.data.image_size, config.data.channels
    images = jax.ShapeDtypeStruct((BATCH_SIZE, size, size, channels), jnp.float32)
    step = jax.ShapeDtypeStruct((), jnp.int32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return flops.per_example(gradient, BATCH_SIZE, params, images, step, key)
