"""CL-Dis on dSprites (TFDS), 64x64. Training uses every image, as in the literature.

    tfds build dsprites --file_format=array_record
    python -m cldis_jax.main --config=configs/dsprites.py --workdir=runs/dsprites

One GPU. Not run by us. Sizes and presets: configs/small_images.py.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import sprites


def get_config(argument: str = "full") -> ConfigDict:
    config = sprites.get_config(argument)
    config.data.source = "tfds"
    config.data.name = "dsprites"
    config.data.holdout = 0.0
    return config
