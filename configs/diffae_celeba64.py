r"""Baseline: Diff-AE alone (Preechakul et al. 2022, arXiv 2111.15640), its celeba64 network, z_sem of 512.

    tfds build celeb_a --file_format=array_record
    python -m cldis_jax.main --config=configs/diffae_celeba64.py --workdir=runs/diffae_celeba64

A TPU v4-8 or 4 GPUs (the reference: 4x 2080Ti). The reference's recipe: 72M images at batch 128, Adam 1e-4, no warm-up,
EMA 0.9999. The preset `paper` without the VAE. Not run by us.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import celeba, closed_loop


def get_config() -> ConfigDict:
    return closed_loop.diffae_alone(celeba.get_config())
