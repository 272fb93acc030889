r"""Baseline: Diff-AE alone (Preechakul et al. 2022, arXiv 2111.15640), its ffhq256 network, z_sem of 512.

    python -m cldis_jax.main --config=configs/diffae_ffhq256.py --config.data.path=IMAGES \
        --workdir=runs/diffae_ffhq256

A TPU v4-32 or 8 GPUs (the reference: 8x V100). The reference's recipe: 100M images at batch 64, Adam 1e-4, no warm-up,
EMA 0.9999. Not run by us.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import default


def get_config() -> ConfigDict:
    config = default.get_config()
    config.data.source = "folder"
    config.data.image_size = 256
    config.data.batch_size = 64
    config.data.flip = True
    config.data.threads = 8
    config.data.prefetch = 16
    config.model.latent_dim = 512
    config.model.base_channels = 128
    config.model.channel_multipliers = (1, 1, 2, 2, 4, 4)
    config.model.encoder_multipliers = (1, 1, 2, 2, 4, 4, 4)
    config.vae.weight = 0.0
    config.distillation.weight = 0.0
    config.train.clip_scope = "global"
    config.train.steps = 1_563_562
    return config
