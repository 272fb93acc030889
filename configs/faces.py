"""CL-Dis on aligned faces with attributes: a folder of them, a zip file, or CelebA as it is published.

    python -m cldis_jax.main --config=configs/faces.py --config.data.path=FACES --workdir=runs/faces
    python -m cldis_jax.main --config=configs/faces.py:cpu --config.data.path=FACES --workdir=runs/faces_cpu

    full (the first)  64 px, one GPU                        not run by us
    cpu               64 px, one CPU core, 8 to 16 minutes  TAD .44 on CelebA, five seeds (docs/studies/celeba)
    tiny              16 px, a smoke test, under a minute   no number

Faces must fill their images, at the same place; `--config.data.crop=d2c` cuts them from CelebA's aligned images. For
the official test part add `--config.data.holdout=0 --config.data.holdout_split=test`.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import folder


def get_config(argument: str = "full") -> ConfigDict:
    config = folder.get_config(argument)
    config.model.latent_dim = 20
    config.data.flip = True
    return config
