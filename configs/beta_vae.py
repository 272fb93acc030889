"""Baseline: the beta-VAE alone with C = 0, on rendered scenes. Other sets: --config.data.source=SOURCE.

    python -m cldis_jax.main --config=configs/beta_vae.py --workdir=runs/beta_vae
    python -m cldis_jax.main --config=configs/beta_vae.py:cpu --workdir=runs/beta_vae_cpu

The first trains at 64 px on one GPU; not run by us. The second trains at 32 px on two CPU cores. Expect a DCI of
z_disen of .28 (three seeds, docs/studies/cpu). Sizes: configs/small_images.py.

For an annealed capacity add --config.feedback.mode=anneal --config.feedback.max_capacity=25.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import scenes


def get_config(argument: str = "full") -> ConfigDict:
    config = scenes.get_config(argument)
    config.diffusion.weight = 0.0
    config.distillation.weight = 0.0
    config.vae.weight = 1.0
    config.vae.capacity_form = "absolute"
    config.vae.beta = config.vae.beta_min = 4.0
    config.vae.antithetic = False
    config.feedback.mode = "fixed"
    config.feedback.swap_probability = 0.0
    config.feedback.lead_capacity = config.feedback.max_capacity = 0.0  # C = 0: the plain beta-VAE
    return config
