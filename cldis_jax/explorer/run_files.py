"""What a workdir holds of its training: scalars, pictures by step, and its config against its preset."""

import json
import re
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from cldis_jax.planning import description

MOST_POINTS = 400  # of a curve


def scalars(workdir: str) -> list[dict[str, float]]:
    """The rows of scalars.jsonl, at most MOST_POINTS of them; a training may append to the file meanwhile."""
    path = epath.Path(workdir) / "scalars.jsonl"
    if not workdir or not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:  # the line is being written
            continue
    stride = -(-len(rows) // MOST_POINTS)
    return rows[:: stride or 1] + (rows[-1:] if rows and (len(rows) - 1) % (stride or 1) else [])


def points(rows: list[dict[str, float]], names: tuple[str, ...]) -> dict[str, list[Any]]:
    """Columns `step`, `value` and `scalar` of the named scalars."""
    found = [(row["step"], row[name], name) for name in names for row in rows if name in row]
    return dict(zip(("step", "value", "scalar"), map(list, zip(*found)))) if found else {}


def pictures(workdir: str) -> dict[str, dict[int, epath.Path]]:
    """{name: {step: file}} of WORKDIR/pictures, the steps ascending."""
    folder, found = epath.Path(workdir) / "pictures", {}
    for file in folder.iterdir() if workdir and folder.exists() else ():
        if match := re.fullmatch(r"(\w+)_(\d{8})\.png", file.name):
            found.setdefault(match[1], {})[int(match[2])] = file
    return {name: dict(sorted(found[name].items())) for name in sorted(found)}


def config_rows(config: ConfigDict) -> list[list[str]]:
    """[field, the preset's value, this model's, why] of each field that differs from the model's preset."""
    rows = description.differences(config)
    return [[row["field"], str(row["preset"]), str(row["config"]), row["why"]] for row in rows]
