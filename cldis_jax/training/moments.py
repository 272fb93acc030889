"""Mean and standard deviation of the codes, measured with the EMA encoders over training images."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np

from cldis_jax.api import LATENTS, Bundle
from cldis_jax.api.codes import in_batches
from cldis_jax.api.pictures import BATCH
from cldis_jax.method.train_step import Moments
from cldis_jax.models import pixels

NUM_IMAGES = 1024  # training images; enough to measure a standard deviation to about 2 %


def with_moments(bundle: Bundle, images: np.ndarray) -> Bundle:
    """`bundle` with the moments of its EMA encoders over uint8 training images [N, H, W, C].

    z_disen is the posterior mean. The moments of a branch that the model lacks stay as they are.
    """
    ema, x0 = bundle.ema, np.asarray(pixels.to_unit_range(images.astype(np.float32)))
    for latent in filter(bundle.has, LATENTS):
        z = in_batches(functools.partial(bundle.represent, latent=latent), x0, size=BATCH)
        ema = ema.replace(**{latent: _moments(z)})
    return dataclasses.replace(bundle, ema=ema)


def _moments(z: np.ndarray) -> Moments:
    z = z.astype(np.float64)
    return Moments(jnp.ones(()), jnp.float32(z.mean(0)), jnp.float32(np.square(z).mean(0)))
