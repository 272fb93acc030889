"""CL-Dis on CelebA, 64x64, with Diff-AE's D2C crop: the preset `paper`, with the network of Diff-AE's celeba64.

    tfds build celeb_a --file_format=array_record
    python -m cldis_jax.main --config=configs/celeba.py --workdir=gs://BUCKET/celeba

A TPU v4-8 or 4 GPUs (Diff-AE's own run: 4x 2080Ti). Steps: Diff-AE's 72M images. Not run by us.
`configs/celeba.py:full,best` is the preset `best` with the same U-Net. The other sizes are those of
configs/small_images.py: `configs/celeba.py:cpu` is `best` at 32 px with a small network.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import closed_loop, small_images


def get_config(argument: str = "full") -> ConfigDict:
    size, preset = small_images.parse(argument, "paper" if argument == "full" else "best")
    if size == "full":
        config = closed_loop.make(preset)
        config.train.steps = 562_500
    else:
        config = small_images.get_config(f"{size},{preset}")
    config.data.source = "tfds"
    config.data.name = "celeb_a"
    config.data.crop = "d2c"
    config.data.flip = True
    config.data.threads = 8
    config.data.prefetch = 16
    config.model.latent_dim = 32
    return config
