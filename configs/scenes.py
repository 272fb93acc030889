"""CL-Dis on rendered scenes with the factors of Shapes3D. It needs no data.

    python -m cldis_jax.main --config=configs/scenes.py --workdir=runs/scenes
    python -m cldis_jax.main --config=configs/scenes.py:long --workdir=runs/scenes_long
    python -m cldis_jax.main --config=configs/scenes.py:cpu --workdir=runs/scenes_cpu
    python -m cldis_jax.main --config=configs/scenes.py:tiny --workdir=runs/tiny
    python -m cldis_jax.main --config=configs/scenes.py:long,paper --workdir=runs/scenes_paper

    full (the first)  64 px, one GPU                                not run by us
    long              32 px, one CPU core, 30 to 60 minutes         DCI .79, earlier config (docs/studies/long_x0)
    cpu               32 px, two CPU cores, ten minutes             DCI .43, earlier config (docs/studies/cpu)
    tiny              16 px, a smoke test, under a minute           no number
    long,paper        `long` with the preset `paper`                not run by us

The studies hold out 5 % of the factor combinations from training.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import small_images


def get_config(argument: str = "full") -> ConfigDict:
    config = small_images.get_config(argument)
    config.data.source = "scenes"
    config.data.holdout = 0.02
    return config
