"""Checks of a whole config, before any device or data is used."""

import math
import os
import re

from ml_collections import ConfigDict

from cldis_jax import models
from cldis_jax.data import SOURCES
from cldis_jax.data.images import CROPS
from cldis_jax.method import distillation, feedback, independence, prediction, vae_loss
from cldis_jax.models import semantic_encoder
from cldis_jax.runtime import wandb_log
from cldis_jax.runtime.errors import UserError

CHOICES = {
    "preset": ("paper", "best"),
    "data.source": SOURCES,
    "data.crop": CROPS,
    "data.channels": (1, 3),
    "model.encoder": semantic_encoder.KINDS,
    "diffusion.prediction": tuple(prediction.PREDICTIONS),
    "vae.capacity_form": tuple(vae_loss.CAPACITY_FORMS),
    "distillation.form": tuple(distillation.FORMS),
    "distillation.schedule": tuple(distillation.SCHEDULES),
    "independence.form": tuple(independence.FORMS),
    "feedback.mode": tuple(feedback.RULES),
    "train.clip_scope": ("branch", "global"),
    "train.precision": ("auto", "float32", "bfloat16"),
}
AT_LEAST = {
    "diffusion.weight": 0,
    "vae.weight": 0,
    "vae.beta": 0,
    "vae.beta_min": 0,
    "distillation.weight": 0,
    "independence.weight": 0,
    "distillation.listen_steps": 0,
    "distillation.listen_weight": 0,
    "feedback.swap_steps": 0,
    "feedback.lead_capacity": 0,
    "feedback.max_capacity": 0,
    "checkpoint.keep_period": 0,
    "distillation.sigma_floor": 0,
    "model.latent_dim": 1,
    "model.cross_attention_side": 0,
    "data.batch_size": 1,
    "data.image_size": 1,
    "data.threads": 1,
    "data.prefetch": 1,
    "diffusion.num_steps": 1,
    "feedback.every": 1,
    "feedback.probe_size": 2,
    "feedback.anneal_steps": 1,
    "train.steps": 1,
    "train.seed": 0,
    "train.steps_per_dispatch": 1,
    "train.accumulate": 1,
    "train.log_every": 1,
    "train.picture_every": 1,
    "train.num_pictures": 1,
    "checkpoint.every_steps": 1,
    "checkpoint.keep": 1,
}
POSITIVE = (
    "train.learning_rate",
    "train.clip_norm",
    "feedback.reference",
    "diffusion.skip_std",
    "diffusion.beta_start",  # at 0 the first step would add no noise, and I(0) would be infinite
)
IN_UNIT_INTERVAL = (
    "data.holdout",
    "model.dropout",
    "train.ema_decay",
    "train.decay_share",
    "feedback.ema_decay",
    "feedback.swap_probability",
    "diffusion.beta_start",
    "diffusion.beta_end",
)


class ConfigError(UserError):
    """A config that can't be run; the message names the field, its value and the values allowed."""


def _get(config: ConfigDict, name: str):
    for part in name.split("."):
        config = config[part]
    return config


def validate(config: ConfigDict) -> None:
    """Raise ConfigError, with one line, for the first wrong value."""
    for name, choices in CHOICES.items():
        if _get(config, name) not in choices:
            valid = ", ".join(map(str, choices))
            raise ConfigError(f"{name}={_get(config, name)!r} is not one of: {valid}")
    for name, least in AT_LEAST.items():
        value = _get(config, name)
        if not value >= least:
            raise ConfigError(f"{name}={value} must be at least {least}")
    for name in POSITIVE:
        value = _get(config, name)
        if not (value > 0 and math.isfinite(value)):
            raise ConfigError(f"{name}={value} must be positive and finite")
    for name in IN_UNIT_INTERVAL:
        value = _get(config, name)
        if not 0 <= value < 1 and not (name == "feedback.swap_probability" and value == 1):
            raise ConfigError(f"{name}={value} must be in [0, 1)")
    _validate_together(config)


