"""Records of cells as a table: means and intervals over seeds, floors, and published rows of the same data set."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from cldis_jax.evaluation import tables
from cldis_jax.runtime.config_json import config_to_json
from cldis_jax.study import intervals, records
from cldis_jax.study.cells import LATER_METRICS, Cell, Table, dataset_at, resolve
from cldis_jax.study.records import Record

AS_RUN = "The cells were run with the configs in cells.jsonl, which are not those of this version."
FLOORS = {
    "untrained": "untrained encoder",
    "random_directions": "random directions",
    "random_mix": "random mix of the labels",
    "pixels_pca": "PCA of the pixels",
    "pixels_ica": "ICA of the pixels",
    "pixels_projection": "random projection of the pixels",
}
Floor = tuple[str, int, str, str]  # what, number of codes, latent, and whose it is
# These depend on the number of codes alone.
CODE_FLOORS = ("random_mix", "pixels_pca", "pixels_ica", "pixels_projection")


@dataclasses.dataclass(frozen=True)
class Score:
    """A mean. Ours have one value for each training seed and, from two seeds on, the ends of its 95 % interval."""

    mean: float
    low: float | None = None
    high: float | None = None
    by_seed: dict[str, float] = dataclasses.field(default_factory=dict)
    std: float | None = None  # of a published row


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table."""

    kind: str  # ours | floor | published | difference
    method: str
    latent: str
    scores: dict[str, Score]  # by "metric/name"
    seeds: str = ""  # ours: how many cells are done, and the status of the others
    source: str = "this study"
    codes: int | None = None  # size of the latent; a floor belongs to rows of the same size
    of: tuple[str, ...] = ()  # the methods that a floor belongs to; empty: all


@dataclasses.dataclass(frozen=True)
class Section:
    """The rows of one data set."""

    dataset: str
    label: str
    rows: tuple[Row, ...]
    differences: tuple[Row, ...]  # the first row minus each other one of ours


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


def collect(table: Table, out: pathlib.Path, as_run: bool = False) -> Collected:
    """The table of the records in OUT; cells that are not done count as missing.

    Args:
      as_run: take every record with the config that it was run with, and leave out the cells without a record. So a
        study stays readable when the configs have moved on.

    Raises:
      UserError: with `as_run`, the runs of one method have different configs.
    """
    found = records.read(out)
    if as_run:
        cells = tuple(cell for cell in table.cells if cell.id in found)
        table = dataclasses.replace(table, cells=cells, notes=(*table.notes, AS_RUN))
    states = {cell.id: records.state(cell, found.get(cell.id), as_run) for cell in table.cells}
    datasets = dict.fromkeys(cell.dataset for cell in table.cells)
    sections = tuple(_section(dataset, table, states, found) for dataset in datasets)
    known = {key.partition("/")[0] for section in sections for row in section.rows for key in row.scores}
    shown = tuple(c for c in table.columns if c.metric not in LATER_METRICS or c.metric in known)
    table = dataclasses.replace(table, columns=shown)
    return Collected(table, sections, tuple(_facts(cell, states[cell.id], found.get(cell.id)) for cell in table.cells))


def summarise(by_seed: dict[str, float]) -> Score:
    found = intervals.over_seeds(list(by_seed.values()))
    return Score(found.mean, found.low, found.high, by_seed)


