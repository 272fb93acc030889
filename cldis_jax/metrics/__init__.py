"""Disentanglement metrics as functions of arrays. Each returns a dict of floats, but those of images an array [B].

Codes are floats [N, C] and factors integers [N, F]. `represent` is a function from factors [N, F] to codes [N, C]. FID
and LPIPS, with their networks, are in `fid`, `inception` and `lpips`.
"""

from cldis_jax.metrics.beta_vae import beta_vae
from cldis_jax.metrics.composition import composition
from cldis_jax.metrics.content_tracking import content_tracking
from cldis_jax.metrics.dci import dci
from cldis_jax.metrics.factor_vae import factor_vae
from cldis_jax.metrics.few_labels import few_labels
from cldis_jax.metrics.infomec import infomec
from cldis_jax.metrics.irs import irs
from cldis_jax.metrics.loss_capacity import dci_es
from cldis_jax.metrics.mig import mig
from cldis_jax.metrics.modularity import modularity_explicitness
from cldis_jax.metrics.reconstruction import mse, psnr, ssim
from cldis_jax.metrics.sap import sap
from cldis_jax.metrics.tad import tad
from cldis_jax.metrics.udr import udr
from cldis_jax.metrics.units import reduce_units

__all__ = [
    "beta_vae",
    "composition",
    "content_tracking",
    "dci",
    "dci_es",
    "factor_vae",
    "few_labels",
    "infomec",
    "irs",
    "mig",
    "modularity_explicitness",
    "mse",
    "psnr",
    "reduce_units",
    "sap",
    "ssim",
    "tad",
    "udr",
]
