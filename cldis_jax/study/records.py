"""The records of cells, and whether a record is what a table needs.

While a table runs, a cell has the folder OUT/cells/ID with its `cell.json` and an `evaluate.json` for each latent.
A finished study is one file, OUT/cells.jsonl, with one cell a line. Where a cell has both, the folder counts; but a
folder that is not done never replaces a line that is.

A record is the content of `cell.json`, and `results`: the content of `evaluate.json` by latent, once the cell is done.
"""

import itertools
import json
import pathlib
from typing import Any

from cldis_jax.evaluation import tables
from cldis_jax.runtime import report
from cldis_jax.runtime.config_json import config_to_json, flatten, is_free, upgrade
from cldis_jax.runtime.errors import UserError
from cldis_jax.runtime.files import atomic
from cldis_jax.study.cells import LATER_METRICS, Cell, resolve
from cldis_jax.study.methods import LATENTS

Record = dict[str, Any]
LINES = "cells.jsonl"
DATA_PATHS = ("path", "data_dir")  # fields of config.data
UNREAD = {  # (field, value) -> prefixes of the fields that are then unused
    ("vae.weight", 0): ("vae.", "distillation.", "feedback."),
    # The schedule still decides x_t and C(t).
    ("diffusion.weight", 0): ("distillation.", "independence.", "feedback.swap_", "model.standardize_z_sem"),
    ("model.encoder", "strided"): ("model.encoder_multipliers",),
    ("distillation.weight", 0): ("distillation.listen_",),
    ("distillation.listen_steps", 0): ("distillation.listen_weight",),
    ("independence.weight", 0): ("independence.form",),
    ("feedback.swap_probability", 0): ("feedback.swap_steps",),
    ("feedback.mode", "anneal"): ("feedback.reference",),
    ("feedback.mode", "fixed"): ("feedback.reference",),
}


def read(out: pathlib.Path) -> dict[str, Record]:
    """Every record in OUT, by the id of its cell."""
    return _merged(read_lines(out), _read_folders(out))


def _merged(lines: dict[str, Record], folders: dict[str, Record]) -> dict[str, Record]:
    done = {cell for cell, record in lines.items() if record["status"] == "done"}
    counting = {cell: record for cell, record in folders.items() if record["status"] == "done" or cell not in done}
    return lines | counting


def read_lines(out: pathlib.Path) -> dict[str, Record]:
    """The records in OUT/cells.jsonl, by the id of their cell."""
    path = out / LINES
    lines = path.read_text().splitlines() if path.exists() else []
    return {record["cell"]: record for record in map(json.loads, lines)}


def _read_folders(out: pathlib.Path) -> dict[str, Record]:
    records = (read_folder(path.parent) for path in (out / "cells").glob("*/*/*/cell.json"))
    return {record["cell"]: record for record in records}


def read_folder(folder: pathlib.Path) -> Record | None:
    """The record in the folder of a cell; None if there is none."""
    if not (folder / "cell.json").exists():
        return None
    record = report.read_json(folder / "cell.json")
    record.pop("scores", None)  # `results` has them too
    paths = {latent: folder / latent / "evaluate.json" for latent in LATENTS} if record["status"] == "done" else {}
    return record | {"results": {latent: report.read_json(path) for latent, path in paths.items() if path.exists()}}


def write_lines(out: pathlib.Path) -> None:
    """Bring OUT/cells.jsonl up to date with the folders, if there are any; whole or not at all.

    The paths of workdirs and results start at OUT, and those of data are the last name, so that the file says the same
    anywhere.
    """
    folders = _read_folders(out)
    if not folders:
        return
    for record in folders.values():
        _shorten_paths(record)
    records = sorted(_merged(read_lines(out), folders).items())
    lines = [json.dumps(record, separators=(",", ":"), allow_nan=False) for _, record in records]
    with atomic(out / LINES, "w") as file:
        file.write("".join(f"{line}\n" for line in lines))


def _shorten_paths(record: Record) -> None:
    cell, section = record["cell"], record["config"]["data"]
    for field in DATA_PATHS:
        if path := section.get(field):
            section[field] = name = pathlib.PurePath(path).name
            record["commands"] = [command.replace(path, name) for command in record.get("commands", ())]
    for latent, results in record["results"].items():
        settings = results["settings"]
        settings |= {"workdir": f"cells/{cell}/run", "out": f"cells/{cell}/{latent}"}
        kind, _, path = settings.get("data", "").partition(" ")  # `folder PATH`, or a name
        if path:
            settings["data"] = f"{kind} {pathlib.PurePath(path).name}"


