"""The tab with the training: curves while it goes on, pictures by step, and what the config changes."""

import gradio as gr
import pandas as pd

from cldis_jax.api.pictures import CURVES
from cldis_jax.explorer import drawing, run_files
from cldis_jax.explorer.events import sentences
from cldis_jax.explorer.model import Explored
from cldis_jax.planning import description

EVERY_SECONDS = 10
WIDTHS = {"wrap": True, "column_widths": ["24%", "15%", "15%", "46%"]}


def build(explored: Explored) -> None:
    workdir, config = explored.bundle.workdir, explored.bundle.config
    if run_files.scalars(workdir):
        gr.Markdown(f"Curves, read again every {EVERY_SECONDS} seconds while this page is open.")
        _curves(workdir)
    else:
        gr.Markdown("This workdir has no scalars.jsonl: its model was not trained here.")
    if run_files.pictures(workdir):
        _pictures(workdir)
    preset = description.preset_of(config)
    gr.Markdown(f"**Config**: what differs from the preset `{preset}`")
    headers = ["field", f"preset {preset}", "this model", "why"]
    gr.Dataframe(run_files.config_rows(config), headers=headers, interactive=False, elem_id="config", **WIDTHS)


def _curves(workdir: str) -> None:
    plots = []
    with gr.Row():
        for title, names in CURVES.items():
            plots.append(gr.LinePlot(_table(run_files.scalars(workdir), names), **_axes(title), elem_id="curve"))
    timer = gr.Timer(EVERY_SECONDS)

    def read() -> list[pd.DataFrame]:
        rows = run_files.scalars(workdir)
        return [_table(rows, names) for names in CURVES.values()]

    timer.tick(read, None, plots, show_progress="hidden", api_visibility="private")


def _axes(title: str) -> dict:
    options = {"title": title, "x": "step", "y": "value", "color": "scalar", "height": 260, "min_width": 320}
    return options | {"x_title": "step", "y_title": " ", "color_title": " "}


def _table(rows: list[dict[str, float]], names: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(run_files.points(rows, names) or {"step": [], "value": [], "scalar": []})


def _pictures(workdir: str) -> None:
    found = run_files.pictures(workdir)
    first = list(found)[-1]  # traversals, where there are any
    gr.Markdown("**Pictures of the training**")
    with gr.Row():
        name = gr.Radio(list(found), value=first, label="picture", elem_id="picture")
        most = max(map(len, found.values()))
        place = gr.Slider(1, max(most, 2), most, step=1, label="earlier to later", elem_id="place")
    shown = gr.HTML(elem_id="drawn")

    @sentences
    def show(name: str, place: int) -> str:
        files = run_files.pictures(workdir).get(name, {})
        if not files:
            return "<p>The pictures are gone.</p>"
        step = list(files)[min(int(place), len(files)) - 1]
        return f"<p>step {step:,}</p>" + drawing.wide(drawing.bytes_uri(files[step].read_bytes(), "png"), name)

    gr.on([name.input, place.change], show, [name, place], shown, show_progress="hidden", api_visibility="private")
    shown.value = show(first, most)
