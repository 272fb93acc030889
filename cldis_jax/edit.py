r"""Edit your own images through a trained model.

    python -m cldis_jax.edit --workdir=DIR --images=PHOTOS --out=OUT --traverse=all --animation=gif
    python -m cldis_jax.edit --workdir=DIR --images=a.jpg,b.png --out=OUT --set 3=+2.0,7=-1
    python -m cldis_jax.edit --workdir=DIR --out=OUT --interpolate a.jpg b.png
    python -m cldis_jax.edit --workdir=DIR --images=PHOTOS --out=OUT --reconstruct

Shifts are in standard deviations of z over the training data, along its units or, with
--directions=DIR/navigation/directions.npz, along directions that `cldis_jax.navigate` found. PHOTOS is a folder
or a zip file of images of any size and mode; `photos.zip/a.jpg` is one of a zip file. Results are pictures of the
model's size in OUT, named after the input; they never replace an input.
"""

import sys

from absl import flags

from cldis_jax import api, cli
from cldis_jax.api.edits import edit
from cldis_jax.data import files
from cldis_jax.navigation.results import Directions
from cldis_jax.runtime import report

WORKDIR = cli.define_workdir()
IMAGES = flags.DEFINE_string("images", None, "images, folders or zip files of them, separated by commas")
OUT = flags.DEFINE_string("out", None, "folder that receives the pictures")
TRAVERSE = flags.DEFINE_string("traverse", "", "all, or units (directions) such as 3,7; writes a grid an image")
SET = flags.DEFINE_string("set", "", "shifts such as 3=+2.0,7=-1; writes one edited picture an image")
INTERPOLATE = flags.DEFINE_multi_string("interpolate", [], "two images: --interpolate A B, or A,B")
RECONSTRUCT = flags.DEFINE_bool("reconstruct", False, "reconstruct with inferred and with random x_T")
LATENT = flags.DEFINE_enum("latent", None, api.LATENTS, "default: z_sem; z_disen for a VAE alone")
DIRECTIONS = flags.DEFINE_string("directions", None, "directions.npz of cldis_jax.navigate, in place of units")
RANGE = flags.DEFINE_float("range", 2.5, "a traversal goes from minus to plus this many standard deviations")
COLUMNS = flags.DEFINE_integer("columns", 7, "pictures in a row of a traversal", lower_bound=2)
FRAMES = flags.DEFINE_integer("frames", 12, "pictures of an interpolation and of an animation", lower_bound=2)
ANIMATION = flags.DEFINE_enum("animation", "gif", ["gif", "webp", "none"], "format for traversals and interpolations")
NUM_STEPS = flags.DEFINE_integer(
    "num_steps", None, "DDIM steps of decoding (default: the config's decode_steps)", lower_bound=1
)
ENCODE_STEPS = flags.DEFINE_integer("encode_steps", 250, "DDIM steps of encoding [Diff-AE: 250]", lower_bound=1)
X_T = flags.DEFINE_enum("x_T", "inferred", ["inferred", "random"], "x_T of --traverse and --set")
SEED = flags.DEFINE_integer("seed", 0, "seed of random x_T", lower_bound=0)


def main() -> None:
    for flag in (WORKDIR, OUT):
        cli.require(flag)
    images = files.find(IMAGES.value) if IMAGES.value else []
    pair = INTERPOLATE.value
    pair = [files.existing(path) for path in (pair[0].split(",") if len(pair) == 1 else pair)]
    bundle = api.load(WORKDIR.value)
    if DIRECTIONS.value:
        axes = Directions.load(DIRECTIONS.value, bundle, LATENT.value).axes
    else:
        axes = api.axes(bundle, LATENT.value or bundle.main_latent)
    results = edit(
        bundle,
        axes,
        images,
        OUT.value,
        traverse=TRAVERSE.value,
        shifts=SET.value,
        interpolate=pair,
        reconstruct=RECONSTRUCT.value,
        max_shift=RANGE.value,
        columns=COLUMNS.value,
        frames=FRAMES.value,
        animation=ANIMATION.value,
        encode_steps=ENCODE_STEPS.value,
        decode_steps=NUM_STEPS.value,
        x_T=X_T.value,
        seed=SEED.value,
    )
    errors = [(f"MSE, {name}", f"{value:.5f}") for name, value in results.get("reconstruction_mse", {}).items()]
    print(report.table([*errors, *((name, "written") for name in results["files"])], (OUT.value, "")))


def split_pair(argv: list[str]) -> list[str]:
    """Write `--interpolate A B` as `--interpolate=A --interpolate=B`, which absl accepts."""
    for i, argument in enumerate(argv[:-2]):
        if argument == "--interpolate" and not any(path.startswith("--") for path in argv[i + 1 : i + 3]):
            return [*argv[:i], *(f"--interpolate={path}" for path in argv[i + 1 : i + 3]), *argv[i + 3 :]]
    return argv


if __name__ == "__main__":
    sys.argv = split_pair(sys.argv)
    cli.run(main)
