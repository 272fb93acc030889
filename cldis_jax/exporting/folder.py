"""Write a model to a small folder that every command reads like a workdir, and a hub shows as it is."""

import re
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from cldis_jax import api
from cldis_jax.evaluation import content_tracking_pictures, tables
from cldis_jax.exporting import card
from cldis_jax.prior import store
from cldis_jax.runtime import exported, report
from cldis_jax.runtime.errors import UserError
from cldis_jax.runtime.files import atomic

TRACKING = tuple(f"{name}.png" for name in content_tracking_pictures.TITLES)
SCORES = ("evaluate.csv", "mutual_information.png", *TRACKING)
NAVIGATION = ("directions.npz", "navigation.json", "directions.png", "factors.png", "best.gif")
KNOWN_OF_DATA = ("num_images", "names_sha256")  # what a checkpoint holds as `data` besides the reading position


def export(bundle: api.Bundle, out: epath.PathLike) -> list[str]:
    """Write a model, what was measured of it and its newest pictures to a folder; returns the names of the files.

    The folder has the moving averages as safetensors, the config, the scores, the directions, the latent prior, and a
    model card. It has no optimiser state, and no path of this machine.

    Scores of another step are left out, with a note.

    Raises:
      UserError: the folder is not empty, or can't be written.
    """
    out, workdir = epath.Path(out).resolve(), epath.Path(bundle.workdir)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out={out} exists and is not an empty folder; choose another one")
    known = {name: bundle.trained_on[name] for name in KNOWN_OF_DATA if name in bundle.trained_on}
    exported.write(out, without_paths(bundle.config), bundle.ema, bundle.step, known)
    if store.exists(bundle.workdir):
        prior = store.load(bundle.workdir)
        exported.write(store.prior_dir(str(out)), prior.config, prior.averages, prior.step, {})
    pictures = newest_pictures(workdir, bundle.step)
    scores = scores_of(workdir, bundle.step)
    navigation = [f"navigation/{name}" for name in NAVIGATION]
    for name in (*navigation, *(SCORES if scores else ()), *pictures):
        if (workdir / name).exists():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (workdir / name).copy(out / name, overwrite=True)
    if scores:
        _write_scores(scores, out)
    with atomic(out / "README.md", "w") as file:
        file.write(card.text(bundle, out, num_parameters(bundle)))
    return sorted(str(file.relative_to(out)) for file in _files(out))


def newest_pictures(workdir: epath.Path, step: int) -> list[str]:
    """The newest of each picture that the training drew until `step`, as paths from the workdir."""
    newest: dict[str, str] = {}
    folder = workdir / "pictures"
    for file in sorted(folder.iterdir(), key=lambda file: file.name) if folder.exists() else ():
        match = re.fullmatch(r"(\w+)_(\d{8})\.png", file.name)
        if match and int(match[2]) <= step:
            newest[match[1]] = f"pictures/{file.name}"
    return list(newest.values())


def without_paths(config: ConfigDict) -> ConfigDict:
    """The config without the folders of the machine that trained the model; of `data.path` the last name stays."""
    shared = ConfigDict(config.to_dict())
    shared.data.path, shared.init_from = (epath.Path(path).name for path in (config.data.path, config.init_from))
    shared.data.data_dir, shared.data.cache = "", "auto"
    return shared


def scores_of(workdir: epath.Path, step: int) -> dict[str, Any]:
    """The content of evaluate.json; empty if it is absent, or, with a note, if it is of another step."""
    if not (workdir / "evaluate.json").exists():
        return {}
    results = report.read_json(workdir / "evaluate.json")
    if (scored := results.get("settings", {}).get("step", step)) != step:
        print(f"note: evaluate.json is of step {scored}, not {step}, and is left out")
        return {}
    return results


def _write_scores(results: dict[str, Any], out: epath.Path) -> None:
    """Write evaluate.json and evaluate.md, of the paths in their settings the last name."""
    settings = {name: _last_name(value) for name, value in results.pop("settings", {}).items()}
    report.write_json(out / "evaluate.json", results | {"settings": settings})
    if {"latent", "step", "data", "metrics", "published_set"} <= settings.keys():
        with atomic(out / "evaluate.md", "w") as file:
            file.write(tables.to_markdown(results, settings))


def _last_name(value: Any) -> Any:
    if isinstance(value, list):
        return [_last_name(item) for item in value]
    return epath.Path(value).name if isinstance(value, str) and "/" in value else value


def num_parameters(bundle: api.Bundle) -> dict[str, int]:
    """The number of parameters of each network."""
    return {name: sum(leaf.size for leaf in jax.tree.leaves(net)) for name, net in bundle.ema.params.items()}


def _files(folder: epath.Path) -> list[Any]:
    found = []
    for path in folder.iterdir():
        found += _files(path) if path.is_dir() else [path]
    return found
