"""CL-Dis on Cars3D, 64x64, from its published files (it is not in TFDS).

    python -m cldis_jax.main --config=configs/cars3d.py --config.data.path=PATH --workdir=runs/cars3d

PATH: the folder of the .mat files of nips2015-analogy-data.tar.gz. One GPU. Not run by us. Sizes and presets:
configs/small_images.py.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import small_images


def get_config(argument: str = "full") -> ConfigDict:
    config = small_images.get_config(argument)
    config.data.source = "cars3d"
    return config
