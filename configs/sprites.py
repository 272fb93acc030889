"""CL-Dis on rendered sprites with the factors of dSprites, binary 64x64; needs no data.

    python -m cldis_jax.main --config=configs/sprites.py --workdir=runs/sprites

One GPU. Not run by us.
"""

from ml_collections import ConfigDict

from configs import scenes


def get_config() -> ConfigDict:
    config = scenes.get_config()
    config.data.source = "sprites"
    config.data.channels = 1
    return config
