"""CL-Dis on MPI3D-toy, 64x64, from its published files (it is not in TFDS): the published mpi3d_toy.npz.

    python -m cldis_jax.main --config=configs/mpi3d.py --config.data.path=PATH --workdir=runs/mpi3d

One GPU; not run by us. `configs/mpi3d.py:cpu`: 32 px and a small net, as in configs/small_images.py.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import small_images


def get_config(size: str = "full") -> ConfigDict:
    config = small_images.get_config(size)
    config.data.source = "mpi3d"
    config.data.name = "toy"
    return config
