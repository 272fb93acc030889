"""CL-Dis on LSUN horses, 128x128, from a folder of images: the preset `paper`, with the network of Diff-AE's horse128.

    python -m cldis_jax.main --config=configs/horse128.py --config.data.path=IMAGES --workdir=runs/horse128

A TPU v4-16 or 8 GPUs (Diff-AE's own run: 4x V100). Steps: Diff-AE's 130M images. Not run by us.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import ffhq128


def get_config() -> ConfigDict:
    return ffhq128.get_config()
