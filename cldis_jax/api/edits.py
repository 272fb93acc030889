"""Edits of image files: what `cldis_jax.edit` writes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cldis_jax.api.bundle import Bundle
from cldis_jax.api.codes import finite
from cldis_jax.api.editor import Axes, Editor, parse_rows, parse_shifts
from cldis_jax.api.pictures import mean_squared_errors
from cldis_jax.data import files as image_files
from cldis_jax.runtime import report, visualize
from cldis_jax.runtime.errors import UserError
from cldis_jax.runtime.files import check_writable

ANIMATED_TILES = 5  # tiles in a row of an animated traversal
SHOWN = 16  # images in the contact sheet of reconstructions


def edit(
    bundle: Bundle,
    axes: Axes,
    images: Sequence[Path],
    out: str,
    *,
    traverse: str = "",
    shifts: str = "",
    interpolate: Sequence[Path] = (),
    reconstruct: bool = False,
    max_shift: float = 2.5,
    columns: int = 7,
    frames: int = 12,
    animation: str = "gif",
    encode_steps: int = 250,
    decode_steps: int | None = None,
    x_T: str = "inferred",
    seed: int = 0,
) -> dict[str, Any]:
    """Edit image files of any size and mode, and write pictures of the model's size with `edit.json` into `out`.

    Args:
      axes: those that `traverse` and `shifts` number: `api.axes(bundle, latent)`, or directions from a search.
      traverse: `all`, or axes such as `3,7`; writes one grid (and one animation) an image.
      shifts: such as `3=+2.0,7=-1`, in standard deviations; writes one edited picture an image.
      interpolate: two files; writes the interpolation between them.
      reconstruct: whether to write reconstructions with inferred and with random x_T.
      max_shift: a traversal goes from minus to plus this many standard deviations.
      columns, frames: pictures in a row of a traversal; pictures of an animation or interpolation.
      animation: gif | webp | none.
      encode_steps, decode_steps: DDIM steps, at most those of the diffusion; by default the config's `decode_steps`.
      x_T: of `traverse` and `shifts`: inferred from the image, or random.
      seed: of random x_T.

    Returns the content of `edit.json`: settings, `reconstruction_mse` by kind if asked for, and `files`.

    Raises:
      UserError: nothing to do, unknown axes, unreadable images, or a result that would replace an input.
    """
    if not (traverse or shifts or reconstruct or interpolate):
        raise UserError("nothing to do: give --traverse, --set, --interpolate or --reconstruct")
    if not images and (traverse or shifts or reconstruct):
        raise UserError("--images is required with --traverse, --set and --reconstruct")
    if len(interpolate) not in (0, 2):
        given = ", ".join(map(str, interpolate))
        raise UserError(f"--interpolate takes two images, got {len(interpolate)}: {given}")
    if not 0 < max_shift < np.inf:
        raise UserError(f"--range={max_shift} must be positive and finite")
    rows = parse_rows(traverse, axes) if traverse else []
    moves = parse_shifts(shifts, axes) if shifts else {}
    files, names = [*images, *interpolate], image_files.names(images)
    outputs = image_files.Outputs(out, files)
    endings = ("traverse.png", f"traverse.{animation}", "set.png", "inferred_x_T.png", "random_x_T.png")
    written = [f"{name}_{ending}" for name in names for ending in endings]
    for name in (*written, "reconstructions.png", f"{_pair_name(interpolate)}.png"):
        outputs.path(name)  # raises before any work
    check_writable(outputs.folder / "edit.json")

    data = bundle.config.data
    pixels = image_files.read(files, data.image_size, data.channels, data.crop)
    pixels, pair = pixels[: len(images)], pixels[len(images) :]
    encode_steps = min(encode_steps, bundle.config.diffusion.num_steps)
    editor = Editor(bundle, axes.latent, encode_steps, decode_steps or bundle.config.diffusion.decode_steps)
    results = {"workdir": bundle.workdir, "step": bundle.step, "latent": axes.latent, "encode_steps": encode_steps}
    results |= {"decode_steps": editor.decode_steps, "x_T": x_T, "inputs": [str(file) for file in files]}
    if traverse or shifts:
        code = editor.encode(pixels)
        finite(code.z, bundle, "codes")
        code = editor.with_random_x_T(code, seed) if x_T == "random" else code
    if traverse:
        spread = [np.linspace(-max_shift, max_shift, num) for num in (columns, frames)]
        for i, name in enumerate(tqdm(names, "traversing", unit="image", disable=None)):
            _write_traversal(editor, outputs, name, code.take(slice(i, i + 1)), axes, rows, *spread, animation)
    if shifts:
        for name, image in zip(names, visualize.to_uint8(editor.shifted(code, axes.steps, moves))):
            outputs.png(f"{name}_set.png", image)
    if interpolate:
        _write_interpolation(editor, outputs, interpolate, pair, frames, animation)
    if reconstruct:
        results["reconstruction_mse"] = _write_reconstructions(editor, outputs, names, pixels, seed)
    results["files"] = outputs.written
    report.write_json(outputs.folder / "edit.json", results)
    return results


def _write_traversal(editor, outputs, name, code, axes, rows, shifts, frame_shifts, animation) -> None:
    """A grid of one image moved along each of the axes `rows`, and the same as an animation."""
    labels = [f"{axes.kind} {k}" for k in rows]
    grid = editor.traverse(code, axes.steps[rows], shifts)[:, 0]
    outputs.png(f"{name}_traverse.png", visualize.grid(grid, labels, [f"{s:+.2g} std" for s in shifts]))
    if animation != "none":
        moving = editor.traverse(code, axes.steps[rows], frame_shifts)[:, 0]
        frames = [_tiled(moving[:, i], labels, f"{s:+.1f} std") for i, s in enumerate(frame_shifts)]
        outputs.animation(f"{name}_traverse.{animation}", frames)


def _write_interpolation(editor, outputs, files, images, num_frames, animation) -> None:
    """The interpolation between two images, as a strip and as an animation."""
    code = editor.encode(images)
    frames = editor.interpolate(code.take(slice(0, 1)), code.take(slice(1, 2)), num_frames)
    labels = [files[0].stem, *(f"{w:.2f}" for w in np.linspace(0, 1, num_frames)), files[1].stem]
    strip = np.concatenate([images[:1], frames, images[1:]])
    outputs.png(f"{_pair_name(files)}.png", visualize.grid(strip[None], [], labels))
    if animation != "none":
        outputs.animation(f"{_pair_name(files)}.{animation}", [visualize.grid(frame[None, None]) for frame in frames])


def _write_reconstructions(editor, outputs, names, images, seed) -> dict[str, float]:
    """A contact sheet, every reconstruction on its own, and the mean squared error of each kind."""
    kinds = editor.reconstruct(images, seed)
    sheet = np.stack(list(kinds.values()))[:, :SHOWN]
    outputs.png("reconstructions.png", visualize.grid(sheet, list(kinds), names[:SHOWN]))
    for kind, reconstructed in list(kinds.items())[1:]:
        for name, image in zip(names, visualize.to_uint8(reconstructed)):
            outputs.png(f"{name}_{kind.replace(' ', '_')}.png", image)
    return mean_squared_errors(kinds)


def _pair_name(files: Sequence[Path]) -> str:
    return "_to_".join(file.stem for file in files)


def _tiled(images: np.ndarray, labels: list[str], title: str) -> np.ndarray:
    """One picture of K images [K, H, W, C] in short rows, each labelled by its first and last image."""
    columns = min(ANIMATED_TILES, len(images))
    rows = -(-len(images) // columns)
    blank = np.ones((rows * columns - len(images), *images.shape[1:]), np.float32)
    grid = np.concatenate([images, blank]).reshape(rows, columns, *images.shape[1:])
    parts = [labels[i : i + columns] for i in range(0, len(labels), columns)]
    row_labels = [part[0] if len(part) == 1 else f"{part[0]} .. {part[-1]}" for part in parts]
    return visualize.grid(grid, row_labels, [], title)
