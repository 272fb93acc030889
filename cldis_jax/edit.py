r"""Edit your own images through a trained model.

    python -m cldis_jax.edit --workdir=DIR --images=PHOTOS --out=OUT --traverse=all --animation=gif
    python -m cldis_jax.edit --workdir=DIR --images=a.jpg,b.png --out=OUT --set 3=+2.0,7=-1
    python -m cldis_jax.edit --workdir=DIR --out=OUT --interpolate a.jpg b.png
    python -m cldis_jax.edit --workdir=DIR --images=PHOTOS --out=OUT --reconstruct

Shifts are in standard deviations of z over the training data, or along the directions of a navigation with
--directions=DIR/navigation/directions.npz. Images may have any size and mode; results are PNGs of the model's size in
OUT, named after the input, and never replace an input.
"""

import sys
from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

from cldis_jax import api, cli, editing, pictures, report, visualize
from cldis_jax.data.folder import SUFFIXES, read_image

WORKDIR = cli.define_workdir()
IMAGES = flags.DEFINE_string("images", None, "image files with commas between, or a folder of them")
OUT = flags.DEFINE_string("out", None, "folder that receives the pictures")
TRAVERSE = flags.DEFINE_string("traverse", None, "all, or dimensions (directions) such as 3,7: a grid an image")
SET = flags.DEFINE_string("set", None, "shifts such as 3=+2.0,7=-1: one edited picture an image")
INTERPOLATE = flags.DEFINE_multi_string("interpolate", [], "two images: --interpolate A B, or A,B")
RECONSTRUCT = flags.DEFINE_bool("reconstruct", False, "reconstruct with inferred and with random x_T")
DIRECTIONS = flags.DEFINE_string("directions", None, "directions.npz of cldis_jax.navigate, in place of dimensions")
RANGE = flags.DEFINE_float("range", 2.5, "a traversal goes from minus to plus this many standard deviations")
COLUMNS = flags.DEFINE_integer("columns", 7, "pictures in a row of a traversal")
FRAMES = flags.DEFINE_integer("frames", 12, "pictures of an interpolation and of an animation")
ANIMATION = flags.DEFINE_enum("animation", None, ["gif", "webp"], "also animate traversals and interpolations")
NUM_STEPS = flags.DEFINE_integer("num_steps", None, "DDIM steps of decoding (default: the config's decode_steps)")
ENCODE_STEPS = flags.DEFINE_integer("encode_steps", 250, "DDIM steps of encoding to x_T [Diff-AE: 250]")
SEED = flags.DEFINE_integer("seed", 0, "of random x_T")

CELEBA_SIZE = (178, 218)  # the only images that a model with CelebA's crop was trained to see cropped so
ANIMATED_TILES = 5  # tiles in a row of an animated traversal


class Outputs:
    """The files to write in one folder; refuses, before any is written, a name that would replace an input."""

    def __init__(self, folder: str, inputs: list[Path]):
        self.folder = Path(folder).expanduser()
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"--out={folder} is a file, not a folder")
        self._inputs = {file.resolve() for file in inputs}
        self.written: list[str] = []

    def path(self, name: str) -> Path:
        path = self.folder / name
        if path.resolve() in self._inputs:
            raise ValueError(f"{path} would replace an input image; choose another --out")
        return path

    def png(self, name: str, picture: np.ndarray) -> None:
        visualize.save_png(self.path(name), picture)
        self.written.append(name)

    def animation(self, name: str, frames: list[np.ndarray]) -> None:
        visualize.save_animation(self.path(name), frames)
        self.written.append(name)


def find_images(text: str) -> list[Path]:
    """The files that --images names; raises ValueError for what is missing."""
    folder = Path(text).expanduser()
    if folder.is_dir():
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
        if not files:
            raise ValueError(f"--images={text}: no {', '.join(SUFFIXES)} file in this folder")
        return files
    return [_existing(folder)] if folder.is_file() else [_existing(Path(part).expanduser()) for part in text.split(",")]


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise ValueError(f"no image file {file}")
    return file


def read_images(files: list[Path], bundle: api.Bundle) -> np.ndarray:
    """Image files as the model reads them, [B, H, W, C] in [-1, 1]; raises ValueError for an unreadable one."""
    data = bundle.config.data
    images = []
    for file in files:
        try:
            crop = data.crop if _size(file) == CELEBA_SIZE else "center"
            images.append(read_image(file, data.image_size, data.channels, crop))
        except Exception as error:  # decoders raise whatever they like on damaged bytes
            raise ValueError(f"{file} can't be read as an image: {error}") from error
    return np.stack(images).astype(np.float32) / 127.5 - 1


