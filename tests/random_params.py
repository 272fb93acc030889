"""Parameters as large as training leaves them, none at zero; by NumPy, for compiling a draw for each takes a minute."""

import jax
import numpy as np

from cldis_jax import api
from cldis_jax.method import train_step


def draw(shapes, seed=0):
    """Random arrays in place of a tree's leaves: kernels by their fan-in, scales near one, biases near zero."""
    rng = np.random.default_rng(seed)

    def leaf(path, shape):
        noise = rng.normal(size=shape.shape).astype(np.float32)
        if path[-1].key == "kernel":
            return 0.6 * noise * np.float32(np.prod(shape.shape[:-1])) ** -0.5
        return 0.05 * noise + (path[-1].key == "scale")

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def bundle(config, step=0, **moments):
    """A Bundle of random parameters; `moments` of z_sem and z_disen where they matter."""
    functions = api.make_functions(config)
    shapes = jax.eval_shape(lambda: train_step.create_state(functions.networks, config).ema)
    zeros = train_step.Moments.zeros(config.model.latent_dim)
    ema = shapes.replace(params=draw(shapes.params), **({"z_sem": zeros, "z_disen": zeros} | moments))
    return api.Bundle(functions, jax.device_put(ema), step)
