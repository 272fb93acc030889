"""From a Lightning checkpoint of the reference implementation to a workdir: networks, moments of z, prior."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from cldis_jax import models
from cldis_jax.config import validate
from cldis_jax.diffae_import.weights import (
    AUTOENCODER,
    LATENT_NET,
    Imported,
    WeightsError,
    autoencoder_layers,
    convert,
    latent_layers,
)
from cldis_jax.method import train_step
from cldis_jax.prior import method as prior_method
from cldis_jax.prior import store as prior_store
from cldis_jax.runtime import checkpoint, report, torch_files
from cldis_jax.runtime.config_json import config_to_json
from cldis_jax.runtime.errors import UserError

WRAPPERS = ("module", "_orig_mod")  # of DistributedDataParallel and torch.compile
NETS = ("ema_model", "model")  # the copies of the net in a checkpoint


def autoencoder(config: ConfigDict, weights: Mapping[str, np.ndarray]) -> Imported:
    """U-Net and semantic encoder from a net's state dict.

    Raises:
      WeightsError: the weights are of another architecture than the config.
    """
    networks = models.make_networks(config)
    shapes = jax.eval_shape(lambda: models.init_params(networks, config, jax.random.key(0)))
    return convert(weights, autoencoder_layers(config), shapes, owned=AUTOENCODER)


def latent_net(latent_dim: int, weights: Mapping[str, np.ndarray]) -> tuple[ConfigDict, Imported] | None:
    """(config, parameters) of the latent prior in a net's state dict; None if there is none."""
    prefix = f"{LATENT_NET}layers."
    indices = {int(key.removeprefix(prefix).split(".")[0]) for key in weights if key.startswith(prefix)}
    if not indices:
        return None
    config = prior_method.default_config(latent_dim)
    config.model.num_layers = max(indices) + 1
    for field, key in (("hidden_dim", f"{prefix}0.linear.bias"), ("embed_dim", "latent_net.time_embed.2.bias")):
        if key not in weights:
            raise WeightsError(f"the checkpoint has a latent net without {key}")
        config.model[field] = len(weights[key])
    shapes = jax.eval_shape(lambda: prior_method.init_params(config))
    return config, convert(weights, latent_layers(max(indices) + 1), shapes, owned=())


def moments_of(mean: np.ndarray, std: np.ndarray) -> train_step.Moments:
    """Moments with a given mean and standard deviation [d]."""
    mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    second = np.square(std) + np.square(mean)
    return train_step.Moments(weight=jnp.ones(()), first=jnp.float32(mean), second=jnp.float32(second))


def check_config(config: ConfigDict) -> None:
    """Raise UserError if the reference implementation can't have trained a Diff-AE of this config."""
    validate(config)
    wanted = {
        "vae.weight": 0,
        "diffusion.prediction": "eps",
        "model.conditioning": "adagn",
        "model.encoder": "unet",
        "model.patch_size": 1,
        "model.narrow_groups": False,
    }
    for name, value in wanted.items():
        section, field = name.split(".")
        if config[section][field] != value:
            raise UserError(f"{name}={config[section][field]!r}: the reference's Diff-AE has {name}={value!r}")
    if config.diffusion.weight == 0:
        raise UserError("diffusion.weight=0: there would be no Diff-AE to import")


def check_workdir(workdir: str) -> None:
    """Raise UserError unless the workdir is an empty folder or does not exist."""
    folder = epath.Path(workdir)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"--workdir={workdir} is not an empty folder; choose a new one, nothing was written")


def plain_names(state_dict: Mapping[str, Any], net: str) -> dict[str, str]:
    """The reference's name of each key -> the key in the file.

    Wrappers' prefixes (`module.`, `_orig_mod.`) are taken off. A net without any prefix gets that of `net`.

    Raises:
      UserError: two keys have the same name without their wrappers.
    """
    names: dict[str, str] = {}
    for key in state_dict:
        name = ".".join(part for part in str(key).split(".") if part not in WRAPPERS)
        if name in names:
            raise UserError(f"the checkpoint holds both {names[name]} and {key}, which are the same weights")
        names[name] = key
    if any(name.startswith(tuple(f"{copy}." for copy in NETS)) for name in names):
        return names
    own = (*AUTOENCODER, LATENT_NET)
    return {f"{net}.{name}" if name.startswith(own) else name: key for name, key in names.items()}


def net_of(state_dict: Mapping[str, Any], net: str) -> dict[str, np.ndarray]:
    """The arrays of one copy of the net, by their keys without the name of the copy."""
    arrays = {key: value for key, value in state_dict.items() if isinstance(value, np.ndarray)}
    weights = {key.removeprefix(f"{net}."): value for key, value in arrays.items() if key.startswith(f"{net}.")}
    if not weights:
        prefixes = sorted({key.split(".")[0] for key in arrays})
        if others := [copy for copy in NETS if copy in prefixes]:
            raise UserError(
                f"the checkpoint has no keys under {net}., only the copy {others[0]}; use --net={others[0]}"
            )
        if not prefixes:
            content = ", ".join(list(state_dict)[:8]) or "nothing else"
            raise UserError(f"the checkpoint has no keys under {net}.; it holds no arrays, but {content}")
        raise UserError(f"the checkpoint has no keys under {net}.; they begin with: {', '.join(prefixes[:8])}")
    return weights


