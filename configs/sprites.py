"""CL-Dis on rendered sprites with the factors of dSprites, binary 64x64; needs no data.

    python -m cldis_jax.main --config=configs/sprites.py --workdir=runs/sprites

One GPU; not run by us. `configs/sprites.py:cpu`: 32 px and a small net, as in configs/scenes.py; what was tried of it,
with one seed, stands in docs/study_cpu.
"""

from ml_collections import ConfigDict

from configs import scenes


def get_config(size: str = "full") -> ConfigDict:
    config = scenes.get_config(size)
    config.data.source = "sprites"
    config.data.channels = 1
    config.vae.beta /= 4  # at the price of scenes the denoiser hears nothing of the first nats, and C never rises
    config.vae.beta_min /= 4
    return config
