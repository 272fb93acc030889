"""CL-Dis on rendered scenes with the factors of Shapes3D; needs no data.

    python -m cldis_jax.main --config=configs/scenes.py --workdir=runs/scenes           one GPU, 64 px; not run by us
    python -m cldis_jax.main --config=configs/scenes.py:cpu --workdir=runs/scenes_cpu   a laptop, 32 px, ten minutes
    python -m cldis_jax.main --config=configs/scenes.py:long --workdir=runs/scenes_long the same net, for thrice as long
    python -m cldis_jax.main --config=configs/scenes.py:tiny --workdir=runs/tiny        a smoke test, under a minute

docs/study_cpu compares methods at `cpu`, docs/study_long at `long`, and launch/quickstart.sh trains `cpu` for half as
long; what to expect of all stands in the README.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import small_images


def get_config(size: str = "full") -> ConfigDict:
    config = small_images.get_config(size)
    config.data.source = "scenes"
    config.data.holdout = 0.02
    return config
