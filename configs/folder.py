"""CL-Dis on your own images: a folder or a zip file of them.

    python -m cldis_jax.main --config=configs/folder.py --config.data.path=PHOTOS --workdir=runs/photos

64 px, one GPU; not run by us. On a laptop use `configs/folder.py:cpu`: 32 px and a small network. Sizes and presets:
configs/small_images.py.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import small_images


def get_config(argument: str = "full") -> ConfigDict:
    config = small_images.get_config(argument)
    config.data.source = "folder"
    config.data.holdout = 0.05
    config.model.latent_dim = 16
    if config.preset == "best":
        config.feedback.max_capacity = 20.0  # a guess, because the number of nats that your images need is not known
    return config
