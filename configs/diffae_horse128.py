r"""Baseline: Diff-AE alone (Preechakul et al. 2022, arXiv 2111.15640), its horse128 network, z_sem of 512.

    python -m cldis_jax.main --config=configs/diffae_horse128.py --config.data.path=IMAGES \
        --workdir=runs/diffae_horse128

A TPU v4-16 or 8 GPUs (the reference: 4x V100). The reference's recipe: 130M images at batch 128, Adam 1e-4, no warm-up,
EMA 0.9999. The preset `paper` without the VAE. Not run by us.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import closed_loop, horse128


def get_config() -> ConfigDict:
    return closed_loop.diffae_alone(horse128.get_config())
