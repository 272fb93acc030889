"""CL-Dis on LSUN bedrooms, 128x128, from a folder of images: the preset `paper`, the network of Diff-AE's bedroom128.

    python -m cldis_jax.main --config=configs/bedroom128.py --config.data.path=IMAGES --workdir=runs/bedroom128

A TPU v4-16 or 8 GPUs (Diff-AE's own run: 4x V100). Steps: Diff-AE's 120M images. Not run by us.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import ffhq128


def get_config() -> ConfigDict:
    config = ffhq128.get_config()
    config.train.steps = 937_500
    return config
