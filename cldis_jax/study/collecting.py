"""Results of cells as a table: mean and deviation over seeds, floors, and the published rows of the same data set."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from cldis_jax.evaluation import tables
from cldis_jax.runtime import report
from cldis_jax.study import running
from cldis_jax.study.cells import DATASETS, Cell, Table, resolve


@dataclasses.dataclass(frozen=True)
class Score:
    mean: float
    std: float | None  # over n seeds of the training (n - 1); None where n is 1, or where a source gives none
    n: int | None


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table; `scores` go by "metric/name"."""

    kind: str  # ours | floor | published
    method: str
    latent: str
    scores: dict[str, Score]
    seeds: str = ""  # ours: how many have finished, and what of the others
    source: str = "this study"
    codes: int | None = None  # size of the latent; a floor holds for rows of its own size


@dataclasses.dataclass(frozen=True)
class Section:
    """The rows of one data set."""

    dataset: str
    label: str
    rows: tuple[Row, ...]


@dataclasses.dataclass(frozen=True)
class Collected:
    """A table with its numbers."""

    table: Table
    sections: tuple[Section, ...]
    cells: tuple[dict[str, Any], ...]  # of each: id, status, error, seconds, commit, machine

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "table": self.table.name,
            "scale": self.table.scale,
            "notes": list(self.table.notes),
            "sections": [dataclasses.asdict(section) for section in self.sections],
            "cells": list(self.cells),
        }


def collect(table: Table, out: pathlib.Path) -> Collected:
    """What the cells of a table have come to so far; every number is from an evaluate.json."""
    datasets = dict.fromkeys(cell.dataset for cell in table.cells)
    states = {cell.id: running.state(cell, cell.folder(out)) for cell in table.cells}
    sections = tuple(_section(dataset, table, states, out) for dataset in datasets)
    return Collected(table, sections, tuple(_cell_facts(cell, states[cell.id], out) for cell in table.cells))


def summarise(values: list[float]) -> Score:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Score(float(np.mean(values)), std, len(values))


def _section(dataset: str, table: Table, states: dict[str, tuple[str, str]], out: pathlib.Path) -> Section:
    cells = [cell for cell in table.cells if cell.dataset == dataset]
    by_method: dict[str, list[Cell]] = {}
    for cell in cells:
        by_method.setdefault(cell.method, []).append(cell)
    ours, floors = [], {}
    for group in by_method.values():
        codes = resolve(group[0]).model.latent_dim
        done = [cell for cell in group if states[cell.id][0] == "done"]
        for latent in group[0].latents:
            values: dict[str, list[float]] = {}
            for cell in done:
                for metric, name, score in running.read_scores(cell.folder(out), latent):
                    values.setdefault(f"{metric}/{name}", []).append(score["mean"])
                    for kind, floor in score.get("floors", {}).items():
                        found = floors.setdefault(_floor_name(kind, latent, codes), {})
                        found.setdefault(f"{metric}/{name}", []).append(floor)
            scores = {name: summarise(found) for name, found in values.items()}
            seeds = _seeds([states[cell.id][0] for cell in group])
            ours.append(Row("ours", group[0].label, latent, scores, seeds, codes=codes))
    below = []
    for (what, codes, latent), found in sorted(floors.items()):
        scores = {name: Score(float(np.mean(values)), None, None) for name, values in found.items()}
        below.append(Row("floor", f"floor: {what}, {codes} codes", latent, scores, codes=codes))
    return Section(dataset, DATASETS[dataset].label, (*ours, *below, *_published(cells[0], table)))


def _floor_name(kind: str, latent: str, codes: int) -> tuple[str, int, str]:
    """(what, codes, latent): a random mix depends on the number of codes alone, the others on the network too."""
    if kind == "random_mix":
        return "random mix of the labels", codes, "-"
    what = {"untrained": "untrained encoder", "random_directions": "random directions"}[kind]
    return what, codes, latent


def _seeds(statuses: list[str]) -> str:
    """3, or e.g. 2 of 3 (failed); of none the reason alone."""
    done = statuses.count("done")
    others = ", ".join(dict.fromkeys(status for status in statuses if status != "done"))
    if not others:
        return str(done)
    return f"{done} of {len(statuses)} ({others})" if done else others


def _published(cell: Cell, table: Table) -> list[Row]:
    """The published rows of the cell's data set, for the metrics that the table shows."""
    data = resolve(cell).data
    name = tables.PUBLISHED_SETS.get((data.source, data.name), "")
    columns = {column.metric: f"{column.metric}/{column.names[0]}" for column in table.columns}
    found: dict[tuple[str, str], dict[str, Score]] = {}
    notes: dict[tuple[str, str], str] = {}
    for row in tables.published(name):
        if row["metric"] in columns:
            key = row["method"], row["source"]
            score = Score(float(row["mean"]), float(row["std"]) if row["std"] else None, None)
            found.setdefault(key, {})[columns[row["metric"]]] = score
            notes[key] = notes.get(key, "") + (f"; {row['metric']}: {row['note']}" if row["note"] else "")
    return [
        Row("published", f"{method} (published)", "-", scores, "", source + notes[method, source])
        for (method, source), scores in found.items()
    ]


def _cell_facts(cell: Cell, state: tuple[str, str], out: pathlib.Path) -> dict[str, Any]:
    path = cell.folder(out) / "cell.json"
    record = report.read_json(path) if path.exists() else {}
    return {
        "id": cell.id,
        "status": state[0],
        "error": state[1],
        "training_seconds": record.get("training_seconds") or None,
        "evaluation_seconds": sum(record.get("evaluation_seconds", {}).values()) or None,
        "commit": record.get("commit", ""),
        "machine": record.get("machine", {}),
    }
