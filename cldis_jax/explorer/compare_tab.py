"""The tab with two models side by side, on the same image."""

import gradio as gr
import numpy as np
from PIL import Image

from cldis_jax.explorer import drawing
from cldis_jax.explorer.editing import Visit, visit
from cldis_jax.explorer.events import COMPUTES, needs_image, sentences
from cldis_jax.explorer.model import Explored
from cldis_jax.explorer.traverse_tab import MOST, traversals
from cldis_jax.runtime import visualize


def build(first: Explored, second: Explored, seen: gr.State) -> None:
    gr.Markdown("The same image through both models: decoded, and moved along the units.")
    with gr.Row():
        reach = gr.Slider(0.5, 4.0, 2.5, step=0.5, label="from minus to plus so many standard deviations")
        go = gr.Button("Compare", variant="primary", elem_id="compare")
    with gr.Row():
        columns = []
        for explored in (first, second):
            with gr.Column(min_width=300):
                gr.Markdown(f"`{explored.bundle.workdir}`, step {explored.bundle.step}, {explored.axes.latent}")
                columns.append(gr.HTML(elem_id=f"compared-{len(columns)}"))

    @sentences
    def compare(seen: Visit | None, reach: float) -> list[str]:
        needs_image(seen)
        other = visit(second, seen.name, seen.file, fitted(seen.image, second.bundle.image_shape))
        return [shown(explored, look, reach) for explored, look in ((first, seen), (second, other))]

    go.click(compare, [seen, reach], columns, **COMPUTES)


def shown(explored: Explored, seen: Visit, reach: float) -> str:
    """The image, its reconstruction with the mean squared error on [0, 1], and its traversals."""
    decoded = explored.editor().decode(seen.code)[0]
    error = np.mean(np.square((decoded - seen.image[0]) / 2))
    pair = drawing.row({"image": seen.image[0], f"decoded, error {error:.5f}": decoded})
    return pair + traversals(explored, seen, explored.order[:MOST], reach)


def fitted(image: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """An image [1, H, W, C] in [-1, 1] at the size and with the channels of `shape`."""
    if image.shape[1:] == shape:
        return image
    picture = Image.fromarray(visualize.to_uint8(image[0])).convert("L" if shape[2] == 1 else "RGB")
    resized = np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.LANCZOS), np.float32)
    return resized.reshape(1, *shape) / 127.5 - 1
