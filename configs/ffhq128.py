"""CL-Dis on FFHQ, 128x128, from a folder of images: the preset `paper`, with the network of Diff-AE's ffhq128.

    python -m cldis_jax.main --config=configs/ffhq128.py --config.data.path=IMAGES --workdir=runs/ffhq128

A TPU v4-16 or 8 GPUs (Diff-AE's own run: 4x V100). Steps: Diff-AE's 130M images. Not run by us.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import closed_loop


def get_config() -> ConfigDict:
    config = closed_loop.paper()
    config.data.source = "folder"
    config.data.image_size = 128
    config.data.flip = True
    config.data.threads = 8
    config.data.prefetch = 16
    config.model.latent_dim = 32
    config.model.base_channels = 128
    config.model.channel_multipliers = (1, 1, 2, 3, 4)
    config.model.encoder_multipliers = (1, 1, 2, 3, 4, 4)
    config.train.steps = 1_015_625
    return config
