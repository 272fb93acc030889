r"""Baseline: Diff-AE alone (Preechakul et al. 2022, arXiv 2111.15640), its ffhq128 network, z_sem of 512.

    python -m cldis_jax.main --config=configs/diffae_ffhq128.py --config.data.path=IMAGES \
        --workdir=runs/diffae_ffhq128

A TPU v4-16 or 8 GPUs (the reference: 4x V100). The reference's recipe: 130M images at batch 128, Adam 1e-4, no warm-up,
EMA 0.9999. Not run by us.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import default


def get_config() -> ConfigDict:
    config = default.get_config()
    config.data.source = "folder"
    config.data.image_size = 128
    config.data.flip = True
    config.data.threads = 8
    config.data.prefetch = 16
    config.model.latent_dim = 512
    config.model.base_channels = 128
    config.model.channel_multipliers = (1, 1, 2, 3, 4)
    config.model.encoder_multipliers = (1, 1, 2, 3, 4, 4)
    config.vae.weight = 0.0
    config.distillation.weight = 0.0
    config.train.clip_scope = "global"
    config.train.steps = 1_015_625
    return config
