"""Draw new images: python -m cldis_jax.sample --workdir=runs/quickstart --num=64 [--prior=normal|latent].

`normal` draws z from N(0, I), the VAE's prior, which distillation makes z_sem mimic; `latent` draws it from the
diffusion prior of `cldis_jax.latent_prior`. x_T is N(0, I). Writes grids to WORKDIR/samples/ and WORKDIR/sample.json.
"""

import jax
import numpy as np
from absl import flags
from einops import rearrange
from etils import epath
from tqdm import tqdm

from cldis_jax import api, cli
from cldis_jax.api import pictures
from cldis_jax.prior import method as prior_method
from cldis_jax.runtime import report, visualize

WORKDIR = cli.define_workdir()
NUM = flags.DEFINE_integer("num", 64, "images from each prior")
PRIOR = flags.DEFINE_list("prior", None, "normal, latent or both, with a comma (default: those that the workdir has)")
NUM_STEPS = flags.DEFINE_integer("num_steps", None, "DDIM steps of the images (default: the config's decode_steps)")
LATENT_STEPS = flags.DEFINE_integer("latent_steps", 200, "DDIM steps of the latent prior [Diff-AE: 200]")
SEED = flags.DEFINE_integer("seed", 0, "of z and x_T")
INDIVIDUAL = flags.DEFINE_bool("individual", False, "also write each image as a PNG of its own size")

PRIORS = ("normal", "latent")
CHUNK = 16  # images decoded at once


def available_priors(bundle: api.Bundle, workdir: str) -> list[str]:
    """The priors that make sense for a model: N(0, I) where the VAE taught it, the latent one where it was trained."""
    distilled = not bundle.has_diffusion or (bundle.has_vae and bundle.config.distillation.weight > 0)
    names = ["normal"] * distilled + ["latent"] * (bundle.has_diffusion and prior_method.exists(workdir))
    if not names:
        raise ValueError(
            f"{workdir} holds a Diff-AE that was not distilled, so that N(0, I) is not its prior; train one with "
            f"python -m cldis_jax.latent_prior --workdir={workdir}, or insist with --prior=normal"
        )
    return names


def decode(bundle: api.Bundle, z: np.ndarray, num_steps: int, seed: int) -> np.ndarray:
    """Images [num, H, W, C] of codes [num, d], at random x_T; of a VAE alone, the decoder's means."""
    if not bundle.has_diffusion:
        return np.asarray(bundle.decode_vae(z))
    x_T = pictures.random_noise(bundle, len(z), seed)
    chunks = [
        pictures.decode_in_chunks(bundle, x_T[i : i + CHUNK], z[i : i + CHUNK], num_steps, CHUNK)
        for i in tqdm(range(0, len(z), CHUNK), "decoding", unit="batch", disable=None)
    ]
    return np.concatenate(chunks)


def picture(images: np.ndarray, title: str) -> np.ndarray:
    """A grid, as square as can be, of images [num, H, W, C]."""
    columns = int(np.ceil(np.sqrt(len(images))))
    rows = -(-len(images) // columns)
    filled = np.concatenate([images, np.ones((rows * columns - len(images), *images.shape[1:]))])
    return visualize.grid(rearrange(filled, "(r c) h w ch -> r c h w ch", c=columns), title=title)


def main() -> None:
    cli.require(WORKDIR)
    workdir = WORKDIR.value
    for flag in (NUM, NUM_STEPS, LATENT_STEPS):
        if flag.value is not None and flag.value < 1:
            raise ValueError(f"--{flag.name}={flag.value} must be at least 1")
    if unknown := sorted(set(PRIOR.value or ()) - set(PRIORS)):
        raise ValueError(f"--prior={','.join(unknown)} is not one of: {', '.join(PRIORS)}")
    bundle = api.load(workdir)
    names = PRIOR.value or available_priors(bundle, workdir)
    if "latent" in names and not bundle.has_diffusion:
        raise ValueError(f"{workdir} holds a VAE alone, whose prior is N(0, I): use --prior=normal")
    prior = prior_method.load(workdir) if "latent" in names else None
    num_steps = NUM_STEPS.value or bundle.config.diffusion.decode_steps

    results = {"step": bundle.step, "num": NUM.value, "num_steps": num_steps, "seed": SEED.value, "files": {}}
    folder, rows = epath.Path(workdir) / "samples", []
    shape = (NUM.value, bundle.config.model.latent_dim)
    for name in names:
        key = jax.random.key(SEED.value + 1)  # not the key of x_T
        if name == "normal":
            z = np.asarray(jax.random.normal(key, shape))
        else:
            z = np.asarray(prior.sample(key, NUM.value, LATENT_STEPS.value))
            results["latent_prior"] = {"step": prior.step, "num_steps": LATENT_STEPS.value}
            if prior.config.codes.model_step != bundle.step:
                print(
                    f"note: the latent prior learned codes of step {prior.config.codes.model_step}, "
                    f"the model has gone on to step {bundle.step}"
                )
        images = decode(bundle, z, num_steps, SEED.value)
        file = folder / f"{name}.png"
        visualize.save_png(file, picture(images, f"z from the {name} prior, step {bundle.step}"))
        if INDIVIDUAL.value:
            for i, image in enumerate(visualize.to_uint8(images)):
                visualize.save_png(folder / name / f"{i:05d}.png", image)
        results["files"][name] = str(file)
        rows.append((name, str(NUM.value), f"{images.std(axis=0).mean():.3f}", str(file)))
    report.write_json(epath.Path(workdir) / "sample.json", results)
    print(report.table(rows, ("prior", "images", "deviation over them", "picture")))


if __name__ == "__main__":
    cli.run(main)
