"""Runs one cell: trains it by cldis_jax.main, evaluates it by cldis_jax.evaluate, and records both.

The folder of a cell holds `run` (the workdir), a folder for each latent with evaluate.*, the `log.txt` of the commands,
and `cell.json`, the record. Finished parts are not repeated: a second run continues where the first stopped.
"""

import contextlib
import fcntl
import os
import pathlib
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
from ml_collections import ConfigDict

from cldis_jax import data
from cldis_jax.runtime import report
from cldis_jax.runtime.checkpoint import has_checkpoint
from cldis_jax.runtime.config_json import config_to_json
from cldis_jax.study.cells import Cell, resolve
from cldis_jax.study.children import CHECKOUT, CONFIGS, CellError, Children
from cldis_jax.study.records import changed_fields, is_evaluated, scores

SETTLED = ("done", "failed", "no data")


def training_command(cell: Cell, folder: pathlib.Path, configs: pathlib.Path | str = "configs") -> list[str]:
    """The command that trains a cell; `configs` is the folder of its config, relative to a checkout or absolute."""
    overrides = (f"--config.{name}={value}" for name, value in (cell.overrides | cell.data).items())
    config = f"--config={configs}/{cell.config}"
    return [sys.executable, "-m", "cldis_jax.main", config, f"--workdir={folder / 'run'}", *overrides]


def evaluation_command(cell: Cell, latent: str, folder: pathlib.Path) -> list[str]:
    where = (f"--workdir={folder / 'run'}", f"--latent={latent}", f"--out={folder / latent}")
    given = cell.evaluation | cell.weights
    flags = (f"--{name}={','.join(v) if isinstance(v, list) else v}" for name, v in given.items())
    return [sys.executable, "-m", "cldis_jax.evaluate", *where, f"--metrics={','.join(cell.metrics)}", *flags]


def commands(cell: Cell, folder: pathlib.Path) -> list[list[str]]:
    """All commands of a cell, in order, as a reader would type them in a checkout."""
    return [training_command(cell, folder), *(evaluation_command(cell, latent, folder) for latent in cell.latents)]


def recorded_commands(cell: Cell) -> list[str]:
    """The commands in the record of a cell: `python`, and a folder relative to OUT."""
    programs = commands(cell, cell.folder(pathlib.Path()))
    return [shlex.join(["python", *arguments]) for _, *arguments in programs]


def missing_data(config: ConfigDict) -> str:
    """Why the images of a config are not available; empty if they are."""
    try:
        data.make_source(config.data)
    except data.DataError as error:
        return str(error)
    return ""


def run_cell(cell: Cell, folder: pathlib.Path, children: Children, no_data: str = "") -> str:
    """Run the missing parts of a cell, record it, return its status. `no_data`: why there is no data for it, if so."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as is_locked:
        if not is_locked:
            return "run elsewhere"
        path = folder / "cell.json"
        before = report.read_json(path) if path.exists() else {}
        record = {
            "cell": cell.id,
            "status": "unfinished",
            "error": "",
            "commands": recorded_commands(cell),
            "commit": before.get("commit", ""),  # of the training, as is `machine`; several if it went on with another
            "machine": before.get("machine", {}),
            "training_seconds": before.get("training_seconds", 0),
            "evaluation_seconds": before.get("evaluation_seconds", {}),
            "evaluation_commits": before.get("evaluation_commits", {}),
            "scores": {},
            "config": config_to_json(resolve(cell)),
        }
        report.write_json(path, record)
        try:
            if no_data:
                record |= {"status": "no data", "error": no_data}
            else:
                _train(cell, folder, children, record)
                _evaluate(cell, folder, children, record)
                record["status"] = "done"
        except CellError as error:
            record |= {"status": "failed", "error": str(error)}
        finally:
            report.write_json(path, record)
    return record["status"]


def _train(cell: Cell, folder: pathlib.Path, children: Children, record: dict[str, Any]) -> None:
    if _trained(cell, folder):
        return
    before = record["commit"].split(", ") if has_checkpoint(folder / "run") else []
    commits = dict.fromkeys([*filter(None, before), commit()])
    record |= {"commit": ", ".join(commits), "machine": machine()}
    before, start = record["training_seconds"], time.perf_counter()
    try:
        children.run(training_command(cell, folder, CONFIGS), folder / "log.txt")
    finally:
        record["training_seconds"] = round(before + time.perf_counter() - start, 1)  # all parts of a resumed run
    if not _trained(cell, folder):
        step = report.read_json(folder / "run" / "main.json")["step"]
        raise CellError(f"{folder / 'run'} is at step {step}, past the {cell.steps} asked for")
    for latent in cell.latents:  # results of the run with fewer steps
        (folder / latent / "evaluate.json").unlink(missing_ok=True)


def _trained(cell: Cell, folder: pathlib.Path) -> bool:
    """Whether the workdir holds the finished run of this cell."""
    results = _read_if_there(folder / "run" / "main.json")
    return bool(results) and results["step"] == cell.steps and not changed_fields(cell, results["config"])


def _evaluate(cell: Cell, folder: pathlib.Path, children: Children, record: dict[str, Any]) -> None:
    for latent in cell.latents:
        path = folder / latent / "evaluate.json"
        if not is_evaluated(cell, latent, _read_if_there(path), without=()):
            start = time.perf_counter()
            children.run(evaluation_command(cell, latent, folder), folder / "log.txt")
            record["evaluation_seconds"][latent] = round(time.perf_counter() - start, 1)
            record["evaluation_commits"][latent] = commit()
        record["scores"][latent] = {name: score["mean"] for name, score in scores(report.read_json(path)).items()}


def _read_if_there(path: pathlib.Path) -> dict[str, Any] | None:
    return report.read_json(path) if path.exists() else None


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[bool]:
    """Lock the cell; yields False if another process runs it, e.g. for another table of the same --out.

    The commands inherit the lock: one that outlives a killed runner still protects its workdir.
    """
    with (folder / "lock").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def machine() -> dict[str, Any]:
    """The machine and the versions of a run."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def commit() -> str:
    """The commit of the checkout, with -dirty if files have changed since; empty for an installed package."""
    if CHECKOUT is None:
        return ""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(describe, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git
        return ""
    return found.stdout.strip()
