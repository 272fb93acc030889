"""One cell after another: train by cldis_jax.main, evaluate by cldis_jax.evaluate, and leave a record of both.

A cell's folder holds `run` (the workdir), a folder for each latent with evaluate.*, the commands' `log.txt`, and
`cell.json`. What is on disk is not done again, so that running a table twice goes on where it stood.
"""

import contextlib
import fcntl
import os
import pathlib
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
from ml_collections import ConfigDict

from cldis_jax import data
from cldis_jax.configs import default
from cldis_jax.evaluation import tables
from cldis_jax.runtime import report
from cldis_jax.runtime.checkpoint import config_to_json, flatten, is_free
from cldis_jax.study.cells import Cell, resolve

ROOT = pathlib.Path(default.__file__).parents[1]  # the commands name configs relative to it
SETTLED = ("done", "failed", "no data")


class CellError(RuntimeError):
    """A command of a cell failed; the message is the last that it said."""


class Children:
    """Runs one command at a time. SIGTERM and Ctrl-C are passed on to it, and then no other starts."""

    def __init__(self):
        self._child: subprocess.Popen | None = None
        self._signal: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._pass_on)
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _pass_on(self, number, frame):
        self._signal = number
        if self._child is not None:
            self._child.send_signal(number)

    def run(self, command: list[str], log: pathlib.Path) -> None:
        """Run a command, its output appended to `log`.

        Raises:
          CellError: it failed.
          SystemExit: a signal came; the command has ended.
        """
        self.stop_if_asked()
        with log.open("ab") as file:
            file.write(f"$ {shlex.join(command)}\n".encode())
            file.flush()
            start = file.tell()
            self._child = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the terminal's Ctrl-C comes once, through us
                close_fds=False,  # it inherits the cell's lock
            )
            if self._signal is not None:
                self._child.send_signal(self._signal)
            status = self._child.wait()
            self._child = None
        self.stop_if_asked()
        if status != 0:
            raise CellError(last_words(log.read_bytes()[start:], status))

    def stop_if_asked(self) -> None:
        if self._signal is not None:
            raise SystemExit(128 + self._signal)


