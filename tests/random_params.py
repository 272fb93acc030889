"""Random parameters of realistic size, none at zero. NumPy draws them: compiling the draws in JAX takes a minute."""

import jax
import numpy as np

from cldis_jax import api
from cldis_jax.method import train_step


def draw(shapes, seed=0):
    """Random arrays for the leaves of a tree: kernels scaled by their fan-in, scales near 1, biases near 0."""
    rng = np.random.default_rng(seed)

    def leaf(path, shape):
        noise = rng.normal(size=shape.shape).astype(np.float32)
        if path[-1].key == "kernel":
            return 0.6 * noise * np.float32(np.prod(shape.shape[:-1])) ** -0.5
        return 0.05 * noise + (path[-1].key == "scale")

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def bundle(config, step=0, **moments):
    """A Bundle with random parameters and the given `moments` of z_sem and z_disen."""
    functions = api.make_functions(config)
    shapes = jax.eval_shape(lambda: train_step.create_state(functions.networks, config).ema)
    zeros = train_step.Moments.zeros(config.model.latent_dim)
    ema = shapes.replace(params=draw(shapes.params), **({"z_sem": zeros, "z_disen": zeros} | moments))
    return api.Bundle(functions, jax.device_put(ema), step)
