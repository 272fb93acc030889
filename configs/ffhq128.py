"""CL-Dis on ffhq128, 128x128, from a folder of images; the network of Diff-AE's ffhq128.

    python -m cldis_jax.main --config=configs/ffhq128.py --config.data.path=IMAGES --workdir=runs/ffhq128

A TPU v4-16 or 8 GPUs (Diff-AE's own run: 4x V100). Not run by us.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import celeba, diffae_ffhq128


def get_config() -> ConfigDict:
    return close_loop(diffae_ffhq128.get_config())


def close_loop(config: ConfigDict) -> ConfigDict:
    """A Diff-AE's config with the closed loop of configs/celeba.py around it."""
    closed = celeba.get_config()
    for branch in ("vae", "distillation", "feedback"):
        config[branch] = closed[branch]
    config.model.latent_dim = closed.model.latent_dim
    config.train.clip_scope = closed.train.clip_scope
    return config
