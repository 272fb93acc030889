"""CL-Dis on smallNORB (TFDS), 64x64. Training uses every image, as in the literature.

    tfds build smallnorb --file_format=array_record
    python -m cldis_jax.main --config=configs/smallnorb.py --workdir=runs/smallnorb

One GPU. Not run by us. Sizes and presets: configs/small_images.py.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import small_images


def get_config(argument: str = "full") -> ConfigDict:
    config = small_images.get_config(argument)
    config.data.source = "tfds"
    config.data.name = "smallnorb"
    config.data.channels = 1
    return config