def last_words(output: bytes, status: int) -> str:
    """The error that a command ended with: its last line of that kind, or its last line at all."""
    lines = [line.strip() for line in output.decode(errors="replace").replace("\r", "\n").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    said = (errors or lines or ["it said nothing"])[-1]
    return f"killed by signal {-status}; last line: {said}" if status < 0 else said.removeprefix("error: ")


def training_command(cell: Cell, folder: pathlib.Path) -> list[str]:
    overrides = (f"--config.{name}={value}" for name, value in (cell.overrides | cell.data).items())
    config = f"--config=configs/{cell.config}"
    return [sys.executable, "-m", "cldis_jax.main", config, f"--workdir={folder / 'run'}", *overrides]


def evaluation_command(cell: Cell, latent: str, folder: pathlib.Path) -> list[str]:
    where = (f"--workdir={folder / 'run'}", f"--latent={latent}", f"--out={folder / latent}")
    flags = (f"--{name}={value}" for name, value in (cell.evaluation | cell.weights).items())
    return [sys.executable, "-m", "cldis_jax.evaluate", *where, f"--metrics={','.join(cell.metrics)}", *flags]


def commands(cell: Cell, folder: pathlib.Path) -> list[list[str]]:
    """Everything that makes a cell, in order."""
    return [training_command(cell, folder), *(evaluation_command(cell, latent, folder) for latent in cell.latents)]


UNREAD = {  # fields that say nothing where another has this value
    ("vae.weight", 0): ("vae.", "distillation.", "feedback."),
    # x_t and C(t) are the schedule's all the same
    ("diffusion.weight", 0): ("distillation.", "feedback.swap_", "model.standardize_z_sem"),
    ("feedback.swap_probability", 0): ("feedback.swap_steps",),
    ("feedback.mode", "anneal"): ("feedback.reference",),
    ("feedback.mode", "fixed"): ("feedback.reference",),
}


def changed_fields(cell: Cell, recorded: dict[str, Any]) -> list[str]:
    """How the config of a run differs from what the cell asks for.

    A field that the record does not have yet was as in configs/default.py; one that is no more doesn't count, nor do
    those that neither reads.
    """
    asked, found = flatten(config_to_json(resolve(cell))), flatten(default.get_config()) | flatten(recorded)
    for (name, value), unread in UNREAD.items():
        if asked.get(name) == found[name] == value:
            asked = {name: value for name, value in asked.items() if not name.startswith(unread)}
    return [
        f"{name}={found[name]}, not {asked[name]}"
        for name in sorted(asked)
        if asked[name] != found[name] and (name == "train.steps" or not is_free(name))
    ]


def trained(cell: Cell, folder: pathlib.Path) -> bool:
    """Whether the workdir holds this very run, finished."""
    path = folder / "run" / "main.json"
    if not path.exists():
        return False
    results = report.read_json(path)
    return results["step"] == cell.steps and not changed_fields(cell, results["config"])


def evaluated(cell: Cell, latent: str, folder: pathlib.Path) -> bool:
    """Whether evaluate.json answers all that the cell asks, and in the way that it asks."""
    path = folder / latent / "evaluate.json"
    if not path.exists():
        return False
    settings = report.read_json(path)["settings"]
    wanted = cell.evaluation | {"latent": latent, "step": cell.steps}
    floors = wanted.pop("floor_seeds")
    return (
        all(settings.get(name) == value for name, value in wanted.items())
        and settings.get("floor_seeds", 0) >= floors
        and set(cell.metrics) <= set(settings["metrics"])
        and all(settings.get(name) for name in cell.weights)
    )


def state(cell: Cell, folder: pathlib.Path) -> tuple[str, str]:
    """(status, why) of a cell: done, failed, no data, other config, unfinished, not run."""
    path = folder / "cell.json"
    if not path.exists():
        return "not run", ""
    record = report.read_json(path)
    if record["status"] != "done":
        return record["status"], record["error"]
    if changed := changed_fields(cell, record["config"]):
        return "other config", "; ".join(changed)
    if not all(evaluated(cell, latent, folder) for latent in cell.latents):
        return "unfinished", "the evaluation differs from what is asked"
    return "done", ""


def occupied(cell: Cell, folder: pathlib.Path) -> str:
    """How the run or result in a cell's folder differs from the cell; empty where the cell may go on from it.

    A run that ended earlier is trained on.
    """
    found = []
    if (path := folder / "cell.json").exists() and (record := report.read_json(path))["status"] == "done":
        found.append(record["config"])
    if (path := folder / "run" / "config.json").exists():
        found.append(report.read_json(path))
    for config in found:
        earlier = flatten(config).get("train.steps", cell.steps) <= cell.steps
        changed = [line for line in changed_fields(cell, config) if not (earlier and line.startswith("train.steps="))]
        if changed:
            return "; ".join(changed)
    return ""


def missing_data(config: ConfigDict) -> str:
    """Why a config's images can't be had; empty if they can."""
    try:
        data.make_source(config.data)
    except data.DataError as error:
        return str(error)
    return ""


def run_cell(cell: Cell, folder: pathlib.Path, children: Children, lack: str = "") -> str:
    """Do what is missing of a cell and record it; returns its status. `lack`: why there is no data for it."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as ours:
        if not ours:
            return "run elsewhere"
        path = folder / "cell.json"
        before = report.read_json(path) if path.exists() else {}
        record = {
            "cell": cell.id,
            "status": "unfinished",
            "error": "",
            "commands": [shlex.join(command) for command in commands(cell, folder)],
            "commit": before.get("commit", ""),  # this and the next: of the training
            "machine": before.get("machine", {}),
            "training_seconds": before.get("training_seconds", 0),
            "evaluation_seconds": before.get("evaluation_seconds", {}),
            "scores": {},
            "config": config_to_json(resolve(cell)),
        }
        report.write_json(path, record)
        try:
            if lack:
                record |= {"status": "no data", "error": lack}
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
    if trained(cell, folder):
        return
    record |= {"commit": commit(), "machine": machine()}
    before, start = record["training_seconds"], time.perf_counter()
    try:
        children.run(training_command(cell, folder), folder / "log.txt")
    finally:
        record["training_seconds"] = round(before + time.perf_counter() - start, 1)  # all parts of a resumed run
    if not trained(cell, folder):
        step = report.read_json(folder / "run" / "main.json")["step"]
        raise CellError(f"{folder / 'run'} has gone on to step {step}, past the {cell.steps} asked for")
    for latent in cell.latents:  # of the run as it was before
        (folder / latent / "evaluate.json").unlink(missing_ok=True)


def _evaluate(cell: Cell, folder: pathlib.Path, children: Children, record: dict[str, Any]) -> None:
    for latent in cell.latents:
        if not evaluated(cell, latent, folder):
            start = time.perf_counter()
            children.run(evaluation_command(cell, latent, folder), folder / "log.txt")
            record["evaluation_seconds"][latent] = round(time.perf_counter() - start, 1)
        scores = read_scores(folder, latent)
        record["scores"][latent] = {f"{metric}/{name}": score["mean"] for metric, name, score in scores}


def read_scores(folder: pathlib.Path, latent: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(metric, name, {mean, std, floors}) of everything in a latent's evaluate.json."""
    results = report.read_json(folder / latent / "evaluate.json")
    return tables.rows({metric: scores for metric, scores in results.items() if metric != "settings"})


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[bool]:
    """Whether the cell is ours: another process may be at it, for another table of the same --out.

    Commands hold the lock too, lest one that outlives a killed runner meet another in its workdir.
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
    """What a cell ran on."""
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
    """The commit of the code, with -dirty where it was changed since; empty outside a git tree."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git
        return ""
    return found.stdout.strip()
