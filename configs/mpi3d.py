"""CL-Dis on MPI3D-toy, 64x64, from its published file (it is not in TFDS).

    python -m cldis_jax.main --config=configs/mpi3d.py --config.data.path=PATH --workdir=runs/mpi3d

PATH: the published mpi3d_toy.npz. One GPU. Not run by us. Sizes and presets: configs/small_images.py.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import small_images


def get_config(argument: str = "full") -> ConfigDict:
    config = small_images.get_config(argument)
    config.data.source = "mpi3d"
    config.data.name = "toy"
    return config
