"""CL-Dis on CelebA, 64x64, the D2C crop of Diff-AE; the network of Diff-AE's celeba64.

    tfds build celeb_a --file_format=array_record
    python -m cldis_jax.main --config=configs/celeba.py --workdir=gs://BUCKET/celeba

A TPU v4-8 or 4 GPUs (Diff-AE's own run: 4x 2080Ti). Steps: Diff-AE's 72M images. Not run by us.
`configs/celeba.py:cpu`: 32 px and a small net, as in configs/small_images.py.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import default, small_images


def get_config(size: str = "full") -> ConfigDict:
    config = default.get_config() if size == "full" else small_images.get_config(size)
    config.data.source = "tfds"
    config.data.name = "celeb_a"
    config.data.crop = "d2c"
    config.data.flip = True
    config.data.holdout = 0.0
    config.data.threads = 8
    config.data.prefetch = 16
    config.model.latent_dim = 32
    if size != "full":
        return config

    config.vae.capacity_form = "hinge"
    config.feedback.mode = "gain"
    config.feedback.lead_capacity = 2.0
    config.distillation.weight = 3e-3
    config.train.steps = 562_500
    return config
