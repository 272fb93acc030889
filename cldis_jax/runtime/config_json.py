"""A config as JSON: stored beside every model, compared when a run resumes, and readable by later versions."""

import copy
import json
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from cldis_jax.runtime.errors import UserError

# Fields, or sections, that a resumed run may change: they set how long, where and how often, not what is computed.
FREE_FIELDS = (
    "preset",
    "profile_steps",
    "train.steps",  # unless train.decay_share is above 0: see `differing_fields`
    "train.log_every",
    "train.picture_every",
    "train.num_pictures",
    "train.wandb",
    "checkpoint",
    "sharding",
    "data.path",
    "data.cache",
    "data.data_dir",
    "data.threads",
    "data.prefetch",
)
# Fields of earlier versions that no longer exist -> the value at which they had no effect, the last commit with them.
RETIRED: dict[str, tuple[Any, str]] = {
    "vae.warmup_steps": (0, "5a9559b"),
    "vae.likelihood": ("bernoulli", "f791804"),
    "vae.gaussian_std": (0.5, "f791804"),
    "model.num_heads": (1, "f791804"),
    "model.encoder_head": ("mean", "1918b29"),
}
# Fields that earlier versions did not have -> the value at which a run is computed as it was then, or a function that
# gives it from the stored values.
ADDED: dict[str, Any] = {
    "data.split": "",
    "data.cache": "auto",
    "data.holdout_split": "",
    "data.holdout_pairs": "",
    "diffusion.skip_std": 0.1,
    "independence.form": "cosines",
    "distillation.listen_weight": lambda values: _weight_while_listening(**values["distillation"]),
    "model.cross_attention_side": lambda values: _side_with_cross_attention(**values["model"]),
    "model.encoder": "unet",
    "train.decay_share": 0.0,
    "train.wandb": "",
}
# Sections that earlier versions did not have, with the values at which a run is computed as it was then.
ADDED_SECTIONS: dict[str, dict[str, Any]] = {"independence": {"weight": 0.0, "form": "cosines"}}


def config_to_json(config: ConfigDict) -> dict[str, Any]:
    """The config as plain JSON values."""
    return json.loads(config.to_json())


def config_from_json(values: dict[str, Any]) -> ConfigDict:
    """The inverse of `config_to_json`: lists become tuples again."""

    def restore(value):
        if isinstance(value, dict):
            return {k: restore(v) for k, v in value.items()}
        return tuple(value) if isinstance(value, list) else value

    return ConfigDict(restore(values))


def flatten(config: ConfigDict | dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every field of a config, or of its JSON, by its dotted name."""
    flat = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if hasattr(value, "items") else {prefix + key: value}
    return flat


def is_free(name: str) -> bool:
    """Whether a resumed run may change the field."""
    return f"{name}.".startswith(tuple(f"{field}." for field in FREE_FIELDS))


def upgrade(values: dict[str, Any]) -> dict[str, Any]:
    """A copy of a stored config's JSON, from any version, with the fields that this version has.

    Raises:
      UserError: an option that no longer exists was in use.
    """
    values = copy.deepcopy(values)
    for name, (neutral, commit) in RETIRED.items():
        section, field = _place(values, name)
        value = section.pop(field, neutral)
        without_diffusion = values.get("diffusion", {}).get("weight") == 0  # then there is no E_sem and no U-Net
        if value != neutral and not (without_diffusion and name.startswith("model.")):
            raise UserError(
                f"the stored config has {name}={value!r}, an option that this version no longer has; "
                f"commit {commit} of cldis_jax still reads it"
            )
    if "distillation" in values:  # the config of a training
        values = copy.deepcopy(ADDED_SECTIONS) | values
    for name, value in ADDED.items():
        section, field = _place(values, name)
        if section:
            section.setdefault(field, value(values) if callable(value) else value)
    return values


def _weight_while_listening(weight: float = 1e-3, listen_steps: int = 0, **_: Any) -> float:
    """Once there was one weight of L_dt. Where it does not matter: the default of today."""
    return weight if listen_steps > 0 and weight > 0 else 1e-3


def _side_with_cross_attention(conditioning: str = "adagn", attention_resolutions: Sequence[int] = (), **_: Any) -> int:
    """Once cross-attention was where self-attention was. Without cross-attention: the default of today."""
    return max(attention_resolutions, default=0) if conditioning == "cross_attention" else 16


def _place(values: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    """(section, field) of a dotted name; an empty section if there is none."""
    *sections, field = name.split(".")
    for section in sections:
        values = values.get(section, {})
    return values, field


def differing_fields(saved: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """One line for each field in which a saved config differs from the one asked for, without free fields.

    Either may be of an earlier version.

    Raises:
      UserError: see `upgrade`.
    """
    saved, asked = flatten(upgrade(saved)), flatten(upgrade(asked))
    decays = asked.get("train.decay_share", 0) > 0  # then the rate of each step depends on the number of steps
    return [
        f"{name}: {saved.get(name, '(absent)')!r} in the workdir, {asked.get(name, '(absent)')!r} asked for"
        for name in sorted(saved.keys() | asked.keys())
        if saved.get(name) != asked.get(name) and (not is_free(name) or (decays and name == "train.steps"))
    ]
