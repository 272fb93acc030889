"""The tab with new images from the priors, and the images of the data that are near in z or at its ends."""

import gradio as gr
import numpy as np

from cldis_jax.explorer import drawing
from cldis_jax.explorer.editing import Visit
from cldis_jax.explorer.events import COMPUTES, PROGRESS, needs_image, sentences
from cldis_jax.explorer.model import Explored
from cldis_jax.prior.sampling import priors_of, sample
from cldis_jax.runtime.errors import UserError

NUM_SAMPLES = 16
NUM_NEAR = 8
LATENT_STEPS = 50  # DDIM steps of the latent prior


def build(explored: Explored, seen: gr.State) -> None:
    with gr.Row():
        with gr.Column(min_width=300):
            gr.Markdown("**Samples**: z from a prior, x_T from N(0, I).")
            _samples(explored)
        with gr.Column(min_width=300):
            gr.Markdown("**Neighbours**: images of the data by their codes.")
            _neighbours(explored, seen)


def _samples(explored: Explored) -> None:
    try:
        priors = priors_of(explored.bundle)
    except UserError as error:
        gr.Markdown(str(error))
        return
    with gr.Row():
        prior = gr.Radio(list(priors), value=next(iter(priors)), label="prior of z")
        seed = gr.Number(0, label="seed", precision=0, minimum=0, min_width=100)
    go = gr.Button("Draw", variant="primary", elem_id="sample")
    shown = gr.HTML(elem_id="samples")

    @sentences
    def draw(name: str, seed: int) -> str:
        images = sample(explored.bundle, NUM_SAMPLES, priors[name], latent_steps=LATENT_STEPS, seed=int(seed or 0))
        square = images.reshape(4, 4, *images.shape[1:])
        titles = [[f"sample {4 * i + j}, seed {int(seed or 0)}" for j in range(4)] for i in range(4)]
        return drawing.grid(square, [""] * 4, [""] * 4, titles)

    go.click(draw, [prior, seed], shown, **COMPUTES)


def _neighbours(explored: Explored, seen: gr.State) -> None:
    every = "all of z"
    units = [f"unit {k}" for k in range(explored.bundle.config.model.latent_dim)]
    unit = gr.Dropdown([every, *units], value=every, label="compare", elem_id="unit")
    with gr.Row():
        near = gr.Button("Nearest to this image", variant="primary", elem_id="near")
        ends = gr.Button("Ends of the unit", elem_id="ends")
    shown = gr.HTML(elem_id="neighbours")

    @sentences
    def nearest(seen: Visit | None, which: str, progress=PROGRESS) -> str:
        needs_image(seen)
        progress(0.3, "encoding images of the data, the first time")
        k = None if which == every else units.index(which)
        rows, distances = explored.neighbours.nearest(seen.code.z[0], NUM_NEAR, k)
        titles = [f"{distance:.2f} std away" for distance in distances]
        num_rows = 2 if len(rows) == NUM_NEAR else 1  # fewer, if there are fewer images
        found = explored.compared_images(rows).reshape(num_rows, -1, *explored.bundle.image_shape)
        texts = np.reshape(titles, (num_rows, -1)).tolist()
        grid = drawing.grid(found, [""] * num_rows, [""] * len(texts[0]), texts)
        return grid + f"<p>{titles[0]} to {titles[-1]}</p>"

    @sentences
    def extremes(which: str, progress=PROGRESS) -> str:
        if which == every:
            raise UserError("Choose one unit: all of z has no ends.")
        progress(0.3, "encoding images of the data, the first time")
        k = units.index(which)
        low, high = explored.neighbours.extremes(k, NUM_NEAR // 2)
        found = np.stack([explored.compared_images(low), explored.compared_images(high)])
        texts = [[f"z[{k}] = {explored.neighbours.codes[row, k]:.3f}" for row in rows] for rows in (low, high)]
        return drawing.grid(found, ["lowest", "highest"], [""] * (NUM_NEAR // 2), texts)

    near.click(nearest, [seen, unit], shown, **COMPUTES)
    ends.click(extremes, unit, shown, **COMPUTES)
