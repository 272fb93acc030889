"""CL-Dis on your own images: any tree of JPEG, PNG or WebP files.

    python -m cldis_jax.main --config=configs/folder.py --config.data.path=PHOTOS --workdir=runs/photos

64 px on one GPU; for a laptop: `configs/folder.py:cpu`, 32 px and a small net. Not run by us at full size.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import small_images


def get_config(size: str = "full") -> ConfigDict:
    config = small_images.get_config(size)
    config.data.source = "folder"
    config.data.holdout = 0.05
    config.model.latent_dim = 16
    config.feedback.max_capacity = 20.0  # what your images have to say is not known beforehand
    return config
