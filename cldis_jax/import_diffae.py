r"""Published Diff-AE weights as a workdir that every command here reads, and that training can start from.

    python -m cldis_jax.import_diffae --checkpoint=last.ckpt --config=configs/diffae_ffhq256.py --workdir=runs/ffhq256

Reads a Lightning checkpoint of the reference implementation (PyTorch is needed only for that). Every key of the file is
used, or named as unused in WORKDIR/import_diffae.json.

Then train the closed loop from it. The published z_sem has 512 numbers, and so must that of the closed loop:
configs/celeba.py fits celeba64, configs/{ffhq,horse,bedroom}128.py the three of 128 pixels; for ffhq256 it is
configs/diffae_ffhq256.py itself with the VAE and the distillation switched on.

    python -m cldis_jax.main --config=configs/ffhq128.py --config.model.latent_dim=512 --config.data.path=IMAGES \
        --config.init_from=runs/ffhq128 --workdir=runs/closed_loop
    python -m cldis_jax.main --config=configs/diffae_ffhq256.py --config.data.path=IMAGES --config.vae.weight=1 \
        --config.distillation.weight=1e-3 --config.train.clip_scope=branch --config.init_from=runs/ffhq256 \
        --workdir=runs/closed_loop_256

Commands on the imported workdir that need images (navigate, latent_prior, evaluate) take them from --data_path or
--data_dir.
"""

import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from cldis_jax import cli, models
from cldis_jax.config import validate
from cldis_jax.diffae_import import weights
from cldis_jax.method import train_step
from cldis_jax.prior import method as prior_method
from cldis_jax.prior import store as prior_store
from cldis_jax.runtime import checkpoint, report, torch_files

CONFIG = cli.define_config()
WORKDIR = cli.define_workdir()
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "the Lightning checkpoint, e.g. last.ckpt")
LATENTS = flags.DEFINE_string("latents", None, "the reference's latent.pkl, for the mean and deviation of z_sem")
NET = flags.DEFINE_enum("net", "ema_model", ["ema_model", "model"], "which copy of the net in the checkpoint")


def autoencoder(config: ConfigDict, weights: Mapping[str, np.ndarray]) -> weights.Imported:
    """U-Net and semantic encoder of a net's state dict; raises WeightsError where it is of another architecture."""
    networks = models.make_networks(config)
    shapes = jax.eval_shape(lambda: models.init_params(networks, config, jax.random.key(0)))
    layers = weights.autoencoder_layers(config)
    return weights.convert(weights, layers, shapes, owned=weights.AUTOENCODER)


def latent_net(latent_dim: int, weights: Mapping[str, np.ndarray]) -> tuple[ConfigDict, weights.Imported] | None:
    """(config, parameters) of the latent prior in a net's state dict; None where it has none."""
    prefix = f"{weights.LATENT_NET}layers."
    indices = {int(key.removeprefix(prefix).split(".")[0]) for key in weights if key.startswith(prefix)}
    if not indices:
        return None
    config = prior_method.default_config(latent_dim)
    config.model.num_layers = max(indices) + 1
    for field, key in (("hidden_dim", f"{prefix}0.linear.bias"), ("embed_dim", "latent_net.time_embed.2.bias")):
        if key not in weights:
            raise weights.WeightsError(f"the checkpoint has a latent net without {key}")
        config.model[field] = len(weights[key])
    shapes = jax.eval_shape(lambda: prior_method.init_params(config))
    return config, weights.convert(weights, weights.latent_layers(max(indices) + 1), shapes, owned=())


def moments_of(mean: np.ndarray, std: np.ndarray) -> train_step.Moments:
    """Moments with a given mean and standard deviation [d]."""
    mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    second = np.square(std) + np.square(mean)
    return train_step.Moments(weight=jnp.ones(()), first=jnp.float32(mean), second=jnp.float32(second))


def check_config(config: ConfigDict) -> None:
    """Raise ValueError where a config is not that of a reference Diff-AE."""
    validate(config)
    wanted = {
        "vae.weight": 0,
        "diffusion.prediction": "eps",
        "model.conditioning": "adagn",
        "model.patch_size": 1,
        "model.narrow_groups": False,
    }
    for name, value in wanted.items():
        section, field = name.split(".")
        if config[section][field] != value:
            raise ValueError(f"{name}={config[section][field]!r}: the reference's Diff-AE has {name}={value!r}")
    if config.diffusion.weight == 0:
        raise ValueError("diffusion.weight=0: there would be no Diff-AE to import")


