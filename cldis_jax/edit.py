r"""Edit your own images through a trained model.

    python -m cldis_jax.edit --workdir=DIR --images=PHOTOS --out=OUT --traverse=all --animation=gif
    python -m cldis_jax.edit --workdir=DIR --images=a.jpg,b.png --out=OUT --set 3=+2.0,7=-1
    python -m cldis_jax.edit --workdir=DIR --out=OUT --interpolate a.jpg b.png
    python -m cldis_jax.edit --workdir=DIR --images=PHOTOS --out=OUT --reconstruct

Shifts are in standard deviations of z over the training data, along its dimensions or, with
--directions=DIR/navigation/directions.npz, along the directions of a navigation. Images may have any size and mode;
results are pictures of the model's size in OUT, named after the input, and never replace an input.
"""

import sys

import numpy as np
from absl import flags
from tqdm import tqdm

from cldis_jax import api, cli
from cldis_jax.api import editor as editing
from cldis_jax.api import pictures
from cldis_jax.data import files as image_files
from cldis_jax.navigation import results as navigation_results
from cldis_jax.runtime import report, visualize

WORKDIR = cli.define_workdir()
IMAGES = flags.DEFINE_string("images", None, "image files with commas between, or a folder of them")
OUT = flags.DEFINE_string("out", None, "folder that receives the pictures")
TRAVERSE = flags.DEFINE_string("traverse", None, "all, or dimensions (directions) such as 3,7: a grid an image")
SET = flags.DEFINE_string("set", None, "shifts such as 3=+2.0,7=-1: one edited picture an image")
INTERPOLATE = flags.DEFINE_multi_string("interpolate", [], "two images: --interpolate A B, or A,B")
RECONSTRUCT = flags.DEFINE_bool("reconstruct", False, "reconstruct with inferred and with random x_T")
LATENT = flags.DEFINE_enum("latent", None, api.LATENTS, "default: z_sem; z_disen for a VAE alone")
DIRECTIONS = flags.DEFINE_string("directions", None, "directions.npz of cldis_jax.navigate, in place of dimensions")
RANGE = flags.DEFINE_float("range", 2.5, "a traversal goes from minus to plus this many standard deviations")
COLUMNS = flags.DEFINE_integer("columns", 7, "pictures in a row of a traversal")
FRAMES = flags.DEFINE_integer("frames", 12, "pictures of an interpolation and of an animation")
ANIMATION = flags.DEFINE_enum("animation", "gif", ["gif", "webp", "none"], "of traversals and interpolations")
NUM_STEPS = flags.DEFINE_integer("num_steps", None, "DDIM steps of decoding (default: the config's decode_steps)")
ENCODE_STEPS = flags.DEFINE_integer("encode_steps", 250, "DDIM steps of encoding to x_T [Diff-AE: 250]")
SEED = flags.DEFINE_integer("seed", 0, "of random x_T")

ANIMATED_TILES = 5  # tiles in a row of an animated traversal
SHOWN = 16  # images in the contact sheet of reconstructions


def load_steps(bundle: api.Bundle) -> tuple[np.ndarray, list[int], str, str]:
    """(what a shift of 1 adds to z [K, d], the order to show rows in, what a row is called, which latent z is)."""
    if not DIRECTIONS.value:
        latent = LATENT.value or bundle.main_latent
        steps = editing.latent_steps(bundle, latent)
        return steps, list(range(len(steps))), "dimension", latent
    found = navigation_results.Directions.load(DIRECTIONS.value, bundle)
    if found.latent != (LATENT.value or found.latent):
        raise ValueError(f"--latent={LATENT.value}, but --directions={DIRECTIONS.value} are of {found.latent}")
    steps = editing.direction_steps(found.A, found.scales, bundle.config.model.latent_dim)
    return steps, found.ranking.tolist(), "direction", found.latent


