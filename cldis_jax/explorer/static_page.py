"""The page as one file: pictures computed before, sliders in plain JavaScript, no server, no network."""

import html
import importlib.resources
import json
from typing import Any

import numpy as np
from einops import rearrange
from etils import epath

from cldis_jax.api.codes import finite
from cldis_jax.evaluation import tables
from cldis_jax.explorer import drawing, naming
from cldis_jax.explorer.model import Explored
from cldis_jax.prior.sampling import priors_of, sample
from cldis_jax.runtime import visualize
from cldis_jax.runtime.errors import UserError
from cldis_jax.runtime.files import atomic

SHIFTS = np.linspace(-2.5, 2.5, 11)  # standard deviations; the middle one is 0
MOST_UNITS = 16
NUM_SAMPLES = 16
QUALITY = 92  # of JPEG
TEMPLATE = "static_page.html"
MARK = "/*CONTENT*/null"


def write(path: epath.PathLike, explored: Explored, *, num_steps: int | None = None, note: str = "") -> int:
    """Write a model's page to one HTML file; returns its size in bytes.

    Args:
      num_steps: DDIM steps of decoding, by default the config's.
      note: a sentence under the heading, such as whose the images are and what they allow.

    Raises:
      UserError: no images to show, a number of steps out of range, or a path that can't be written.
      NonFiniteError: the model gives no finite codes or images.
    """
    if not len(explored.images.pixels):
        raise UserError(f"--export has no images to show: {explored.images.note}; give some with --images")
    template = (importlib.resources.files("cldis_jax.explorer") / TEMPLATE).read_text()
    text = json.dumps(content(explored, num_steps, note)).replace("</", "<\\/")  # else a name could end the script
    page = template.replace(MARK, text).encode()
    with atomic(path) as file:
        file.write(page)
    return len(page)


def content(explored: Explored, num_steps: int | None = None, note: str = "") -> dict[str, Any]:
    """All that the page shows, as JSON values; pictures are data URIs."""
    bundle, order = explored.bundle, explored.order[:MOST_UNITS]
    found = naming.results(bundle.workdir, "evaluate.json")
    evaluated = {metric: scores for metric, scores in found.items() if metric != "settings"}
    steps = num_steps or bundle.config.diffusion.decode_steps
    notes = "".join(f". {text}" for text in (explored.images.note, note) if text)
    how = f"{steps} DDIM steps" if explored.axes.latent == "z_sem" else "the mean of the VAE's decoder"
    return {
        "title": epath.Path(bundle.workdir).name or "a model",
        "facts": f"{explored.axes.latent}, step {bundle.step:,}, decoded in {how}{notes}",
        "units": [explored.label(k) for k in order],
        "shifts": [round(float(shift), 2) for shift in SHIFTS],
        "side": bundle.image_shape[0],
        "images": list(_images(explored, order, steps)),
        "scores": _scores(evaluated),
        "samples": _samples(explored, steps),
        "command": f"python -m cldis_jax.explore --workdir={epath.Path(bundle.workdir).name}",
    }


def _images(explored: Explored, order: list[int], num_steps: int):
    """Of each image: itself, and one sprite with a row for each unit and a column for each shift."""
    editor = explored.editor(num_steps)
    code = editor.encode(explored.images.pixels)
    finite(code.z, explored.bundle, "codes")
    for i, name in enumerate(explored.images.names):
        one = code.take(slice(i, i + 1))
        moved = editor.traverse(one, explored.axes.steps[order], SHIFTS, f"image {i + 1}: moving every unit")[:, 0]
        finite(moved, explored.bundle, "rows of images")
        sprite = rearrange(visualize.to_uint8(moved), "k s h w c -> (k h) (s w) c")
        original = visualize.to_uint8(explored.images.pixels[i])
        yield {"name": name, "original": drawing.uri(original), "sprite": _small(sprite)}


def _scores(evaluated: dict[str, Any]) -> str:
    """The scores with their floors as HTML tables; empty if there are none."""
    found = []
    for title, header, lines in tables.each(evaluated):
        rows = [("th", header), *(("td", line) for line in lines)]
        body = "".join(
            f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>" for tag, cells in rows
        )
        found.append((f"<p>{html.escape(title)}</p>" if title else "") + f"<table>{body}</table>")
    return "".join(found)


def _samples(explored: Explored, num_steps: int) -> list[dict[str, str]]:
    """New images from each prior that suits the model."""
    try:
        priors = priors_of(explored.bundle)
    except UserError:
        return []
    found = []
    for name, prior in priors.items():
        images = visualize.to_uint8(sample(explored.bundle, NUM_SAMPLES, prior, num_steps=num_steps, latent_steps=50))
        found.append({"prior": name, "picture": _small(rearrange(images, "(r n) h w c -> (r h) (n w) c", r=2))})
    return found


def _small(picture: np.ndarray) -> str:
    """A JPEG with full colour resolution; WebP's half resolution blurs the edges of small pictures."""
    return drawing.uri(picture, "JPEG", quality=QUALITY, subsampling=0)