def _validate_together(config: ConfigDict) -> None:
    """Check fields against each other."""
    if config.data.split and config.data.source != "folder":
        raise ConfigError(f"data.split={config.data.split!r} is for data.source=folder, not {config.data.source}")
    if config.data.cache.startswith("gs://") or os.path.isfile(os.path.expanduser(config.data.cache)):
        raise ConfigError(f"data.cache={config.data.cache!r} must be auto, empty, or a folder of this machine")
    if config.train.wandb and not wandb_log.is_installed():
        raise ConfigError(f"train.wandb={config.train.wandb!r} needs Weights & Biases: pip install 'cldis_jax[wandb]'")
    loop, diffusion_on, vae_on = config.feedback, config.diffusion.weight > 0, config.vae.weight > 0
    if not diffusion_on and not vae_on:
        raise ConfigError("diffusion.weight and vae.weight are both 0: there is nothing to train")
    if vae_on and not diffusion_on and loop.mode not in feedback.OPEN_LOOP_MODES:
        raise ConfigError(
            f"feedback.mode={loop.mode!r} needs diffusion.weight above 0; without a diffusion model use anneal or fixed"
        )
    if loop.lead_capacity > loop.max_capacity:
        raise ConfigError(
            f"feedback.lead_capacity={loop.lead_capacity} is above feedback.max_capacity={loop.max_capacity}"
        )
    if config.distillation.schedule == "adaptive" and loop.max_capacity == 0:
        raise ConfigError("distillation.schedule='adaptive' divides by feedback.max_capacity, which is 0")
    if config.distillation.weigh_units and config.distillation.form == "softmax":
        raise ConfigError("distillation.weigh_units=True needs distillation.form kl or mse: softmax mixes the units")
    if config.data.batch_size < 2 * config.train.accumulate and diffusion_on:
        raise ConfigError(
            f"data.batch_size={config.data.batch_size} gives micro-batches of fewer than 2 images; shuffling z needs 2"
        )
    if config.data.batch_size % config.train.accumulate:
        raise ConfigError(
            f"data.batch_size={config.data.batch_size} is not divisible by train.accumulate={config.train.accumulate}"
        )
    if config.train.seed >= 2**32:
        raise ConfigError(f"train.seed={config.train.seed} must be below 2**32")
    total, per_dispatch = config.train.steps, config.train.steps_per_dispatch
    if total % per_dispatch:
        raise ConfigError(f"train.steps={total} is not a multiple of train.steps_per_dispatch={per_dispatch}")
    if config.checkpoint.keep_period % per_dispatch:
        raise ConfigError(
            f"checkpoint.keep_period={config.checkpoint.keep_period} is not a multiple of "
            f"train.steps_per_dispatch={per_dispatch}: no checkpoint would fall on it"
        )
    if not 1 <= config.diffusion.decode_steps <= config.diffusion.num_steps:
        raise ConfigError(
            f"diffusion.decode_steps={config.diffusion.decode_steps} must be between 1 and "
            f"diffusion.num_steps={config.diffusion.num_steps}"
        )
    if config.profile_steps:
        match = re.fullmatch(r"(\d+)-(\d+)", config.profile_steps)
        if not match or not 0 < int(match[1]) < int(match[2]) <= total or int(match[1]) % per_dispatch:
            raise ConfigError(
                f'profile_steps={config.profile_steps!r} is not "start-stop" with 0 < start < stop <= {total} '
                f"(train.steps), start a multiple of {per_dispatch} (train.steps_per_dispatch)"
            )
    if not config.diffusion.beta_start <= config.diffusion.beta_end:
        raise ConfigError(
            f"diffusion.beta_start={config.diffusion.beta_start} is above "
            f"diffusion.beta_end={config.diffusion.beta_end}"
        )
    try:
        models.validate(config)
    except ValueError as error:
        raise ConfigError(str(error)) from None
