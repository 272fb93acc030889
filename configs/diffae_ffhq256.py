r"""Baseline: Diff-AE alone (Preechakul et al. 2022, arXiv 2111.15640), its ffhq256 network, z_sem of 512.

    python -m cldis_jax.main --config=configs/diffae_ffhq256.py --config.data.path=IMAGES \
        --workdir=runs/diffae_ffhq256

A TPU v4-32 or 8 GPUs (the reference: 8x V100). The reference's recipe: batch 64, Adam 1e-4, no warm-up, EMA 0.9999; its
published weights are of step 1,563,562, after 100M images. The preset `paper` without the VAE. Not run by us.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import closed_loop, ffhq128


def get_config() -> ConfigDict:
    config = closed_loop.diffae_alone(ffhq128.get_config())
    config.data.image_size = 256
    config.data.batch_size = 64
    config.model.channel_multipliers = (1, 1, 2, 2, 4, 4)
    config.model.encoder_multipliers = (1, 1, 2, 2, 4, 4, 4)
    config.train.steps = 1_563_562
    return config
