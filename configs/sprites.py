"""CL-Dis on rendered sprites with the factors of dSprites, binary, 64x64. It needs no data.

    python -m cldis_jax.main --config=configs/sprites.py --workdir=runs/sprites
    python -m cldis_jax.main --config=configs/sprites.py:cpu --workdir=runs/sprites_cpu

The first trains at 64 px on one GPU; not run by us. The second trains at 32 px on two CPU cores for ten minutes. An
earlier config gave a DCI of z_sem of .25 (three seeds, docs/studies/cpu). Sizes and presets: configs/small_images.py.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import small_images


def get_config(argument: str = "full") -> ConfigDict:
    config = small_images.get_config(argument)
    config.data.source = "sprites"
    config.data.holdout = 0.02
    config.data.channels = 1
    if config.preset == "best":
        config.vae.beta_min *= 4  # with a smaller penalty two units mix the two positions
        config.feedback.lead_capacity = 4.0  # the first nats do not help the denoiser; from 2, C never rises
    return config
