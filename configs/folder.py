"""CL-Dis on your own images: a folder or a zip file of them.

    python -m cldis_jax.main --config=configs/folder.py --config.data.path=PHOTOS --workdir=runs/photos
    python -m cldis_jax.main --config=configs/folder.py:cpu --config.data.path=PHOTOS --workdir=runs/photos_cpu

    full (the first)  64 px, one GPU                             not run by us
    cpu               64 px, one CPU core, fifteen minutes       run on faces and cats (docs/results.md)
    long              32 px, two CPU cores, thirty minutes
    tiny              16 px, a smoke test, under a minute        no number

configs/faces.py and configs/cats.py build on this file. Sizes and presets: configs/small_images.py.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import small_images


def get_config(argument: str = "full") -> ConfigDict:
    size, preset = small_images.parse(argument)
    config = small_images.get_config(f"{'cpu64' if size == 'cpu' else size},{preset}")
    config.data.source = "folder"
    config.data.holdout = 0.05
    config.model.latent_dim = 16
    if config.preset == "best":
        # Chosen on faces, in runs of 3,000 steps (docs/studies/faces.md). At `full` it is a guess.
        config.feedback.max_capacity = 10.0
        config.independence.form = "negentropy"
        config.independence.weight = 0.03
    return config
