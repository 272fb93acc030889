r"""Look at a model in a browser, move it, understand it.

    python -m cldis_jax.explore --workdir=DIR [--images=PHOTOS] [--port=7860]
    python -m cldis_jax.explore --workdir=DIR --compare=DIR2
    python -m cldis_jax.explore --workdir=DIR --export=page.html

Opens a local page (extra `[explore]`): sliders for the units of z, traversals, samples, neighbours, scores, curves.
PHOTOS is a folder, a zip file or a list of images; without it the page shows held-out images of the model's data.
With --export it writes one file that anybody can open, without a server, and ends. The page reads only what these
flags name.
"""

from absl import flags

from cldis_jax import api, cli
from cldis_jax.data import files
from cldis_jax.explorer import serving, static_page
from cldis_jax.explorer.model import NUM_SHOWN, explored
from cldis_jax.navigation.results import Directions
from cldis_jax.runtime.errors import UserError
from cldis_jax.runtime.files import check_writable

WORKDIR = cli.define_model()
IMAGES = flags.DEFINE_string("images", None, "images to start from: files, folders or zip files, separated by commas")
DIRECTIONS = flags.DEFINE_string("directions", None, "directions.npz of cldis_jax.navigate, in place of units")
LATENT = flags.DEFINE_enum("latent", None, api.LATENTS, "default: z_sem; z_disen for a VAE alone")
COMPARE = flags.DEFINE_string("compare", None, "a second workdir, shown beside the first on the same image")
EXPORT = flags.DEFINE_string("export", None, "write one HTML file in place of a server")
NUM_IMAGES = flags.DEFINE_integer("num_images", 4, "images in the file of --export", lower_bound=1)
NUM_STEPS = flags.DEFINE_integer("num_steps", None, "DDIM steps of --export (default: the config's decode_steps)")
NOTE = flags.DEFINE_string("note", "", "a sentence on the page of --export: whose the images are, what they allow")
PORT = flags.DEFINE_integer("port", None, "port of the page (default: a free one from 7860 up)", 1, 65535)
HOST = flags.DEFINE_string("host", serving.LOOPBACK, "addresses to serve; 0.0.0.0 shows the page to the whole network")


def main() -> None:
    cli.require(WORKDIR)
    useless = (COMPARE, PORT, HOST) if EXPORT.value else (NUM_IMAGES, NUM_STEPS, NOTE)
    for flag in useless:
        if flag.present:
            raise UserError(f"--{flag.name} does nothing {'with' if EXPORT.value else 'without'} --export")
    if EXPORT.value:
        check_writable(EXPORT.value)
    images = files.find(IMAGES.value) if IMAGES.value else []
    bundle = cli.load()
    if DIRECTIONS.value:
        axes = Directions.load(DIRECTIONS.value, bundle, LATENT.value).axes
    else:
        axes = api.axes(bundle, LATENT.value or bundle.main_latent)
    shown = NUM_IMAGES.value if EXPORT.value else NUM_SHOWN
    first = explored(bundle, images, axes=axes, directions=DIRECTIONS.value or "", num_images=shown)
    if EXPORT.value:
        size = static_page.write(EXPORT.value, first, num_steps=NUM_STEPS.value, note=NOTE.value)
        print(f"{EXPORT.value}: {size / 1e6:.1f} MB, one file, to open in any browser")
        return
    second = None
    if COMPARE.value:
        other = api.load(COMPARE.value, data_path=flags.FLAGS.data_path, data_dir=flags.FLAGS.data_dir)
        second = explored(other, axes=api.axes(other, LATENT.value or other.main_latent))
    serving.serve(first, second, host=HOST.value, port=PORT.value)


if __name__ == "__main__":
    cli.run(main)