def code_moments(
    state_dict: Mapping[str, Any], latents: Mapping[str, Any], latent_dim: int
) -> tuple[np.ndarray, np.ndarray, str]:
    """(mean [d], std [d], their origin) of z_sem over the training set; 0 and 1 if neither file has them.

    Raises:
      WeightsError: another size, values that are not finite, or deviations that are not positive.
    """
    for where, content in (("--latents", latents), ("the checkpoint", state_dict)):
        mean, std = content.get("conds_mean"), content.get("conds_std")
        if isinstance(mean, np.ndarray) and isinstance(std, np.ndarray):
            mean, std = mean.reshape(-1), std.reshape(-1)
            if mean.shape != (latent_dim,) or std.shape != (latent_dim,):
                raise WeightsError(
                    f"conds_mean and conds_std of {where} are {mean.shape} and {std.shape}, "
                    f"model.latent_dim is {latent_dim}"
                )
            for name, values in (("conds_mean", mean), ("conds_std", std)):
                if bad := np.flatnonzero(~np.isfinite(values)).tolist():
                    raise WeightsError(f"{name} of {where} is NaN or infinite in the numbers {bad} of z_sem")
            if bad := np.flatnonzero(std <= 0).tolist():
                raise WeightsError(
                    f"conds_std of {where} is not positive in the numbers {bad} of z_sem: a deviation of 0 can't be a "
                    "unit of shifts"
                )
            return mean, std, where
    return np.zeros(latent_dim), np.ones(latent_dim), "assumed"


def unused_keys(state_dict: Mapping[str, Any], net: str, used: set[str]) -> dict[str, str]:
    """The reason for each key that was not used."""
    other = "model" if net == "ema_model" else "ema_model"
    reasons = {}
    for key in state_dict:
        if key in used:
            continue
        if key.startswith(f"{other}."):
            reasons[key] = f"of the other copy of the net; --net={other} reads it"
        elif key.startswith(f"{net}.{LATENT_NET}") and ".cond_layers." in key:
            reasons[key] = "repeats linear_emb"
        elif key.startswith(f"{net}.{LATENT_NET}"):
            reasons[key] = "of the latent prior, which needs conds_mean and conds_std"
        elif key == "x_T":
            reasons[key] = "the fixed noise of the reference's training pictures"
        else:
            reasons[key] = "unknown to this importer"
    return reasons


def import_checkpoint(config: ConfigDict, path: str, workdir: str, net: str, latents: str | None) -> dict[str, Any]:
    """Write a workdir from a checkpoint file; returns the content of `import_diffae.json`.

    All checks come before anything is written.

    Args:
      net: which copy of the net, `ema_model` or `model`.
      latents: the reference's latent.pkl, or None.

    Raises:
      UserError: a config, a workdir, a file or weights that don't fit.
    """
    check_config(config)
    check_workdir(workdir)
    content = torch_files.read(path)
    found = content.get("state_dict", content)
    if not isinstance(found, Mapping):
        raise UserError(f"state_dict of {path} is no dictionary of tensors but a {type(found).__name__}")
    names = plain_names(found, net)
    state_dict = {name: found[key] for name, key in names.items()}
    weights = net_of(state_dict, net)
    imported = autoencoder(config, weights)
    prior = latent_net(config.model.latent_dim, weights)
    mean, std, moments_from = code_moments(
        state_dict, torch_files.read(latents) if latents else {}, config.model.latent_dim
    )
    step = content.get("global_step", 0)
    step = step if isinstance(step, int) else 0

    notes = []
    if moments_from == "assumed":
        notes.append("no mean and deviation of z_sem found: 0 and 1 assumed, so shifts are in units of z")
        if prior is not None:
            notes.append("the latent prior is not imported, whose samples need that deviation; give --latents")
            prior = None
    if any(str(key).startswith(AUTOENCODER) for key in found):
        notes.append("the file does not name its copy of the net: nothing says whether it is the moving average")
    elif net == "model":
        notes.append("the raw weights, not their moving average")
    zeros = train_step.Moments.zeros(config.model.latent_dim)
    averages = train_step.Averages(params=imported.params, z_sem=moments_of(mean, std), z_disen=zeros)
    with checkpoint.Checkpoints(workdir) as checkpoints:
        checkpoints.save(step, config, jax.tree.map(jnp.asarray, averages))
        checkpoints.wait()
    used = {f"{net}.{key}": leaf for key, leaf in imported.used.items()}
    if prior is not None:
        prior_config, prior_imported = prior
        prior_config.codes.model_step = step
        prior_averages = prior_method.PriorAverages(prior_imported.params, jnp.float32(mean), jnp.float32(std))
        prior_store.save(workdir, prior_config, jax.tree.map(jnp.asarray, prior_averages), step)
        used |= {f"{net}.{key}": f"latent_prior/{leaf}" for key, leaf in prior_imported.used.items()}
    if moments_from == "the checkpoint":
        used |= {name: f"z_sem's moments ({name.removeprefix('conds_')})" for name in ("conds_mean", "conds_std")}
    results = {
        "checkpoint": path,
        "net": net,
        "step": step,
        "parameters": {
            name: sum(leaf.size for leaf in jax.tree.leaves(tree))
            for name, tree in (imported.params | ({"latent_prior": prior[1].params} if prior else {})).items()
        },
        "moments_from": moments_from,
        "notes": notes,
        "used": {names[name]: leaf for name, leaf in used.items()},
        "unused": {names[name]: reason for name, reason in unused_keys(state_dict, net, set(used)).items()},
    }
    report.write_json(epath.Path(workdir) / "config.json", config_to_json(config))
    report.write_json(epath.Path(workdir) / "import_diffae.json", results)
    return results
