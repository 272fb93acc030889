"""The page: one image for all tabs, and the tabs."""

from pathlib import Path

import gradio as gr

from cldis_jax.explorer import compare_tab, edit_tab, run_tab, samples_tab, traverse_tab, understand_tab
from cldis_jax.explorer.editing import Visit, visit
from cldis_jax.explorer.events import COMPUTES, PROGRESS, sentences
from cldis_jax.explorer.model import Explored
from cldis_jax.runtime import visualize

KEPT_SECONDS = 3600  # what a visitor uploads, and the codes of it, are deleted after so long
THUMBNAIL = 64  # pixels


def page(explored: Explored, compared: Explored | None = None) -> gr.Blocks:
    """The page of a model, and of a second one to compare it with."""
    title = f"cldis_jax: {explored.bundle.workdir or 'a model'}"
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, KEPT_SECONDS), fill_width=True) as blocks:
        seen = gr.State(None, time_to_live=KEPT_SECONDS)
        gr.Markdown(_heading(explored))
        with gr.Row():
            gallery = gr.Gallery(
                _thumbnails(explored),
                label="images to choose from",
                columns=10,
                object_fit="contain",
                height=150,
                min_width=280,
                allow_preview=False,
                interactive=False,
                visible=bool(explored.images.names),
                elem_id="gallery",
            )
            file = gr.File(label="an image of your own", type="filepath", height=150, elem_id="own", scale=0)
        with gr.Tab("Edit"):
            refresh = edit_tab.build(explored, seen)
        with gr.Tab("Traverse"):
            traverse_tab.build(explored, seen)
        with gr.Tab("Samples and neighbours"):
            samples_tab.build(explored, seen)
        with gr.Tab("Understand"):
            understand_tab.build(explored, seen)
        with gr.Tab("The run"):
            run_tab.build(explored)
        if compared is not None:
            with gr.Tab("Compare"):
                compare_tab.build(explored, compared, seen)
        _wire(explored, blocks, seen, gallery, file, refresh)
    return blocks


def _heading(explored: Explored) -> str:
    bundle, found = explored.bundle, explored.images
    note = f"  \n{found.note}. Drop an image of your own." if found.note else ""
    return f"### {bundle.workdir}\nstep {bundle.step:,}, {explored.axes.latent}, {len(explored.axes.steps)} axes{note}"


def _thumbnails(explored: Explored) -> list:
    images = visualize.to_uint8(explored.images.pixels)
    factor = max(1, THUMBNAIL // explored.bundle.image_shape[0])
    return list(images.repeat(factor, axis=1).repeat(factor, axis=2))


def _wire(explored: Explored, blocks: gr.Blocks, seen: gr.State, gallery: gr.Gallery, file: gr.File, refresh) -> None:
    """Encode what the visitor chooses, or the first image when the page opens, and draw the first tab anew."""
    images = explored.images

    def of_row(row: int) -> Visit:
        name = images.names[row]
        return visit(explored, name, images.files[row] or f"{name.replace(' ', '_')}.png", images.pixels[row : row + 1])

    @sentences
    def first() -> Visit | None:
        return of_row(0) if images.names else None

    @sentences
    def choose(event: gr.SelectData, progress=PROGRESS) -> Visit:
        progress(0.2, f"x_T, in {explored.encode_steps} steps")
        return of_row(event.index)

    @sentences
    def upload(path: str | None, progress=PROGRESS) -> Visit:
        if path is None:
            return gr.skip()
        progress(0.2, f"x_T, in {explored.encode_steps} steps")
        return visit(explored, "yours", Path(path).name, explored.read(path))

    function, inputs, outputs = refresh
    for event, handler, source in ((gallery.select, choose, None), (file.upload, upload, file)):
        event(handler, source, seen, show_progress_on=outputs[0], **COMPUTES).success(
            function, inputs, outputs, show_progress="hidden", **COMPUTES
        )
    blocks.load(first, None, seen, show_progress_on=outputs[0], **COMPUTES).success(
        function, inputs, outputs, show_progress="hidden", **COMPUTES
    )
