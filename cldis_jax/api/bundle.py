"""A trained model: its networks as jitted functions, and its parameters."""

import dataclasses
import functools
import os

import jax
import numpy as np
from ml_collections import ConfigDict

from cldis_jax import models
from cldis_jax.method import diffusion, train_step, vae_loss
from cldis_jax.method.prediction import Prediction, prediction_of
from cldis_jax.runtime import checkpoint
from cldis_jax.runtime.errors import UserError

LATENTS = ("z_sem", "z_disen")
TABLE_LENGTHS = (32, 128, 256)  # rows of DDIM tables: an inactive row is cheap, a new length compiles anew


@dataclasses.dataclass(frozen=True)
class Functions:
    """The jitted functions of one architecture. Parameters are arguments, so all checkpoints run the same programs."""

    config: ConfigDict
    networks: models.Networks

    @functools.cached_property
    def schedule(self) -> diffusion.Schedule:
        return diffusion.schedule_of(self.config)

    @functools.cached_property
    def prediction(self) -> Prediction:
        return prediction_of(self.config)

    @functools.cached_property
    def encode(self):
        return jax.jit(self.networks.encode_semantic)

    @functools.cached_property
    def encode_posterior(self):
        return jax.jit(self.networks.encode_posterior)

    @functools.cached_property
    def decode_vae(self):
        def decode(params, z):
            return vae_loss.decoder_mean(self.networks.decode_vae(params, z))

        return jax.jit(decode)

    def output(self, params, x_t: jax.Array, t: jax.Array, z: jax.Array) -> jax.Array:
        """The output of the U-Net; see `prediction`."""
        return self.networks.denoiser(params, z)(x_t, t)

    @functools.cached_property
    def denoising_error(self):
        """(params, x0, z, key) -> L_diff of each image [B], at random t and eps."""

        def error(params, x0, z, key):
            noised = diffusion.forward_process(self.schedule, x0, *jax.random.split(key))
            denoise = self.networks.denoiser(params, z)
            return diffusion.squared_error(denoise, self.prediction, noised).mean(axis=(1, 2, 3))

        return jax.jit(error)

    @functools.cached_property
    def predict(self):
        def predict(params, x_t, t, z):
            signal, noise = (
                diffusion.per_sample(table, t, x_t.ndim) for table in (self.schedule.signal, self.schedule.noise)
            )
            output = self.output(params, x_t, t, z)
            return self.prediction.eps(output, x_t, signal, noise)

        return jax.jit(predict)

    def _ddim(self, chain):
        def run(params, tables, x, z):
            return chain(lambda x_t, t: self.output(params, x_t, t, z), self.prediction, tables, x)

        return jax.jit(run)

    @functools.cached_property
    def ddim_decode(self):
        return self._ddim(diffusion.ddim_decode)

    @functools.cached_property
    def ddim_encode(self):
        return self._ddim(diffusion.ddim_encode)

    def tables(self, num_steps: int) -> diffusion.DDIMTables:
        """DDIM tables padded to one of a few lengths, so that few programs run every number of steps.

        Raises:
          UserError: a number of steps out of range.
        """
        total = self.schedule.num_steps
        if not 1 <= num_steps <= total:
            raise UserError(f"DDIM needs between 1 and {total} steps, got {num_steps}")
        length = next((length for length in TABLE_LENGTHS if num_steps <= length < total), total)
        return diffusion.ddim_tables(self.schedule, num_steps, length=length)


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A model with its parameters: images are [B, H, W, C] float32 in [-1, 1], codes [B, d] float32."""

    functions: Functions
    ema: train_step.Averages
    step: int
    workdir: str = ""  # where the model was loaded from
    trained_on: dict[str, int | str] = dataclasses.field(default_factory=dict)  # what is known of it; `data.identity`

    def at(self, step: int | None) -> "Bundle":
        """Another checkpoint of the same workdir (None: the newest one), with the same compiled functions.

        Raises:
          checkpoint.CheckpointError: it is absent, or can't be read.
        """
        with checkpoint.reader(self.workdir) as checkpoints:
            ema, step = checkpoints.restore_ema(abstract_averages(self.config), step)
            trained_on = checkpoints.data(step)
        return dataclasses.replace(self, ema=ema, step=step, trained_on=trained_on)

    @property
    def config(self) -> ConfigDict:
        return self.functions.config

    @property
    def image_shape(self) -> tuple[int, int, int]:
        data = self.config.data
        return data.image_size, data.image_size, data.channels

    @property
    def z_mean(self) -> np.ndarray:
        """Mean of the main latent over the training data [d]."""
        return np.asarray(self.moments(self.main_latent).mean)

    @property
    def z_std(self) -> np.ndarray:
        """Standard deviation of the main latent over the training data [d]."""
        return np.asarray(self.moments(self.main_latent).std)

    @property
    def has_diffusion(self) -> bool:
        return self.functions.networks.unet is not None

    @property
    def has_vae(self) -> bool:
        return self.functions.networks.beta_vae is not None

    @property
    def main_latent(self) -> str:
        """z_sem, or z_disen where there is no Diff-AE."""
        return "z_sem" if self.has_diffusion else "z_disen"

    def has(self, latent: str) -> bool:
        """Whether the model has the branch of z_sem or of z_disen."""
        return {"z_sem": self.has_diffusion, "z_disen": self.has_vae}[latent]

    def moments(self, latent: str) -> train_step.Moments:
        return {"z_sem": self.ema.z_sem, "z_disen": self.ema.z_disen}[latent]

    def encode(self, images: jax.Array) -> jax.Array:
        """z_sem of images."""
        self._require(self.has_diffusion, "z_sem", "diffusion.weight")
        return self.functions.encode(self.ema.params, images)

    def encode_posterior(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(mean, log variance) of q_phi(z|x), each [B, d]."""
        self._require(self.has_vae, "z_disen", "vae.weight")
        return self.functions.encode_posterior(self.ema.params, images)

    def represent(self, images: jax.Array, latent: str) -> jax.Array:
        """The representation that metrics score: z_sem, or the posterior mean for z_disen."""
        return self.encode(images) if latent == "z_sem" else self.encode_posterior(images)[0]

    def decode_vae(self, z: jax.Array) -> jax.Array:
        """The VAE decoder's mean image."""
        self._require(self.has_vae, "the VAE's decoder", "vae.weight")
        return self.functions.decode_vae(self.ema.params, z)

    def encode_noise(self, images: jax.Array, z: jax.Array, num_steps: int) -> jax.Array:
        """x_T of images by deterministic DDIM run backwards, conditioned on z [Diff-AE, eq. 8]."""
        self._require(self.has_diffusion, "x_T", "diffusion.weight")
        return self.functions.ddim_encode(self.ema.params, self.functions.tables(num_steps), images, z)

    def decode(self, x_T: jax.Array, z: jax.Array, num_steps: int) -> jax.Array:
        """Images from the stochastic code x_T [B, H, W, C] and z by DDIM."""
        self._require(self.has_diffusion, "the DDIM decoder", "diffusion.weight")
        return self.functions.ddim_decode(self.ema.params, self.functions.tables(num_steps), x_T, z)

    def predict(self, x_t: jax.Array, t: jax.Array, z: jax.Array) -> jax.Array:
        """The denoiser's eps at x_t, integer t [B] and z, whatever the network itself predicts."""
        self._require(self.has_diffusion, "the denoiser", "diffusion.weight")
        return self.functions.predict(self.ema.params, x_t, t, z)

    def _require(self, present: bool, what: str, field: str) -> None:
        if not present:
            raise UserError(f"this model has no {what}: it was trained with {field}=0")


def make_functions(config: ConfigDict) -> Functions:
    return Functions(config, models.make_networks(config, models.compute_dtype(config)))


def abstract_averages(config: ConfigDict) -> train_step.Averages:
    """Shapes of what evaluation reads from a checkpoint, on one local device."""
    networks = models.make_networks(config)
    shapes = jax.eval_shape(lambda: train_step.create_state(networks, config)).ema
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=device), shapes)


def load(workdir: str, step: int | None = None, *, data_path: str | None = None, data_dir: str | None = None) -> Bundle:
    """The newest (or given) checkpoint's moving-average model of a workdir, or the model of an exported folder.

    Args:
      data_path, data_dir: where the data are now; they replace the fields of the config. Nothing is read here.

    Raises:
      checkpoint.CheckpointError: there is none.
    """
    workdir = os.path.expanduser(workdir)
    with checkpoint.reader(workdir) as checkpoints:
        config = checkpoints.config(step)
        for field, value in (("path", data_path), ("data_dir", data_dir)):
            if value is not None:
                config.data[field] = value
        ema, step = checkpoints.restore_ema(abstract_averages(config), step)
        trained_on = checkpoints.data(step)
    return Bundle(make_functions(config), ema, step, str(workdir), trained_on)
