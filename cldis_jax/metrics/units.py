"""From latents with vector units to the scalar codes that the metrics take."""

import numpy as np
from sklearn.decomposition import PCA

from cldis_jax.metrics import inputs

REDUCTIONS = ("pca", "none")


def reduce_units(latents: np.ndarray, reduction: str = "pca") -> np.ndarray:
    """Codes [N, C] of latents [N, U, D]: U units with D numbers each.

    Args:
      latents: of all images that the metrics sample from. The principal components are fitted on them.
      reduction: `pca` takes the first principal component of each unit, C = U (the protocol of VCT and of DisDiff, Yang
        et al. 2023). `none` makes each number a code, C = U D (EncDiff, Yang et al. 2024, whose units are scalars).

    Raises:
      ValueError: another shape or reduction, or values that are not finite.
    """
    latents = np.asarray(latents)
    if latents.ndim != 3 or 0 in latents.shape:
        raise ValueError(f"latents must be [N, units, D] and not empty, got shape {latents.shape}")
    latents = inputs.check_codes(latents.reshape(len(latents), -1), "latents").reshape(latents.shape)
    if reduction == "none":
        return latents.reshape(len(latents), -1)
    if reduction != "pca":
        raise ValueError(f"reduction {reduction!r} is not one of {', '.join(REDUCTIONS)}")
    return np.concatenate([PCA(1, svd_solver="full").fit_transform(unit) for unit in latents.swapaxes(0, 1)], axis=1)