def scores(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The scores in the content of an `evaluate.json`: {"metric/name": {mean, std, floors}}."""
    metrics = {metric: found for metric, found in results.items() if metric != "settings"}
    return {f"{metric}/{name}": score for metric, name, score in tables.rows(metrics)}


def changed_fields(cell: Cell, recorded: dict[str, Any]) -> list[str]:
    """The differences between a run's config and the cell's, without fields that neither uses."""
    try:
        found = upgrade(recorded)
    except UserError as error:  # the run used an option that no longer exists
        return [str(error)]
    return _differences(flatten(config_to_json(resolve(cell))), flatten(found))


def check_one_config(found: list[Record]) -> None:
    """Raise UserError if the records are runs of several configs, which may differ in their seeds alone."""
    configs = [flatten(_upgraded(record["config"])) | {"train.seed": 0} for record in found]
    for config, record in zip(configs, found):
        if changed := _differences(configs[0], config):
            raise UserError(
                f"{record['cell']} was run with another config than {found[0]['cell']}: {'; '.join(changed)}"
            )


def _upgraded(config: dict[str, Any]) -> dict[str, Any]:
    """A recorded config with the fields of today, as recorded if it uses an option that no longer exists."""
    try:
        return upgrade(config)
    except UserError:
        return config


def _differences(asked: dict[str, Any], found: dict[str, Any]) -> list[str]:
    groups = [names for (name, value), names in UNREAD.items() if asked.get(name) == found.get(name) == value]
    unread = tuple(itertools.chain.from_iterable(groups))
    by_L_ind = ("feedback.ema_decay",) if found.get("independence.weight") else ()  # without a VAE, too
    return [
        f"{name}={found.get(name, '(absent)')}, not {asked.get(name, '(absent)')}"
        for name in sorted(asked.keys() | found.keys())
        if asked.get(name) != found.get(name)
        and (name in by_L_ind or not name.startswith(unread))
        and (name == "train.steps" or not is_free(name))
    ]


def is_evaluated(
    cell: Cell, latent: str, results: dict[str, Any] | None, without: tuple[str, ...] = LATER_METRICS
) -> bool:
    """Whether the content of an `evaluate.json` has the scores of the cell, measured with its settings.

    The metrics in `without` may be missing.
    """
    if results is None:
        return False
    settings = results["settings"]
    wanted = cell.evaluation | {"latent": latent, "step": cell.steps}
    floors = wanted.pop("floor_seeds")
    return (
        all(settings.get(name) == value for name, value in wanted.items())
        and settings.get("floor_seeds", 0) >= floors
        and set(cell.metrics) - set(without) <= set(settings["metrics"])
        and all(settings.get(name) for name in cell.weights)
    )


def state(cell: Cell, record: Record | None, as_run: bool = False) -> tuple[str, str]:
    """(status, reason) of a cell: done, failed, no data, other config, unfinished, not run.

    With `as_run` the config of the record need not be that of the cell.
    """
    if record is None:
        return "not run", ""
    if record["status"] != "done":
        return record["status"], record["error"]
    if not as_run and (changed := changed_fields(cell, record["config"])):
        return "other config", "; ".join(changed)
    if not all(is_evaluated(cell, latent, record["results"].get(latent)) for latent in cell.latents):
        return "unfinished", "the evaluation differs from what is asked"
    return "done", ""


def conflict(cell: Cell, record: Record | None, folder: pathlib.Path) -> str:
    """How the record or workdir of a cell differs from the cell; empty if the cell may continue from it.

    A run of fewer steps is no conflict, because training continues; but it is one if the rate depends on the steps.
    """
    found = [record["config"]] if record and record["status"] == "done" else []
    if (path := folder / "run" / "config.json").exists():
        found.append(report.read_json(path))
    constant_rate = resolve(cell).train.decay_share == 0
    for config in found:
        shorter = constant_rate and flatten(config).get("train.steps", cell.steps) <= cell.steps
        changed = [line for line in changed_fields(cell, config) if not (shorter and line.startswith("train.steps="))]
        if changed:
            return "; ".join(changed)
    return ""
