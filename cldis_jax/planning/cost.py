"""What a config costs, from shapes alone: elements, bytes, FLOPs."""

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cldis_jax import models
from cldis_jax.method import baselines, feedback


def count(tree: Any) -> int:
    """Number of elements of a tree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def num_bytes(tree: Any) -> int:
    """Bytes of a tree of arrays or shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def training_flops_per_image(config: ConfigDict) -> float:
    """FLOPs of one training step an image (two for a multiply-add), as XLA counts the unoptimised program.

    The difference of two batch sizes, so that what a step does once (the update, the probe of z) drops out.

    Raises:
      ValueError: JAX may not use its CPU backend, which counts.
    """
    networks = models.make_networks(config)
    params = jax.eval_shape(lambda: models.init_params(networks, config, jax.random.key(0)))
    config = config.copy_and_resolve_references()
    config.feedback.probe_size = 2

    def flops(batch_size: int) -> float:
        shape = (batch_size, config.data.image_size, config.data.image_size, config.data.channels)
        gradient = jax.grad(baselines.objective(config), has_aux=True)
        lowered = jax.jit(lambda p, x, s, k: gradient(p, networks, config, x, feedback.initial_feedback(config), s, k))
        arguments = (
            params,
            jax.ShapeDtypeStruct(shape, jnp.float32),
            jax.ShapeDtypeStruct((), jnp.int32),
            jax.eval_shape(lambda: jax.random.key(0)),
        )
        return lowered.lower(*arguments).cost_analysis()["flops"]

    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise ValueError(f"FLOPs are counted on the CPU: let JAX_PLATFORMS name cpu, too ({error})") from error
    with jax.default_device(cpu):  # accelerators' clients count nothing
        return (flops(4) - flops(2)) / 2
