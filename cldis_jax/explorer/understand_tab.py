"""The tab with scores and floors, the matrix of units and factors, change maps, and navigation's directions."""

import gradio as gr
import numpy as np
from etils import epath

from cldis_jax.evaluation import content_tracking_pictures, tables
from cldis_jax.explorer import drawing, naming
from cldis_jax.explorer.editing import Visit
from cldis_jax.explorer.events import COMPUTES, needs_image, sentences
from cldis_jax.explorer.model import Explored
from cldis_jax.explorer.traverse_tab import strip

KINDS = {
    "information": "Mutual information of each unit and each factor, as a share of the factor's entropy",
    "auroc": "Area under the ROC curve of each unit for each attribute",
}
TRACKING = {f"{name}.png": f"{title} (content tracking)" for name, title in content_tracking_pictures.TITLES.items()}
NAVIGATION = {"directions.png": "the directions, the best first", "factors.png": "what they change"}


def build(explored: Explored, seen: gr.State) -> None:
    workdir = explored.bundle.workdir
    evaluated = naming.results(workdir, "evaluate.json")
    scores = {metric: found for metric, found in evaluated.items() if metric != "settings"}
    if scores:
        settings = evaluated.get("settings", {})
        gr.Markdown(f"**Scores** of {settings.get('latent', '')}, step {settings.get('step', '')}, with their floors")
        for title, header, lines in tables.each(scores):
            if title:
                gr.Markdown(f"**{title}**")
            name = "reconstruction-scores" if title else "scores"
            gr.Dataframe([list(line) for line in lines], headers=list(header), interactive=False, elem_id=name)
        if notes := tables.notes(scores):
            gr.Markdown("\n".join(f"- {note}" for note in notes))
        _matrix(explored, seen, *naming.matrix(evaluated), settings.get("latent", explored.axes.latent))
    else:
        gr.Markdown(f"No scores yet: `python -m cldis_jax.evaluate --workdir={workdir}` writes them.")
    if workdir:
        _pictures(epath.Path(workdir), TRACKING)
    _navigation(workdir, explored.directions)


def _matrix(explored: Explored, seen: gr.State, kind: str, table: dict[str, list[float]], latent: str) -> None:
    if not table:
        return
    factors, values = list(table), np.array(list(table.values())).T  # [units, factors]
    gr.Markdown(f"**{KINDS[kind]}**. Click a cell to see its unit move this image.")
    least = 0.5 if kind == "auroc" else 0.0
    shades = np.clip((values - least) / max(values.max() - least, 1e-6), 0, 1)
    styles = [["", *map(_colours, row)] for row in shades]
    rows = [[f"{latent}[{k}]", *(f"{value:.2f}" for value in row)] for k, row in enumerate(values)]
    headers = [latent, *(factor.replace("_", " ") for factor in factors)]
    cells = gr.Dataframe(
        {"data": rows, "headers": headers, "metadata": {"styling": styles}}, interactive=False, elem_id="matrix"
    )
    moved = gr.HTML(elem_id="moved")

    @sentences
    def move(seen: Visit | None, event: gr.SelectData) -> str:
        needs_image(seen)
        if explored.axes.kind != "unit" or explored.axes.latent != latent:
            return f"<p>The table is of the units of {latent}; the page moves other axes.</p>"
        return strip(explored, seen.code, int(event.index[0]))

    cells.select(move, seen, moved, **COMPUTES)


def _colours(shade: float) -> str:
    """The style of a cell, from white (0) to a blue (1) on which dark text can be read."""
    return f"background: rgba(63, 81, 181, {0.55 * shade:.2f})"


def _pictures(folder: epath.Path, captions: dict[str, str]) -> None:
    for file, caption in captions.items():
        if (folder / file).exists():
            with gr.Accordion(caption, open=False):
                gr.HTML(drawing.wide(drawing.bytes_uri((folder / file).read_bytes(), epath.Path(file).suffix[1:])))


def _navigation(workdir: str, directions: str) -> None:
    folder, found = naming.search_folder(workdir, directions), naming.search_results(workdir, directions)
    if not found:
        gr.Markdown(f"No directions yet: `python -m cldis_jax.navigate --workdir={workdir}` finds them.")
        return
    gr.Markdown(
        f"**Directions** of {found['latent']}: RCA {found['rca']:.3f} (chance {found['chance']:.3f}), the share of "
        "pairs in which a second network recognises the direction."
    )
    changes = naming.factor_changes(found)
    rows = [
        [k, f"{found['accuracy'][k]:.0%}", *(f"{values[k]:.2f}" for values in changes.values())]
        for k in found["ranking"]
    ]
    headers = ["direction", "recognised", *(f"changes {factor.replace('_', ' ')}" for factor in changes)]
    gr.Dataframe(rows, headers=headers, interactive=False, elem_id="directions")
    _pictures(folder, NAVIGATION)
    _pictures(folder, {"best.gif": "the best directions, moving"})
