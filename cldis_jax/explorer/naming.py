"""Names of a latent's units and directions, from the results that a workdir holds."""

from typing import Any

import numpy as np
from etils import epath

from cldis_jax.api import Axes
from cldis_jax.metrics.content_tracking import NOTICEABLE_COLOUR, NOTICEABLE_MOTION
from cldis_jax.runtime import report

INFORMATION = 0.15  # least share of a factor's entropy that a unit named after it has
AUROC = 0.75  # least area under the ROC curve of an attribute for a unit named after it [NashAE: captured]
RIVAL = 0.5  # a unit with less than this part of what the factor's best unit has is not named after it
CHANGE = 0.1  # least change of a factor, as a share of its range, along a direction named after it


def results(workdir: str, name: str) -> dict[str, Any]:
    """A result file of a workdir; empty if it is absent or damaged, or the model is of no workdir."""
    if not workdir:
        return {}
    path = epath.Path(workdir) / name
    try:
        return report.read_json(path)
    except (OSError, ValueError):
        return {}


def search_folder(workdir: str, directions: str = "") -> epath.Path:
    """The folder of the search that found `directions`, by default that of the workdir."""
    return epath.Path(directions).parent if directions else epath.Path(workdir) / "navigation"


def search_results(workdir: str, directions: str = "") -> dict[str, Any]:
    """navigation.json of a search; empty if it is absent or damaged."""
    return results(str(search_folder(workdir, directions)), "navigation.json") if workdir or directions else {}


def names(axes: Axes, workdir: str, directions: str = "") -> list[str]:
    """A name for each axis [K]: a factor where labels are known, else what content tracking sees change, else empty.

    Args:
      directions: the file that the axes come from, if they are directions; the results of its search are beside it.
    """
    if axes.kind == "direction":
        return _by_factor(factor_changes(search_results(workdir, directions)), CHANGE, len(axes.steps))
    evaluated = results(workdir, "evaluate.json")
    found = [""] * len(axes.steps)
    if evaluated.get("settings", {}).get("latent", axes.latent) == axes.latent:
        kind, shares = matrix(evaluated)
        found = _by_factor(shares, AUROC if kind == "auroc" else INFORMATION, len(found))
        if evaluated.get("settings", {}).get("directions") == "axes":
            tracked = evaluated.get("content_tracking", {}).get("details", {}).get("directions", [])
            found = [name or seen for name, seen in zip(found, [*map(_seen, tracked), *[""] * len(found)])]
    return found


def matrix(evaluated: dict[str, Any]) -> tuple[str, dict[str, list[float]]]:
    """(kind, {factor: value of each unit [d]}) of evaluate.json.

    The kind is `information`, a share of the factor's entropy, where MIG was measured; else `auroc`, of attributes;
    else empty, with an empty table.
    """
    for metric, details, kind in (("mig", "information_shares", "information"), ("attributes", "auroc", "auroc")):
        if table := evaluated.get(metric, {}).get("details", {}).get(details, {}):
            return kind, table
    return "", {}


def factor_changes(navigated: dict[str, Any]) -> dict[str, list[float]]:
    """{factor: its change along each direction [K]} of navigation.json; empty for data without labels."""
    changes = navigated.get("factor_changes", {}).get("navigation", [])
    factors = (navigated.get("probe_accuracy") or navigated.get("probe_auroc", {})).get("originals", {})
    return dict(zip(factors, np.transpose(changes).tolist())) if changes else {}


def label(kind: str, index: int, name: str) -> str:
    """`unit 3: wall hue`, or `unit 3`."""
    return f"{kind} {index}: {name}" if name else f"{kind} {index}"


def _by_factor(shares: dict[str, list[float]], least: float, num: int) -> list[str]:
    """The factor with the largest share of each axis, if it is at least `least` and RIVAL of the factor's best axis."""
    if not shares or any(len(values) != num for values in shares.values()):
        return [""] * num
    table, factors = np.array(list(shares.values())), list(shares)
    needed = np.maximum(least, RIVAL * table.max(axis=1))
    best = table.argmax(axis=0)
    return [factors[f].replace("_", " ") if table[f, k] >= needed[f] else "" for k, f in enumerate(best)]


def _seen(direction: dict[str, float]) -> str:
    """What content tracking saw along a direction: motion, colour, or neither."""
    motion = direction["motion_percent"] / NOTICEABLE_MOTION
    colour = direction["colour_delta_e"] / NOTICEABLE_COLOUR
    if max(motion, colour) < 1:
        return ""
    return "moves" if motion > colour else "recolours"
