"""What training shows: its curves, and labelled grids of reconstructions and traversals."""

from collections.abc import Iterator

import numpy as np

from cldis_jax.api.bundle import LATENTS, Bundle
from cldis_jax.api.editor import Editor, axes
from cldis_jax.runtime import visualize

BATCH = 8  # one size that fits any machine, so that a run compiles few programs
MOST_TRAVERSED = 16  # units in a picture; z_sem may have hundreds
CURVES = {  # the scalars of a training, by panel
    "L_diff": ("L_diff",),
    "L_dt, L_ind": ("L_dt", "L_ind"),
    "VAE": ("L_vae", "vae/reconstruction"),
    "capacity C and KL (nats)": ("vae/capacity", "vae/kl"),
    "use of z, progress": ("feedback/z_gain", "feedback/z_gain_zero", "feedback/progress"),
}
TRAVERSAL_STDS = (-2.5, -1.5, -0.75, 0.0, 0.75, 1.5, 2.5)  # shifts, in standard deviations of the latent


def reconstructions(bundle: Bundle, images: np.ndarray, num_steps: int) -> dict[str, np.ndarray]:
    """The images and each way to reconstruct them, by label, each [B, H, W, C]."""
    rows = {"original": np.asarray(images)}
    if bundle.has_diffusion:
        found = Editor(bundle, "z_sem", num_steps, num_steps, BATCH).reconstruct(images)
        rows |= {f"z_sem, {kind}": found[kind] for kind in ("random x_T", "inferred x_T")}
    if bundle.has_vae:
        rows |= Editor(bundle, "z_disen", batch=BATCH).reconstruct(images)
    return rows


def mean_squared_errors(rows: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean squared error on [0, 1] of each kind of reconstruction against the originals."""
    return {
        name: float(np.mean(np.square((rows["original"] - row) / 2)))
        for name, row in rows.items()
        if name != "original"
    }


def training_pictures(bundle: Bundle, images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """(name, uint8 picture) of every picture, for a few images [B, H, W, C]."""
    rows = reconstructions(bundle, images, bundle.config.diffusion.decode_steps)
    yield "reconstructions", visualize.grid(np.stack(list(rows.values())), list(rows), title=f"step {bundle.step}")
    columns = [f"{s:+g} std" for s in TRAVERSAL_STDS]
    for latent in filter(bundle.has, LATENTS):
        editor, steps = Editor(bundle, latent, batch=BATCH), axes(bundle, latent).steps
        order = np.argsort(-steps.diagonal(), kind="stable")[:MOST_TRAVERSED]  # the most variable first
        traversals = editor.traverse(editor.encode(np.asarray(images)[:1]), steps[order], TRAVERSAL_STDS)[:, 0]
        labels = [f"{latent}[{i}]" for i in order]
        yield f"traversals_{latent}", visualize.grid(traversals, labels, columns, f"step {bundle.step}")
