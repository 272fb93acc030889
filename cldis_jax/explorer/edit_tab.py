"""The tab with a slider for each unit: before, after, where it changed, and the command that makes the same picture."""

import functools
from collections.abc import Callable

import gradio as gr
import numpy as np

from cldis_jax.api.editor import parse_shifts
from cldis_jax.explorer import drawing
from cldis_jax.explorer.editing import DRAGGING_STEPS, Visit, edited
from cldis_jax.explorer.events import COMPUTES, NO_IMAGE, sentences
from cldis_jax.explorer.model import Explored
from cldis_jax.runtime import visualize

RANGE = 3.0  # standard deviations
MOST = 24  # sliders; other axes are written as text


def build(explored: Explored, seen: gr.State) -> tuple[Callable, list, list]:
    """Lay the tab out; returns (function, inputs, outputs) of what draws it anew when the image changes."""
    order, decode_steps = explored.order[:MOST], explored.bundle.config.diffusion.decode_steps
    by_ddim = explored.axes.latent == "z_sem"
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            gr.Markdown(
                f"Shifts in standard deviations. The {'units' if explored.axes.kind == 'unit' else 'directions'} "
                f"{'that vary most' if explored.axes.kind == 'unit' else 'that rank highest'} are first."
            )
            sliders = [
                gr.Slider(-RANGE, RANGE, 0.0, step=0.05, label=explored.label(k), elem_id=f"axis-{k}") for k in order
            ]
            other = gr.Textbox(
                "",
                label=f"others of the {len(explored.axes.steps)}, such as 40=+2.0,77=-1",
                visible=len(order) < len(explored.axes.steps),
            )
            reset = gr.Button("Reset the sliders", size="sm", elem_id="reset")
        with gr.Column(scale=3, min_width=300, elem_classes="cldis-shown"):
            pictures = gr.HTML(NO_IMAGE, elem_id="edited")
            with gr.Row(visible=by_ddim):
                most = min(100, explored.bundle.config.diffusion.num_steps)
                steps = gr.Slider(
                    1, most, min(decode_steps, most), step=1, label="DDIM steps", min_width=200, elem_id="steps"
                )
                random = gr.Checkbox(False, label="random x_T: keep only z", min_width=200, elem_id="random")
                seed = gr.Number(0, label="seed of x_T", precision=0, minimum=0, min_width=100)
            command = gr.Textbox(
                "",
                label="the command that makes the same picture",
                lines=2,
                interactive=False,
                buttons=["copy"],
                elem_id="command",
            )

    def shifts_of(other: str, values: tuple[float, ...]) -> dict[int, float]:
        shifts = parse_shifts(other, explored.axes) if other.strip() else {}
        return shifts | {k: round(value, 4) for k, value in zip(order, values) if value}

    @sentences
    def draw(seen: Visit | None, steps: int, random: bool, seed: int, other: str, *values: float, dragging: bool):
        if seen is None:
            return NO_IMAGE, ""
        seed = int(seed or 0) if random else None
        shifts = shifts_of(other, values)
        settings = (int(steps), seed, tuple(sorted(shifts.items())))
        if dragging and seen.settled == settings:
            return gr.skip(), gr.skip()  # the last movement of a drag comes after its end
        used = min(int(steps), DRAGGING_STEPS) if dragging else int(steps)
        before, after = edited(explored, seen, shifts, used, seed)
        seen.settled = () if dragging else settings
        text = f"{used} DDIM steps" if by_ddim else "the VAE's mean"
        return (
            _pictures(seen, before, after, text) + ("" if dragging else _downloads(seen, after)),
            gr.skip() if dragging else explored.command(seen.file, shifts, int(steps), seed) if shifts else "",
        )

    inputs, outputs = [seen, steps, random, seed, other, *sliders], [pictures, command]
    settled = functools.partial(draw, dragging=False)
    common = {"show_progress": "hidden"} | COMPUTES
    gr.on(
        [slider.input for slider in sliders],
        functools.partial(draw, dragging=True),
        inputs,
        outputs,
        trigger_mode="always_last",
        **common,
    )
    ends = [slider.release for slider in (*sliders, steps)] + [random.input, seed.submit, other.submit]
    gr.on(ends, settled, inputs, outputs, trigger_mode="always_last", **common)
    reset.click(lambda: [0.0] * len(sliders) + [""], None, [*sliders, other], api_visibility="private").then(
        settled, inputs, outputs, **common
    )
    return settled, inputs, outputs


def _pictures(seen: Visit, before: np.ndarray, after: np.ndarray, how: str) -> str:
    return drawing.row(
        {
            f"image: {seen.name}": seen.image[0],
            f"before: decoded, {how}": before,
            f"after: with the shifts, {how}": after,
            f"where it changed, most {np.abs(after - before).mean(-1).max() / 2:.0%}": drawing.heat(before, after),
        }
    )


def _downloads(seen: Visit, after: np.ndarray) -> str:
    """Links to the edited picture, and to the image that the command reads if it isn't a file yet."""
    picture = drawing.download(visualize.to_uint8(after), "edited.png", "download the edited picture")
    image = drawing.download(visualize.to_uint8(seen.image[0]), f"{seen.file}", f"the image, as {seen.file}")
    return f"<p>{picture} &nbsp; {image if '/' not in seen.file else ''}</p>"
