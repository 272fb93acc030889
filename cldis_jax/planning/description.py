"""The size and cost of a config before it runs, and its differences from its preset."""

import functools
from typing import Any

import jax
from ml_collections import ConfigDict

from cldis_jax import data, models
from cldis_jax.config import validate
from cldis_jax.configs import closed_loop
from cldis_jax.method import train_step
from cldis_jax.planning import cost
from cldis_jax.runtime import report
from cldis_jax.runtime.config_json import flatten
from cldis_jax.runtime.errors import UserError

NETWORKS = ("unet", "semantic_encoder", "beta_vae")


def describe(config: ConfigDict, num_devices: int) -> dict[str, Any]:
    """Parameters by network, FLOPs an image, bytes of the state, batch, steps and epochs.

    Raises:
      ConfigError: the config can't be run.
      UserError: the devices do not divide the batch.
    """
    validate(config)
    if config.data.batch_size % (num_devices * config.train.accumulate):
        raise UserError(f"data.batch_size={config.data.batch_size} is not divisible by {num_devices} devices")
    networks = models.make_networks(config)
    state = jax.eval_shape(functools.partial(train_step.create_state, networks, config))
    parameters = {name: cost.count(state.params.get(name, {})) for name in NETWORKS}
    num_images = None if config.data.holdout_pairs else data.known_size(config.data)
    if num_images is not None:
        num_images -= round(num_images * config.data.holdout)
    return {
        "parameters": parameters | {"total": sum(parameters.values())},
        "flops_per_image": cost.training_flops_per_image(config, state.params),
        "state_bytes": cost.num_bytes(state),
        "global_batch": config.data.batch_size,
        "local_batch": config.data.batch_size // num_devices,
        "devices": num_devices,
        "steps": config.train.steps,
        "images_seen": config.train.steps * config.data.batch_size,
        "epochs": None if num_images is None else config.train.steps * config.data.batch_size / num_images,
    }


def table(facts: dict[str, Any]) -> str:
    """The facts of `describe` as text."""
    rows = [(f"parameters: {name}", f"{number:,}") for name, number in facts["parameters"].items()]
    rows += [
        ("training GFLOP an image", f"{facts['flops_per_image'] / 1e9:,.4g}"),
        ("state (parameters, EMA, Adam)", f"{facts['state_bytes'] / 2**20:,.1f} MiB"),
        ("batch, global / a device", f"{facts['global_batch']} / {facts['local_batch']} on {facts['devices']} devices"),
        ("steps", f"{facts['steps']:,}"),
        ("images seen", f"{facts['images_seen']:,}"),
        ("epochs", "unknown before the data is read" if facts["epochs"] is None else f"{facts['epochs']:,.2f}"),
    ]
    return report.table(rows, ("what", "value"))


def preset_of(config: ConfigDict) -> str:
    """The preset that a config names; configs of the first version name none, and `paper` is closest to them."""
    return config.get("preset", "paper")


def differences(config: ConfigDict, against: str = "", overrides: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The fields in which a config differs from a preset: `field`, `preset` and `config` (the values), and `why`.

    Args:
      against: the preset, paper or best; empty: that of `preset_of`.
      overrides: fields that the command line sets, with their values.

    Raises:
      UserError: there is no such preset.
    """
    theirs, ours = flatten(closed_loop.make(against or preset_of(config))), flatten(config)
    overrides = overrides or {}
    return [
        {"field": name, "preset": theirs.get(name), "config": value, "why": _why(name, value, overrides)}
        for name, value in ours.items()
        if value != theirs.get(name) and name != "preset"
    ]


def differences_table(rows: list[dict[str, Any]], preset: str) -> str:
    """The `differences` as text, one line a field."""
    if not rows:
        return f"no field differs from the preset {preset}"
    lines = [(row["field"], _text(row["preset"]), _text(row["config"]), row["why"]) for row in rows]
    return report.table(lines, ("field", f"preset {preset}", "this config", "why"))


def _why(name: str, value: Any, overrides: dict[str, Any]) -> str:
    if name in overrides:
        return "set on the command line"
    return closed_loop.reason(name, value) or "no reason is written down in configs/closed_loop.py"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value or '""'
    return f"{value:.4g}" if isinstance(value, float) else str(value)
