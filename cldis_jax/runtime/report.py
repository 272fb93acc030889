"""The output of a run: progress bar, JSON lines, TensorBoard events, Weights & Biases, result files."""

import json
import os
import signal
import sys
from typing import Any

import numpy as np
from etils import epath
from tqdm import tqdm

from cldis_jax.runtime import visualize, wandb_log
from cldis_jax.runtime.files import append, atomic


class Report:
    """Scalars and pictures of one run, in `workdir`; writes nothing if not `enabled` (all processes but the first).

    With a `project` of Weights & Biases they go there too, with the `config`, as JSON values.
    """

    def __init__(
        self,
        workdir: str,
        total_steps: int,
        start_step: int,
        enabled: bool = True,
        project: str = "",
        config: dict[str, Any] | None = None,
    ):
        self._enabled = enabled
        self._workdir = epath.Path(workdir)
        self._unread = False  # nobody reads what is printed
        self.history: list[dict[str, float]] = []
        if not enabled:
            return
        from cldis_jax.runtime import events  # imported here, because a program that only prints does not need it

        self._lines = self._workdir / "scalars.jsonl"
        self._keep_history_until(start_step)
        self._events = events.Events(self._workdir / "tensorboard")
        self._wandb = wandb_log.WandbLog(self._workdir, project, config or {}) if project else None
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total_steps, initial=start_step, unit="step", disable=not self._terminal, dynamic_ncols=True
        )

    def _keep_history_until(self, step: int) -> None:
        """Drop the lines after `step`: a killed run may have logged steps that the resumed run repeats."""
        if self._lines.exists():
            rows = []
            for line in self._lines.read_text().splitlines():
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError:  # the run was killed while it wrote this line
                    continue
            self.history = [row for row in rows if row["step"] <= step]
            with atomic(self._lines, "w") as file:
                file.write("".join(json.dumps(row) + "\n" for row in self.history))

    def scalars(self, step: int, values: dict[str, float], shown: dict[str, str]) -> None:
        """Write scalars with nine significant digits, enough for a float32, and show the texts in `shown`."""
        if not self._enabled:
            return
        row = {"step": step} | {name: float(f"{value:.9g}") for name, value in values.items()}
        self.history.append(row)
        append(self._lines, json.dumps(row) + "\n")
        self._events.scalars(step, values)
        if self._wandb:
            self._wandb.scalars(step, values)
        if self._terminal:
            self._bar.set_postfix(shown, refresh=False)
        else:
            pairs = "  ".join(f"{name} {value}" for name, value in shown.items())
            self.say(f"step {step}/{self._bar.total}  {pairs}")

    def advance(self, steps: int) -> None:
        if self._enabled and self._terminal:
            self._bar.update(steps)

    def picture(self, step: int, name: str, picture: np.ndarray) -> str | None:
        """Write a uint8 picture [H, W, 3] as PNG and into TensorBoard; returns the PNG's path."""
        if not self._enabled:
            return None
        path = self._workdir / "pictures" / f"{name}_{step:08d}.png"
        visualize.save_png(path, picture)
        self._events.picture(step, name, picture)
        if self._wandb:
            self._wandb.picture(step, name, picture)
        return str(path)

    def result(self, name: str, values: dict[str, Any]) -> None:
        """Write `WORKDIR/name.json`."""
        if self._enabled:
            write_json(self._workdir / f"{name}.json", values)

    def say(self, line: str) -> None:
        """Print a line. If nobody reads it (`| head`, a closed terminal), ask the run to stop, as SIGTERM does."""
        if not self._enabled:
            return
        try:
            tqdm.write(line)
            sys.stdout.flush()
        except OSError:
            drop_output()
            self._unread = True
        if self._unread and signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:  # somebody waits for it
            signal.raise_signal(signal.SIGTERM)

    def close(self) -> None:
        if self._enabled:
            self._bar.close()
            self._events.close()
            if self._wandb:
                self._wandb.close()


def drop_output() -> None:
    """Send what is printed from now on nowhere; otherwise Python fails once more at its end, when it flushes."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def write_json(path: epath.PathLike, values: dict[str, Any]) -> None:
    """Write machine-readable results, whole or not at all.

    Raises:
      ValueError: NaN or infinity, which JSON does not have.
      WriteError: the path can't be written.
    """
    text = json.dumps(values, indent=2, allow_nan=False) + "\n"
    with atomic(path, "w") as file:
        file.write(text)


def read_json(path: epath.PathLike) -> dict[str, Any]:
    return json.loads(epath.Path(path).read_text())


def table(rows: list[tuple[str, ...]], header: tuple[str, ...]) -> str:
    """A short plain-text table, columns aligned."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    return "\n".join([text[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *text[1:]])
