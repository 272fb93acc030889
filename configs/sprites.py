"""CL-Dis on rendered sprites with the factors of dSprites, binary 64x64; needs no data.

    python -m cldis_jax.main --config=configs/sprites.py --workdir=runs/sprites
    python -m cldis_jax.main --config=configs/sprites.py:cpu --workdir=runs/sprites_cpu

The first trains on one GPU at 64 px; not run by us. The second trains on two CPU cores at 32 px for ten minutes; expect
a DCI of z_sem of .25 (three seeds, docs/studies/cpu). Sizes and presets: configs/small_images.py.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import small_images


def get_config(argument: str = "full") -> ConfigDict:
    config = small_images.get_config(argument)
    config.data.source = "sprites"
    config.data.holdout = 0.02
    config.data.channels = 1
    if config.preset == "best":
        config.vae.beta_min *= 4  # at a lower price the two positions mix in two units
        config.feedback.lead_capacity = 4.0  # the first nats do not help the denoiser: started at 2, C never rises
    return config
