"""A collected table as a bar chart: a panel for each data set and column, with intervals, seeds and floors."""

import numpy as np

from cldis_jax.runtime import visualize
from cldis_jax.study.collecting import Collected, Row
from cldis_jax.study.rendering import find

LATENT_COLOURS = {"z_sem": "tab:blue", "z_disen": "tab:orange"}


def bars(collected: Collected) -> np.ndarray | None:
    """One uint8 picture [H, W, 3] of our rows, without the published ones; None if there is no number yet."""
    panels = []
    for section in collected.sections:
        for column in collected.table.columns:
            found = [(row, find(row, column)) for row in section.rows if row.kind != "published"]
            found = [(row, score) for row, score in found if score is not None]
            if any(row.kind == "ours" for row, _ in found):
                panels.append((f"{section.label}: {column.label}", found))
    if not panels:
        return None

    columns = min(len(panels), 3)
    height = max(len(found) for _, found in panels)
    rows = -(-len(panels) // columns)
    figure = visualize.new_figure(5.2 * columns, (1.2 + 0.26 * height) * rows)
    axes_of = figure.subplots(rows, columns, squeeze=False).ravel()
    shown: list[str] = []
    for i, (axes, (title, found)) in enumerate(zip(axes_of, panels)):
        ours = [(row, score) for row, score in found if row.kind == "ours"]
        labels = [f"{row.method}: {row.latent}" for row, _ in ours]
        axes.barh(
            range(len(ours)),
            [score.mean for _, score in ours],
            xerr=[np.nan if score.low is None else score.high - score.mean for _, score in ours],
            color=[LATENT_COLOURS[row.latent] for row, _ in ours],
            error_kw={"capsize": 3, "linewidth": 1},
        )
        points = [(value, y) for y, (_, score) in enumerate(ours) for value in score.by_seed.values()]
        axes.scatter(*zip(*points), s=12, facecolor="white", edgecolor="black", linewidth=0.7, zorder=3)
        for floor, score in found:
            if floor.kind == "floor":
                beside = [y for y, (row, _) in enumerate(ours) if is_floor_of(floor, row)]
                lower, upper = [y - 0.5 for y in beside], [y + 0.5 for y in beside]
                axes.vlines([score.mean] * len(beside), lower, upper, color="0.25", linestyle=":", linewidth=1.2)
        repeated = i % columns > 0 and labels == shown  # the panel to the left has the same labels
        axes.set_yticks(range(len(ours)), [""] * len(ours) if repeated else labels, fontsize=8)
        axes.set_ylim(len(ours) - 0.4, -0.6)
        # Intervals of two seeds are far longer than the bars: the frame cuts them.
        values = [value for value, _ in points] + [score.mean for _, score in found]
        axes.set_xlim(min(0, *values), 1.1 * max(*values, 1e-3))
        shown = labels
        axes.set_title(title, fontsize=10)
        axes.grid(axis="x", alpha=0.3)
    for axes in axes_of[len(panels) :]:
        axes.set_visible(False)
    caption = "bars: means; points: seeds; lines: 95 % intervals (t), cut at the frame; dotted: floors"
    figure.supxlabel(caption, fontsize=8)
    return visualize.render(figure)


def is_floor_of(floor: Row, row: Row) -> bool:
    """Whether a floor belongs to a row: the same number of codes, the same latent or no latent, and of its methods."""
    same_codes = floor.codes == row.codes and floor.latent in (row.latent, "-")
    return same_codes and (not floor.of or row.method in floor.of)