def tiled(images: np.ndarray, labels: list[str], title: str) -> np.ndarray:
    """One picture of K images [K, H, W, C] in rows of a few, each row labelled by its first and last."""
    columns = min(ANIMATED_TILES, len(images))
    rows = -(-len(images) // columns)
    blank = np.ones((rows * columns - len(images), *images.shape[1:]), np.float32)
    grid = np.concatenate([images, blank]).reshape(rows, columns, *images.shape[1:])
    parts = [labels[i : i + columns] for i in range(0, len(labels), columns)]
    rows = [part[0] if len(part) == 1 else f"{part[0]} .. {part[-1]}" for part in parts]
    return visualize.grid(grid, rows, [], title)


def write_traversals(editor, outputs, names, images, rows, steps, kind) -> None:
    shifts, frame_shifts = (np.linspace(-RANGE.value, RANGE.value, n) for n in (COLUMNS.value, FRAMES.value))
    labels = [f"{kind} {k}" for k in rows]
    for name, image in tqdm(list(zip(names, images)), "traversing", unit="image", disable=None):
        code = editor.encode(image[None])
        grid = editor.traverse(code, steps[rows], shifts)
        outputs.png(f"{name}_traverse.png", visualize.grid(grid, labels, [f"{s:+.2g} std" for s in shifts]))
        if ANIMATION.value != "none":
            moving = editor.traverse(code, steps[rows], frame_shifts)
            frames = [tiled(moving[:, i], labels, f"{s:+.1f} std") for i, s in enumerate(frame_shifts)]
            outputs.animation(f"{name}_traverse.{ANIMATION.value}", frames)


def interpolation_name(pair) -> str:
    return f"{pair[0].stem}_to_{pair[1].stem}"


def write_interpolation(editor, outputs, pair, images) -> None:
    frames = editor.interpolate(*(editor.encode(image[None]) for image in images), FRAMES.value)
    shown = np.concatenate([images[:1], frames, images[1:]])
    labels = [pair[0].stem, *(f"{w:.2f}" for w in np.linspace(0, 1, FRAMES.value)), pair[1].stem]
    outputs.png(f"{interpolation_name(pair)}.png", visualize.grid(shown[None], [], labels))
    if ANIMATION.value != "none":
        animated = [visualize.grid(frame[None, None]) for frame in frames]
        outputs.animation(f"{interpolation_name(pair)}.{ANIMATION.value}", animated)


def write_reconstructions(editor, outputs, names, images) -> dict[str, float]:
    kinds = editor.reconstructions(images, SEED.value)
    sheet = np.stack(list(kinds.values()))[:, :SHOWN]
    outputs.png("reconstructions.png", visualize.grid(sheet, list(kinds), names[:SHOWN]))
    for kind, reconstructed in list(kinds.items())[1:]:
        for name, image in zip(names, visualize.to_uint8(reconstructed)):
            outputs.png(f"{name}_{kind.replace(' ', '_')}.png", image)
    return pictures.mean_squared_errors(kinds)


def check_flags() -> None:
    for flag in (WORKDIR, OUT):
        cli.require(flag)
    if not (TRAVERSE.value or SET.value or RECONSTRUCT.value or INTERPOLATE.value):
        raise ValueError("nothing to do: give --traverse, --set, --interpolate or --reconstruct")
    if TRAVERSE.value or SET.value or RECONSTRUCT.value:
        cli.require(IMAGES)
    for flag, least in ((COLUMNS, 2), (FRAMES, 2), (ENCODE_STEPS, 1), (NUM_STEPS, 1)):
        if flag.value is not None and flag.value < least:
            raise ValueError(f"--{flag.name}={flag.value} must be at least {least}")
    if not 0 < RANGE.value < np.inf:
        raise ValueError(f"--range={RANGE.value} must be positive and finite")


def pair_of_images() -> list:
    """The two files of --interpolate."""
    paths = INTERPOLATE.value
    paths = paths[0].split(",") if len(paths) == 1 else paths
    if len(paths) != 2:
        raise ValueError(f"--interpolate takes two images, got {len(paths)}: {', '.join(paths)}")
    return [image_files.existing(path) for path in paths]


def main() -> None:
    check_flags()
    files = image_files.find(IMAGES.value) if IMAGES.value else []
    pair = pair_of_images() if INTERPOLATE.value else []
    names = image_files.names(files)
    outputs = image_files.Outputs(OUT.value, files + pair)
    bundle = api.load(WORKDIR.value)
    steps, order, kind, latent = load_steps(bundle)
    shifts = editing.parse_shifts(SET.value, len(steps), kind) if SET.value else {}
    rows = editing.parse_rows(TRAVERSE.value, len(steps), kind) if TRAVERSE.value else []
    rows = order if TRAVERSE.value == "all" else rows
    data, diffusion = bundle.config.data, bundle.config.diffusion
    images, pair_images = (
        image_files.read(f, data.image_size, data.channels, data.crop) if f else None for f in (files, pair)
    )
    for ending in ("traverse.png", f"traverse.{ANIMATION.value}", "set.png", "inferred_x_T.png", "random_x_T.png"):
        for name in names:
            outputs.path(f"{name}_{ending}")
    for name in ["reconstructions.png", *([f"{interpolation_name(pair)}.png"] if pair else [])]:
        outputs.path(name)

    encode_steps = min(ENCODE_STEPS.value, diffusion.num_steps)
    editor = editing.Editor(bundle, latent, encode_steps, NUM_STEPS.value or diffusion.decode_steps)
    results = {"workdir": WORKDIR.value, "step": bundle.step, "latent": latent}
    results |= {"encode_steps": encode_steps, "decode_steps": editor.decode_steps}
    results |= {"inputs": [str(file) for file in files + pair]}
    if TRAVERSE.value:
        write_traversals(editor, outputs, names, images, rows, steps, kind)
    if SET.value:
        edited = editor.shifted(editor.encode(images), steps, shifts)
        for name, image in zip(names, visualize.to_uint8(edited)):
            outputs.png(f"{name}_set.png", image)
    if INTERPOLATE.value:
        write_interpolation(editor, outputs, pair, pair_images)
    if RECONSTRUCT.value:
        results["reconstruction_mse"] = write_reconstructions(editor, outputs, names, images)
    report.write_json(outputs.folder / "edit.json", results | {"files": outputs.written})
    errors = [(f"MSE, {name}", f"{value:.5f}") for name, value in results.get("reconstruction_mse", {}).items()]
    print(report.table([*errors, *((name, "written") for name in outputs.written)], (str(outputs.folder), "")))


def split_pair(argv: list[str]) -> list[str]:
    """`--interpolate A B` as absl takes it: the flag once for each image."""
    for i, argument in enumerate(argv[:-2]):
        if argument == "--interpolate" and not any(path.startswith("--") for path in argv[i + 1 : i + 3]):
            return [*argv[:i], *(f"--interpolate={path}" for path in argv[i + 1 : i + 3]), *argv[i + 3 :]]
    return argv


if __name__ == "__main__":
    sys.argv = split_pair(sys.argv)
    cli.run(main)
