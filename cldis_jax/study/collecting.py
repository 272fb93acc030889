"""Records of cells as a table: mean and deviation over seeds, floors, and the published rows of the same data set."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from cldis_jax.evaluation import tables
from cldis_jax.study import records
from cldis_jax.study.cells import DATASETS, Cell, Table, resolve
from cldis_jax.study.records import Record

FLOORS = {"untrained": "untrained encoder", "random_directions": "random directions"}


@dataclasses.dataclass(frozen=True)
class Score:
    mean: float
    std: float | None  # over n training seeds (n - 1); None if n is 1, or if a source gives none
    n: int | None


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table."""

    kind: str  # ours | floor | published
    method: str
    latent: str
    scores: dict[str, Score]  # by "metric/name"
    seeds: str = ""  # ours: how many cells are done, and the status of the others
    source: str = "this study"
    codes: int | None = None  # size of the latent; a floor belongs to rows of the same size


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
    cells: tuple[dict[str, Any], ...]  # each: id, status, error, seconds, commit, machine

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
    """The table of the records in OUT; cells that are not done count as missing."""
    found = records.read(out)
    states = {cell.id: records.state(cell, found.get(cell.id)) for cell in table.cells}
    datasets = dict.fromkeys(cell.dataset for cell in table.cells)
    sections = tuple(_section(dataset, table, states, found) for dataset in datasets)
    return Collected(table, sections, tuple(_facts(cell, states[cell.id], found.get(cell.id)) for cell in table.cells))


def summarise(values: list[float]) -> Score:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Score(float(np.mean(values)), std, len(values))


def _section(dataset: str, table: Table, states: dict[str, tuple[str, str]], found: dict[str, Record]) -> Section:
    cells = [cell for cell in table.cells if cell.dataset == dataset]
    by_method: dict[str, list[Cell]] = {}
    for cell in cells:
        by_method.setdefault(cell.method, []).append(cell)
    ours: list[Row] = []
    floors: dict[tuple[str, int, str], dict[str, list[float]]] = {}  # (what, codes, latent): values by "metric/name"
    for group in by_method.values():
        codes = resolve(group[0]).model.latent_dim
        statuses = [states[cell.id][0] for cell in group]
        done = [found[cell.id] for cell, status in zip(group, statuses) if status == "done"]
        for latent in group[0].latents:
            values: dict[str, list[float]] = {}
            for record in done:
                for name, score in records.scores(record["results"][latent]).items():
                    values.setdefault(name, []).append(score["mean"])
                    for kind, floor in score.get("floors", {}).items():
                        # A random mix depends on the number of codes alone, the other floors on the network too.
                        mix = kind == "random_mix"
                        key = ("random mix of the labels", codes, "-") if mix else (FLOORS[kind], codes, latent)
                        floors.setdefault(key, {}).setdefault(name, []).append(floor)
            scores = {name: summarise(seen) for name, seen in values.items()}
            ours.append(Row("ours", group[0].label, latent, scores, _seeds(statuses), codes=codes))
    below = []
    for (what, codes, latent), values in sorted(floors.items()):
        scores = {name: Score(float(np.mean(seen)), None, None) for name, seen in values.items()}
        below.append(Row("floor", f"floor: {what}, {codes} codes", latent, scores, codes=codes))
    return Section(dataset, DATASETS[dataset].label, (*ours, *below, *_published(cells[0], table)))


def _seeds(statuses: list[str]) -> str:
    """The number of cells that are done, e.g. 3 or 2 of 3 (failed); the status alone if none is."""
    done = statuses.count("done")
    others = ", ".join(dict.fromkeys(status for status in statuses if status != "done"))
    if not others:
        return str(done)
    return f"{done} of {len(statuses)} ({others})" if done else others


def _published(cell: Cell, table: Table) -> list[Row]:
    """The published rows of the cell's data set, for the metrics of the table."""
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


def _facts(cell: Cell, state: tuple[str, str], record: Record | None) -> dict[str, Any]:
    record = record or {}
    return {
        "id": cell.id,
        "status": state[0],
        "error": state[1],
        "training_seconds": record.get("training_seconds") or None,
        "evaluation_seconds": sum(record.get("evaluation_seconds", {}).values()) or None,
        "commit": record.get("commit", ""),
        "machine": record.get("machine", {}),
    }
