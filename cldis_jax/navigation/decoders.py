"""The decoders of a search, differentiable in z."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cldis_jax import api
from cldis_jax.method import diffusion
from cldis_jax.runtime.errors import UserError

# XLA:CPU runs the gradients of convolutions inside loops about 25 times slower (github.com/jax-ml/jax/issues/12868).
UNROLLED_STEPS = 8  # the most DDIM steps that are unrolled on a CPU


def latent_of(config: ConfigDict) -> str:
    """The latent whose directions are searched: the one that the decoder reads."""
    return "z_disen" if config.decoder == "vae" else "z_sem"


def check_devices(config: ConfigDict, num_devices: int) -> None:
    """Raise UserError if a batch can't be split over the devices."""
    if config.data.batch_size % num_devices:
        raise UserError(f"--batch_size={config.data.batch_size} is not divisible by the {num_devices} devices")


def check_decoder(config: ConfigDict, bundle: api.Bundle) -> None:
    """Raise UserError if the model lacks the decoder, or the decoder can't use the settings."""
    if config.decoder == "vae" and not bundle.has_vae:
        raise UserError("decoder=vae: this model has no VAE, it was trained with vae.weight=0; use ddim or x0")
    if config.decoder != "vae" and not bundle.has_diffusion:
        raise UserError(f"decoder={config.decoder}: this model is a VAE alone, diffusion.weight=0; use decoder=vae")
    total = bundle.config.diffusion.num_steps
    if config.decoder == "x0" and not 0 <= config.noise_level < total:
        raise UserError(f"noise_level={config.noise_level} is not a timestep in 0..{total - 1}")
    if config.decoder == "ddim" and config.decode_steps > total:
        raise UserError(f"decode_steps={config.decode_steps} is more than the {total} steps of the diffusion")


def make_decoder(config: ConfigDict, functions: api.Functions) -> Callable[[Any, jax.Array, jax.Array], jax.Array]:
    """`decode(params, z, x_T)` -> images, differentiable in z: few-step DDIM, one prediction of x_0, or the VAE's."""
    prediction, schedule = functions.prediction, functions.schedule

    def ddim(params, z, x_T):
        tables = diffusion.ddim_tables(schedule, config.decode_steps)
        unroll = jax.default_backend() == "cpu" and config.decode_steps <= UNROLLED_STEPS
        return diffusion.ddim_decode(
            functions.networks.denoiser(params, z), prediction, tables, x_T, remat=True, unroll=unroll
        )

    def x0(params, z, x_T):
        t = config.noise_level
        output = functions.output(params, x_T, jnp.full(x_T.shape[:1], t), z)
        return prediction.x0(output, x_T, schedule.signal[t], schedule.noise[t])

    def vae(params, z, x_T):
        return functions.decode_vae(params, z)

    return {"ddim": ddim, "x0": x0, "vae": vae}[config.decoder]