def check_workdir(workdir: str) -> None:
    """Raise ValueError where a workdir already holds something."""
    if os.path.exists(workdir) and not (os.path.isdir(workdir) and not os.listdir(workdir)):
        raise ValueError(f"--workdir={workdir} is not an empty folder; choose a new one, nothing was written")


def net_of(state_dict: Mapping[str, Any], net: str) -> dict[str, np.ndarray]:
    """The arrays of one copy of the net, the prefix taken off."""
    arrays = {key: value for key, value in state_dict.items() if isinstance(value, np.ndarray)}
    weights = {key.removeprefix(f"{net}."): value for key, value in arrays.items() if key.startswith(f"{net}.")}
    if not weights:
        prefixes = sorted({key.split(".")[0] for key in arrays})[:8]
        raise ValueError(
            f"the checkpoint has no keys under {net}.; they begin with: {', '.join(prefixes) or 'nothing'}"
        )
    return weights


def code_moments(
    state_dict: Mapping[str, Any], latents: Mapping[str, Any], latent_dim: int
) -> tuple[np.ndarray, np.ndarray, str]:
    """(mean, std, where from) of z_sem over the training set [d]; 0 and 1 where neither file has them."""
    for where, content in (("--latents", latents), ("the checkpoint", state_dict)):
        mean, std = content.get("conds_mean"), content.get("conds_std")
        if isinstance(mean, np.ndarray) and isinstance(std, np.ndarray):
            mean, std = mean.reshape(-1), std.reshape(-1)
            if mean.shape != (latent_dim,) or std.shape != (latent_dim,):
                raise weights.WeightsError(
                    f"conds_mean and conds_std of {where} are {mean.shape} and {std.shape}, "
                    f"model.latent_dim is {latent_dim}"
                )
            return mean, std, where
    return np.zeros(latent_dim), np.ones(latent_dim), "assumed"


def unused_keys(state_dict: Mapping[str, Any], net: str, used: set[str]) -> dict[str, str]:
    """Why each key that was not used was not."""
    other = "model" if net == "ema_model" else "ema_model"
    reasons = {}
    for key in state_dict:
        if key in used:
            continue
        if key.startswith(f"{other}."):
            reasons[key] = f"of the other copy of the net, for --net={other}"
        elif key.startswith(f"{net}.{weights.LATENT_NET}") and ".cond_layers." in key:
            reasons[key] = "repeats linear_emb"
        elif key.startswith(f"{net}.{weights.LATENT_NET}"):
            reasons[key] = "of the latent prior, which needs conds_mean and conds_std"
        elif key == "x_T":
            reasons[key] = "the fixed noise of the reference's training pictures"
        else:
            reasons[key] = "unknown to this importer"
    return reasons


def import_checkpoint(config: ConfigDict, path: str, workdir: str, net: str, latents: str | None) -> dict[str, Any]:
    """Write a workdir from a checkpoint file; returns what `import_diffae.json` holds. All checks come first."""
    check_config(config)
    check_workdir(workdir)
    content = torch_files.read(path)
    state_dict = content.get("state_dict", content)
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
        notes.append("no mean and deviation of z_sem found: 0 and 1 assumed, so shifts are in units of z itself")
        if prior is not None:
            notes.append("nor is the latent prior imported, whose samples are in those units; --latents has them")
            prior = None
    if net == "model":
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
        "used": used,
        "unused": unused_keys(state_dict, net, set(used)),
    }
    report.write_json(os.path.join(workdir, "config.json"), checkpoint.config_to_json(config))
    report.write_json(os.path.join(workdir, "import_diffae.json"), results)
    return results


def main() -> None:
    for flag in (CONFIG, WORKDIR, CHECKPOINT):
        cli.require(flag)
    results = import_checkpoint(CONFIG.value, CHECKPOINT.value, WORKDIR.value, NET.value, LATENTS.value)
    by_reason: dict[str, list[str]] = {}
    for key, reason in results["unused"].items():
        by_reason.setdefault(reason, []).append(key)
    for reason, keys in by_reason.items():
        named = ", ".join(keys) if reason.startswith("unknown") or len(keys) <= 4 else f"{keys[0]} ... {keys[-1]}"
        print(f"unused, {reason}: {named} ({len(keys)})")
    for note in results["notes"]:
        print(f"note: {note}")
    rows = [(f"parameters: {name}", f"{number:,}") for name, number in results["parameters"].items()]
    rows += [
        ("keys used / unused", f"{len(results['used'])} / {len(results['unused'])}"),
        ("mean and deviation of z_sem", results["moments_from"]),
        ("step", str(results["step"])),
    ]
    print(report.table(rows, ("imported", "value")))


if __name__ == "__main__":
    cli.run(main)