def _section(dataset: str, table: Table, states: dict[str, tuple[str, str]], found: dict[str, Record]) -> Section:
    cells = [cell for cell in table.cells if cell.dataset == dataset]
    by_method: dict[str, list[Cell]] = {}
    for cell in cells:
        by_method.setdefault(cell.method, []).append(cell)
    ours: list[Row] = []
    floors: dict[Floor, dict[str, list[float]]] = {}  # values by "metric/name"
    encoders: dict[str, str] = {}  # the kind of E_sem, by method
    for group in by_method.values():
        statuses = [states[cell.id][0] for cell in group]
        done = {str(c.seed): found[c.id] for c, status in zip(group, statuses) if status == "done"}
        records.check_one_config(list(done.values()))
        config = next(iter(done.values()))["config"] if done else config_to_json(resolve(group[0]))
        codes = config["model"]["latent_dim"]
        encoders[group[0].label] = _encoder(config["model"])
        for latent in group[0].latents:
            values: dict[str, dict[str, float]] = {}
            for seed, record in done.items():
                for name, score in records.scores(record["results"][latent]).items():
                    values.setdefault(name, {})[seed] = score["mean"]
                    for kind, floor in score.get("floors", {}).items():
                        of_codes = kind in CODE_FLOORS
                        whose = "" if of_codes else _whose(kind, latent, group[0].label, encoders)
                        key = (FLOORS[kind], codes, "-" if of_codes else latent, whose)
                        floors.setdefault(key, {}).setdefault(name, []).append(floor)
            scores = {name: summarise(seen) for name, seen in values.items()}
            ours.append(Row("ours", group[0].label, latent, scores, _seeds(statuses), codes=codes))
    below = _floors(floors, encoders)
    differences = tuple(filter(None, (_difference(ours[0], other) for other in ours[1:])))
    return Section(
        dataset, dataset_at(dataset, table.scale).label, (*ours, *below, *_published(dataset, table)), differences
    )


def _encoder(model: dict[str, Any]) -> str:
    """The kind of E_sem in a stored config; earlier versions had one kind, with two heads."""
    return f"{model['encoder']} E_sem" if "encoder" in model else f"head {model.get('encoder_head', 'mean')}"


def _floors(found: dict[Floor, dict[str, list[float]]], encoders: dict[str, str]) -> list[Row]:
    rows = []
    for (what, codes, latent, whose), values in sorted(found.items()):
        scores = {name: Score(float(np.mean(seen))) for name, seen in values.items()}
        of = tuple(method for method, encoder in encoders.items() if whose in (method, encoder))
        several = sum(other[:3] == (what, codes, latent) for other in found) > 1
        label = f"floor: {what}, {codes} codes" + (f", {whose}" if several else "")
        rows.append(Row("floor", label, latent, scores, codes=codes, of=of))
    return rows


def _whose(kind: str, latent: str, method: str, encoders: dict[str, str]) -> str:
    """What a floor depends on, beside the size and the latent: the kind of E_sem, or the trained model."""
    if kind == "random_directions":
        return method
    return encoders[method] if latent == "z_sem" else ""


def _difference(first: Row, other: Row) -> Row | None:
    """The first row minus another; None if one of them has fewer than two seeds.

    Two latents of the same runs are paired. Rows of different runs are not: two methods share nothing but the number of
    the seed.
    """
    same_runs = first.method == other.method
    scores = {}
    for name in (name for name in first.scores if name in other.scores):
        a, b = first.scores[name].by_seed, other.scores[name].by_seed
        if min(len(a), len(b)) < 2:
            continue
        if same_runs:
            found = intervals.paired_difference(list(a.values()), [b[seed] for seed in a])
        else:
            found = intervals.difference(list(a.values()), list(b.values()))
        by_seed = {seed: a[seed] - b[seed] for seed in a} if same_runs else {}
        scores[name] = Score(found.mean, found.low, found.high, by_seed)
    return Row("difference", other.method, other.latent, scores, other.seeds) if scores else None


def _seeds(statuses: list[str]) -> str:
    """The number of cells that are done, e.g. 3 or 2 of 3 (failed); the status alone if none is."""
    done = statuses.count("done")
    others = ", ".join(dict.fromkeys(status for status in statuses if status != "done"))
    if not others:
        return str(done)
    return f"{done} of {len(statuses)} ({others})" if done else others


def _published(dataset: str, table: Table) -> list[Row]:
    """The published rows of the data set, for the metrics of the table."""
    name = dataset_at(dataset, table.scale).published
    columns = {c.metric: f"{c.metric}/{c.names[0]}" for c in reversed(table.columns)}  # the first of each metric
    found: dict[tuple[str, str], dict[str, Score]] = {}
    notes: dict[tuple[str, str], str] = {}
    for row in tables.published(name):
        if row["metric"] in columns:
            key = row["method"], row["source"]
            score = Score(float(row["mean"]), std=float(row["std"]) if row["std"] else None)
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
        "evaluation_commits": list(dict.fromkeys(record.get("evaluation_commits", {}).values())),
        "machine": record.get("machine", {}),
    }
