"""CL-Dis on Cars3D, 64x64, from its published files (it is not in TFDS): the folder of the .mat files
of nips2015-analogy-data.tar.gz.

    python -m cldis_jax.main --config=configs/cars3d.py --config.data.path=PATH --workdir=runs/cars3d

One GPU. Not run by us.
"""

from ml_collections import ConfigDict

from configs import scenes


def get_config() -> ConfigDict:
    config = scenes.get_config()
    config.data.source = "cars3d"
    config.data.holdout = 0.0
    return config
