"""CL-Dis on aligned faces of animals without labels, such as the cats of AFHQ: a folder or a zip file.

    python -m cldis_jax.main --config=configs/cats.py --config.data.path=CATS --workdir=runs/cats
    python -m cldis_jax.main --config=configs/cats.py:cpu --config.data.path=CATS --workdir=runs/cats_cpu

    full (the first)  64 px, one GPU                        not run by us
    cpu               64 px, one CPU core, fifteen minutes  pictures in docs/results.md
    tiny              16 px, a smoke test, under a minute   no number

Sizes and presets: configs/small_images.py.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import folder


def get_config(argument: str = "full") -> ConfigDict:
    config = folder.get_config(argument)
    config.model.latent_dim = 20
    config.data.flip = True
    return config
