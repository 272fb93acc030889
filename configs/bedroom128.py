"""CL-Dis on bedroom128, 128x128, from a folder of images; the network of Diff-AE's bedroom128.

    python -m cldis_jax.main --config=configs/bedroom128.py --config.data.path=IMAGES --workdir=runs/bedroom128

A TPU v4-16 or 8 GPUs (Diff-AE's own run: 4x V100). Not run by us.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import diffae_bedroom128, ffhq128


def get_config() -> ConfigDict:
    return ffhq128.close_loop(diffae_bedroom128.get_config())
