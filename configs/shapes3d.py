"""CL-Dis on Shapes3D (TFDS), 64x64, every image seen in training as in the literature.

    tfds build shapes3d --file_format=array_record
    python -m cldis_jax.main --config=configs/shapes3d.py --workdir=runs/shapes3d

One GPU; not run by us. `configs/shapes3d.py:cpu`: 32 px and a small net, as in configs/small_images.py.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import scenes


def get_config(size: str = "full") -> ConfigDict:
    config = scenes.get_config(size)
    config.data.source = "tfds"
    config.data.name = "shapes3d"
    config.data.channels = 3
    config.data.holdout = 0.0
    return config