def _size(file: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(file) as image:
        return image.size


def names_of(files: list[Path]) -> list[str]:
    """A name for each file's results: its stem, numbered where several files share it."""
    stems = [file.stem for file in files]
    return [f"{stem}_{i}" if stems.count(stem) > 1 else stem for i, stem in enumerate(stems)]


def load_steps(bundle: api.Bundle) -> tuple[np.ndarray, list[int], str]:
    """(what a shift of 1 adds to z [K, d], the order to show rows in, what a row is called)."""
    if not DIRECTIONS.value:
        steps = editing.latent_steps(bundle)
        return steps, list(range(len(steps))), "dimension"
    try:
        with np.load(DIRECTIONS.value) as file:
            directions, scales, ranking = (np.asarray(file[key]) for key in ("A", "scales", "ranking"))
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"--directions={DIRECTIONS.value} can't be read as cldis_jax.navigate's: {error}") from error
    steps = editing.direction_steps(directions, scales, bundle.config.model.latent_dim)
    return steps, [int(k) for k in ranking], "direction"


def tiled(images: np.ndarray, labels: list[str], title: str) -> np.ndarray:
    """One picture of K images [K, H, W, C] in rows of a few, each row labelled by its first and last."""
    columns = min(ANIMATED_TILES, len(images))
    rows = -(-len(images) // columns)
    blank = np.ones((rows * columns - len(images), *images.shape[1:]), np.float32)
    grid = np.concatenate([images, blank]).reshape(rows, columns, *images.shape[1:])
    parts = [labels[i : i + columns] for i in range(0, len(labels), columns)]
    return visualize.grid(
        grid, [part[0] if len(part) == 1 else f"{part[0]} .. {part[-1]}" for part in parts], [], title
    )


def write_traversals(editor, outputs, names, images, rows, steps, kind) -> None:
    shifts = np.linspace(-RANGE.value, RANGE.value, COLUMNS.value)
    labels = [f"{kind} {k}" for k in rows]
    for name, image in tqdm(list(zip(names, images)), "traversing", unit="image"):
        code = editor.encode(image[None])
        grid = editor.traverse(code, steps[rows], shifts)
        outputs.png(f"{name}_traverse.png", visualize.grid(grid, labels, [f"{s:+.3g} std" for s in shifts]))
        if ANIMATION.value:
            shifts_shown = np.linspace(-RANGE.value, RANGE.value, FRAMES.value)
            moving = editor.traverse(code, steps[rows], shifts_shown)
            frames = [tiled(moving[:, i], labels, f"{s:+.1f} std") for i, s in enumerate(shifts_shown)]
            outputs.animation(f"{name}_traverse.{ANIMATION.value}", frames)


def write_interpolation(editor, outputs, files, images) -> None:
    codes = [editor.encode(image[None]) for image in images]
    frames = editor.interpolate(*codes, FRAMES.value)
    name = f"{files[0].stem}_to_{files[1].stem}"
    shown = np.concatenate([images[:1], frames, images[1:]])
    labels = [files[0].stem, *(f"{w:.2f}" for w in np.linspace(0, 1, FRAMES.value)), files[1].stem]
    outputs.png(f"{name}.png", visualize.grid(shown[None], [], labels))
    if ANIMATION.value:
        outputs.animation(f"{name}.{ANIMATION.value}", [visualize.grid(frame[None, None]) for frame in frames])


def write_reconstructions(editor, outputs, names, images) -> dict[str, float]:
    kinds = editor.reconstructions(images, SEED.value)
    shown = np.stack(list(kinds.values()))[:, :16]
    outputs.png("reconstructions.png", visualize.grid(shown, list(kinds), names[:16]))
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


def pair_of_images() -> list[Path]:
    """The two files of --interpolate."""
    paths = INTERPOLATE.value
    paths = paths[0].split(",") if len(paths) == 1 else paths
    if len(paths) != 2:
        raise ValueError(f"--interpolate takes two images, got {len(paths)}: {', '.join(paths)}")
    return [_existing(Path(path).expanduser()) for path in paths]


def main() -> None:
    check_flags()
    files = find_images(IMAGES.value) if IMAGES.value else []
    pair = pair_of_images() if INTERPOLATE.value else []
    outputs = Outputs(OUT.value, files + pair)
    bundle = api.load(WORKDIR.value)
    steps, order, kind = load_steps(bundle)
    rows = editing.parse_rows(TRAVERSE.value, len(steps), kind) if TRAVERSE.value else []
    rows = order if TRAVERSE.value == "all" else rows
    shifts = editing.parse_shifts(SET.value, len(steps), kind) if SET.value else {}
    limit = bundle.config.diffusion.num_steps
    editor = editing.Editor(
        bundle, min(ENCODE_STEPS.value, limit), NUM_STEPS.value or bundle.config.diffusion.decode_steps
    )
    names = names_of(files)
    for name in names:  # before any work
        for ending in ("traverse.png", "set.png", "inferred_x_T.png", "random_x_T.png"):
            outputs.path(f"{name}_{ending}")
    images, pair_images = (read_images(f, bundle) if f else None for f in (files, pair))

    results = {"workdir": WORKDIR.value, "step": bundle.step, "inputs": [str(f) for f in files + pair]}
    results |= {"encode_steps": editor.encode_steps, "decode_steps": editor.decode_steps}
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
