"""CL-Dis on rendered sprites with the factors of dSprites, binary 64x64; needs no data.

    python -m cldis_jax.main --config=configs/sprites.py --workdir=runs/sprites

One GPU; not run by us. `configs/sprites.py:cpu`: 32 px and a small net, as in configs/small_images.py; docs/study_cpu
compares methods at it.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import small_images


def get_config(size: str = "full") -> ConfigDict:
    config = small_images.get_config(size)
    config.data.source = "sprites"
    config.data.holdout = 0.02
    config.data.channels = 1
    config.vae.beta_min *= 4  # cheaper, the positions turn against each other
    config.feedback.lead_capacity = 4.0  # the first nats tell the denoiser nothing: from 2, C never rises
    return config
