"""CL-Dis on smallNORB (TFDS), 64x64, every image seen in training as in the literature.

    tfds build smallnorb --file_format=array_record
    python -m cldis_jax.main --config=configs/smallnorb.py --workdir=runs/smallnorb

One GPU. Not run by us.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import small_images


def get_config() -> ConfigDict:
    config = small_images.get_config()
    config.data.source = "tfds"
    config.data.name = "smallnorb"
    config.data.channels = 1
    return config
