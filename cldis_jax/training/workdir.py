"""A workdir besides its checkpoints: its config, the model that it starts from, its results."""

from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from cldis_jax import api
from cldis_jax.config import ConfigError
from cldis_jax.method import train_step
from cldis_jax.runtime import checkpoint, config_json, report

MEANINGS = {  # fields that change what a network's parameters compute, but not their shapes
    "unet": (
        *("diffusion.prediction", "diffusion.num_steps", "diffusion.beta_start", "diffusion.beta_end"),
        *("model.conditioning", "model.narrow_groups"),
    ),
    "semantic_encoder": ("model.narrow_groups",),
    "beta_vae": (),
}


def claim(config: ConfigDict, workdir: str) -> None:
    """Refuse a workdir with a run of another config; else write `config.json`.

    Raises:
      CheckpointError: the workdir holds another run.
      UserError: the workdir can't be written.
    """
    asked = config_json.config_to_json(config)
    checkpoint.claim(workdir, asked, "a run")
    if jax.process_index() == 0:
        report.write_json(epath.Path(workdir) / "config.json", asked)


def start_from(config: ConfigDict, train_state: train_step.TrainState) -> train_step.TrainState:
    """`train_state` with the EMA parameters of the workdir `init_from`, network by network, on the host.

    Raises:
      ConfigError: no network in common, or shapes or meanings that differ.
    """
    workdir, bundle = config.init_from, api.load(config.init_from)
    params = jax.device_get(bundle.ema.params)
    common = params.keys() & train_state.params.keys()
    if not common:
        raise ConfigError(f"init_from={workdir}: it has {sorted(params)}, this config has {sorted(train_state.params)}")
    for name in sorted(common):
        theirs, ours = (dict(jax.tree_util.tree_leaves_with_path(p[name])) for p in (params, train_state.params))
        for path in sorted(theirs.keys() | ours.keys(), key=jax.tree_util.keystr):
            shapes = [np.shape(leaves[path]) if path in leaves else "(absent)" for leaves in (theirs, ours)]
            if shapes[0] != shapes[1]:
                field = name + jax.tree_util.keystr(path)
                raise ConfigError(f"init_from={workdir}: {field} is {shapes[0]} there and {shapes[1]} in this config")
    differing = config_json.differing_fields(*map(config_json.config_to_json, (bundle.config, config)))
    meanings = tuple(f"{field}:" for name in common for field in MEANINGS[name])
    if differing := [line for line in differing if line.startswith(meanings)]:
        raise ConfigError(f"init_from={workdir} would mean something else here:\n  " + "\n  ".join(differing))

    taken = {name: params[name] for name in common}
    ema = train_state.ema.replace(params=train_state.ema.params | taken)
    return train_state.replace(params=train_state.params | taken, ema=ema)


def written_results(workdir: str, step: int) -> dict[str, Any] | None:
    """The content of `main.json`; None if it is absent or older than `step`."""
    path = epath.Path(workdir) / "main.json"
    results = report.read_json(path) if path.exists() else {"step": -1}
    return results if results["step"] >= step else None


def show_results(results: dict[str, Any], workdir: str) -> dict[str, Any]:
    """Print the content of `main.json` as a short table, on the first process; returns it."""
    if jax.process_index() == 0:
        scalars = results["scalars"]
        print(report.table([(name, f"{scalars[name]:.5g}") for name in sorted(scalars)], ("scalar", "value")))
        print(f"\npictures: {workdir}/pictures   results: {workdir}/main.json", flush=True)
    return results
