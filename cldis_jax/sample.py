"""Draw new images: python -m cldis_jax.sample --workdir=runs/quickstart --num=64 [--prior=normal|latent].

`normal` draws z from N(0, I), the VAE's prior, which distillation makes z_sem mimic; `latent` draws it from the
diffusion prior of `cldis_jax.latent_prior`. x_T is N(0, I). Writes grids to WORKDIR/samples/ and WORKDIR/sample.json.
"""

import numpy as np
from absl import flags
from einops import rearrange
from etils import epath

from cldis_jax import api, cli
from cldis_jax.api.codes import finite
from cldis_jax.prior.sampling import priors_of, sample
from cldis_jax.runtime import files, report, visualize

WORKDIR = cli.define_workdir()
NUM = flags.DEFINE_integer("num", 64, "images from each prior", lower_bound=1)
PRIOR = flags.DEFINE_list("prior", None, "normal, latent or normal,latent (default: those that suit the model)")
NUM_STEPS = flags.DEFINE_integer(
    "num_steps", None, "DDIM steps of the images (default: the config's decode_steps)", lower_bound=1
)
LATENT_STEPS = flags.DEFINE_integer("latent_steps", 200, "DDIM steps of the latent prior [Diff-AE: 200]", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "seed of z and x_T", lower_bound=0)
INDIVIDUAL = flags.DEFINE_bool("individual", False, "also write each image as a PNG of its own size")


def picture(images: np.ndarray, title: str) -> np.ndarray:
    """A nearly square grid of images [num, H, W, C]."""
    columns = int(np.ceil(np.sqrt(len(images))))
    rows = -(-len(images) // columns)
    filled = np.concatenate([images, np.ones((rows * columns - len(images), *images.shape[1:]))])
    return visualize.grid(rearrange(filled, "(r c) h w ch -> r c h w ch", c=columns), title=title)


def main() -> None:
    cli.require(WORKDIR)
    results_file = epath.Path(WORKDIR.value) / "sample.json"
    bundle = api.load(WORKDIR.value)
    files.check_writable(results_file)
    num_steps = NUM_STEPS.value or bundle.config.diffusion.decode_steps
    results = {"step": bundle.step, "num": NUM.value, "num_steps": num_steps, "seed": SEED.value, "files": {}}
    folder, rows = epath.Path(WORKDIR.value) / "samples", []
    for name, prior in priors_of(bundle, PRIOR.value).items():
        if prior is not None:
            results["latent_prior"] = {"step": prior.step, "num_steps": LATENT_STEPS.value}
            learned = prior.config.codes.model_step
            if learned != bundle.step:
                print(f"note: the latent prior learned codes of step {learned}, the model is of step {bundle.step}")
        images = sample(bundle, NUM.value, prior, num_steps=num_steps, latent_steps=LATENT_STEPS.value, seed=SEED.value)
        finite(images, bundle, "samples")
        file = folder / f"{name}.png"
        visualize.save_png(file, picture(images, f"z from the {name} prior, step {bundle.step}"))
        if INDIVIDUAL.value:
            for earlier in (folder / name).glob("[0-9]*.png"):
                earlier.unlink()
            for i, image in enumerate(visualize.to_uint8(images)):
                visualize.save_png(folder / name / f"{i:05d}.png", image)
        results["files"][name] = str(file)
        rows.append((name, str(NUM.value), f"{images.std(axis=0).mean():.3f}", str(file)))
    report.write_json(results_file, results)
    print(report.table(rows, ("prior", "images", "deviation over them", "picture")))


if __name__ == "__main__":
    cli.run(main)
