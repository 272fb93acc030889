"""The tab with all units of one image at once, as a grid and as an animation; and interpolation between two images."""

import gradio as gr
import numpy as np
from einops import rearrange

from cldis_jax import api
from cldis_jax.explorer import drawing
from cldis_jax.explorer.editing import Visit, visit
from cldis_jax.explorer.events import COMPUTES, needs_image, sentences
from cldis_jax.explorer.model import Explored
from cldis_jax.runtime import visualize
from cldis_jax.runtime.errors import UserError

MOST = 16  # units in the grid
COLUMNS = 7
FRAMES = 9  # of an animation, one way
BETWEEN = 9  # images of an interpolation


def build(explored: Explored, seen: gr.State) -> None:
    order = explored.order[:MOST]
    with gr.Row():
        reach = gr.Slider(0.5, 4.0, 2.5, step=0.5, label="from minus to plus so many standard deviations")
        show = gr.Button("Show all units of this image", variant="primary", elem_id="traverse")
        animate = gr.Button("Animate them", elem_id="animate")
    shown = gr.HTML(elem_id="traversals")
    show.click(
        sentences(lambda seen, reach: traversals(explored, seen, order, reach)), [seen, reach], shown, **COMPUTES
    )
    animate.click(
        sentences(lambda seen, reach: animation(explored, seen, order, reach)), [seen, reach], shown, **COMPUTES
    )
    with gr.Accordion("Interpolate to another image", open=False):
        with gr.Row():
            second = gr.Dropdown(list(explored.images.names), label="to one of the images above", elem_id="second")
            file = gr.File(label="or to one of your own", type="filepath", height=110)
            go = gr.Button("Interpolate", elem_id="interpolate")
        between = gr.HTML(elem_id="interpolation")

    @sentences
    def interpolate(seen: Visit | None, name: str | None, path: str | None) -> str:
        needs_image(seen)
        if path:
            other = visit(explored, "yours", "", explored.read(path))
        else:
            if not explored.images.names:
                raise UserError("choose a second image, of your own")
            row = explored.images.names.index(name) if name else 0
            other = visit(explored, name or "", "", explored.images.pixels[row : row + 1])
        return interpolation(explored, seen, other)

    go.click(interpolate, [seen, second, file], between, **COMPUTES)


def traversals(explored: Explored, seen: Visit | None, order: list[int], reach: float) -> str:
    """A grid of the image, moved along each axis of `order`, with the values of z under the mouse."""
    needs_image(seen)
    shifts = np.linspace(-reach, reach, COLUMNS)
    images = explored.editor().traverse(seen.code, explored.axes.steps[order], shifts)[:, 0]
    labels = [explored.label(k) for k in order]
    titles = [[_title(explored, seen, k, shift) for shift in shifts] for k in order]
    return drawing.grid(images, labels, [f"{shift:+.2g} std" for shift in shifts], titles)


def animation(explored: Explored, seen: Visit | None, order: list[int], reach: float) -> str:
    """All axes of `order` at once, each a tile, moving from end to end."""
    needs_image(seen)
    shifts = np.linspace(-reach, reach, FRAMES)
    images = explored.editor().traverse(seen.code, explored.axes.steps[order], shifts)[:, 0]
    columns = min(4, len(order))
    blank = np.ones((-len(order) % columns, FRAMES, *explored.bundle.image_shape), np.float32)
    tiles = rearrange(np.concatenate([images, blank]), "(r c) s h w ch -> s r c h w ch", c=columns)
    rows = [", ".join(str(k) for k in order[i : i + columns]) for i in range(0, len(order), columns)]
    frames = [visualize.grid(frame, rows, title=f"{shift:+.1f} std") for frame, shift in zip(tiles, shifts)]
    return drawing.wide(drawing.animation_uri(frames), "animation")


def interpolation(explored: Explored, first: Visit, second: Visit) -> str:
    """The images between two, both at the ends, and the same as an animation."""
    frames = explored.editor().interpolate(first.code, second.code, BETWEEN)
    weights = np.linspace(0, 1, BETWEEN)
    strip = np.concatenate([first.image, frames, second.image])
    names = [first.name, *(f"{weight:.0%}" for weight in weights), second.name]
    moving = drawing.animation_uri([visualize.grid(frame[None, None]) for frame in frames])
    return drawing.grid(strip[None], [""], names, [names]) + drawing.image(moving, "the same, moving")


def _title(explored: Explored, seen: Visit, k: int, shift: float) -> str:
    text = f"{explored.label(k)}, {shift:+.2f} std"
    if explored.axes.kind == "unit":
        text += f", z[{k}] = {seen.code.z[0, k] + shift * explored.axes.steps[k, k]:.3f}"
    return text


def strip(explored: Explored, code: api.Code, k: int, reach: float = 2.5) -> str:
    """One image moved along one axis."""
    shifts = np.linspace(-reach, reach, COLUMNS)
    images = explored.editor().traverse(code, explored.axes.steps[[k]], shifts)[:, 0]
    columns = [f"{shift:+.2g} std" for shift in shifts]
    return drawing.grid(images, [explored.label(k)], columns, [columns])
