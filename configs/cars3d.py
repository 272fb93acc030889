"""CL-Dis on Cars3D, 64x64, from its published files (it is not in TFDS): the folder of the .mat files
of nips2015-analogy-data.tar.gz.

    python -m cldis_jax.main --config=configs/cars3d.py --config.data.path=PATH --workdir=runs/cars3d

One GPU; not run by us. `configs/cars3d.py:cpu`: 32 px and a small net, as in configs/small_images.py.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import small_images


def get_config(size: str = "full") -> ConfigDict:
    config = small_images.get_config(size)
    config.data.source = "cars3d"
    return config
