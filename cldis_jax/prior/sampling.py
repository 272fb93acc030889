"""New images: z from a prior, x_T from N(0, I)."""

from collections.abc import Sequence

import jax
import numpy as np

from cldis_jax import api
from cldis_jax.prior import store
from cldis_jax.prior.method import LatentPrior
from cldis_jax.runtime.errors import UserError

PRIORS = ("normal", "latent")


def priors_of(bundle: api.Bundle, asked: Sequence[str] | None = None) -> dict[str, LatentPrior | None]:
    """The priors of z by name: `normal` is N(0, I), here None, and `latent` the diffusion prior of the model's workdir.

    Args:
      asked: names. By default `normal` if z_sem was distilled from the VAE, or for a VAE alone, and `latent` if one was
        trained.

    Raises:
      UserError: an unknown name, a prior that the model does not have, or no prior that suits it.
    """
    workdir = bundle.workdir
    if unknown := sorted(set(asked or ()) - set(PRIORS)):
        raise UserError(f"--prior={','.join(unknown)} is not one of: {', '.join(PRIORS)}")
    if not asked:
        distilled = not bundle.has_diffusion or (bundle.has_vae and bundle.config.distillation.weight > 0)
        asked = ["normal"] * distilled + ["latent"] * (bundle.has_diffusion and store.exists(workdir))
    if not asked:
        raise UserError(
            f"{workdir} holds a Diff-AE that was not distilled, so that N(0, I) is not its prior; train one with "
            f"python -m cldis_jax.latent_prior --workdir={workdir}, or use --prior=normal all the same"
        )
    if "latent" in asked and not bundle.has_diffusion:
        raise UserError(f"{workdir} holds a VAE alone, whose prior is N(0, I): use --prior=normal")
    return {name: store.load(workdir) if name == "latent" else None for name in asked}


def sample(
    bundle: api.Bundle,
    num: int,
    prior: LatentPrior | None = None,
    *,
    num_steps: int | None = None,
    latent_steps: int = 200,
    seed: int = 0,
) -> np.ndarray:
    """New images [num, H, W, C]; for a VAE alone, the means of its decoder.

    Args:
      prior: of z; None is N(0, I).
      num_steps: DDIM steps of the images (default: the config's `decode_steps`).
      latent_steps: DDIM steps of the prior.
      seed: of z and x_T.

    Raises:
      UserError: a number of steps out of range.
    """
    key = jax.random.key(seed + 1)  # another key than that of x_T
    if prior is None:
        z = jax.random.normal(key, (num, bundle.config.model.latent_dim))
    else:
        z = prior.sample(key, num, latent_steps)
    editor = api.Editor(bundle, bundle.main_latent, decode_steps=num_steps)
    return editor.generate(np.asarray(z), seed, "decoding")
