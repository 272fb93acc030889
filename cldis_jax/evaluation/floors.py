"""Codes of images by index: of a model, and of the floors that a model must exceed."""

import dataclasses
import functools
import warnings

import cv2
import jax
import numpy as np
from jax.sharding import AxisType, Mesh
from sklearn.decomposition import PCA, FastICA
from sklearn.exceptions import ConvergenceWarning
from sklearn.random_projection import GaussianRandomProjection

from cldis_jax import api, models
from cldis_jax.api.codes import encode
from cldis_jax.data import Source, subset
from cldis_jax.runtime import partitioning

BATCH_PER_DEVICE = 128
PIXEL_SIDE = 16  # images are reduced to this many pixels a side before linear codes are computed
FITTED_IMAGES = 5000  # at most
LINEAR = {  # by the name of the floor
    "pixels_pca": PCA,
    "pixels_ica": functools.partial(FastICA, whiten="unit-variance", max_iter=1000),
    "pixels_projection": GaussianRandomProjection,
}


class Codes:
    """Codes [N, C] of the images at any indices [N] of a source; each image is encoded once.

    The images are encoded by all devices of this process together.
    """

    def __init__(self, bundle: api.Bundle, source: Source, latent: str, name: str = "the model"):
        self._source, self._latent, self.name = source, latent, name
        devices = np.array(jax.local_devices())[:, None]
        mesh = Mesh(devices, partitioning.AXES, axis_types=(AxisType.Auto,) * 2)
        self._sharding = partitioning.batch_sharding(mesh)
        self.bundle = dataclasses.replace(bundle, ema=jax.device_put(bundle.ema, partitioning.replicated(mesh)))
        self._batch_size = BATCH_PER_DEVICE * mesh.size
        self._cache = np.zeros((len(source), bundle.config.model.latent_dim), np.float32)
        self._known = np.zeros(len(source), bool)

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        missing = np.flatnonzero(np.bincount(indices, minlength=len(self._known)).astype(bool) & ~self._known)
        if len(missing):
            where = {"size": self._batch_size, "sharding": self._sharding, "name": f"encoding by {self.name}"}
            self._cache[missing] = encode(self.bundle, self._latent, self._source, missing, **where)
            self._known[missing] = True
        return self._cache[indices]


class Rescaled:
    """Codes divided by one number: the largest standard deviation of a code over the images at `indices`.

    For codes without a prior, whose size means nothing. FactorVAE's pruning, BetaVAE, SAP and the coarse protocols of
    TAD depend on it, and are made for codes of about unit deviation.
    """

    def __init__(self, codes: Codes, indices: np.ndarray):
        self._codes, self.bundle = codes, codes.bundle
        self._scale = codes(indices).std(axis=0).max() or 1.0

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        return self._codes(indices) / self._scale


class Untrained(Rescaled):
    """Codes of the same encoder before any training."""

    def __init__(self, bundle: api.Bundle, source: Source, latent: str, seed: int, indices: np.ndarray):
        networks = bundle.functions.networks
        params = jax.jit(lambda key: models.init_params(networks, bundle.config, key))(jax.random.key(seed))
        bundle = dataclasses.replace(bundle, ema=bundle.ema.replace(params=params))
        super().__init__(Codes(bundle, source, latent, "an untrained encoder"), indices)


class RandomMix:
    """Codes that contain every label and disentangle none: a random linear mix [C] of standardised labels [F]."""

    def __init__(self, labels, dim: int, seed: int, indices: np.ndarray):
        """`labels`: a function of indices [N] to labels [N, F]; their deviations are those at `indices`."""
        self._labels = labels
        values = labels(indices)
        self._mean, std = values.mean(axis=0), values.std(axis=0)
        self._mix = np.random.default_rng(seed).normal(size=(len(std), dim)) / np.where(std > 0, std, 1)[:, None]

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        return (self._labels(indices) - self._mean) @ self._mix


class LinearPixels:
    """Linear codes [N, C] of the pixels of reduced images: principal or independent components, or a random projection.

    The independent ones [Hyvarinen 1999, FastICA] are the principal ones, whitened and turned. Components are fitted to
    at most `FITTED_IMAGES` of the images at `indices`, without labels. Where there are fewer images or pixels than C,
    there are fewer components.
    """

    def __init__(self, kind: str, source: Source, dim: int, seed: int, indices: np.ndarray):
        self._source = source
        pixels = self._pixels(subset(indices, FITTED_IMAGES, seed))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # then they are as independent as they could be made
            self._codes = LINEAR[kind](min(dim, *pixels.shape), random_state=seed).fit(pixels)

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        return self._codes.transform(self._pixels(indices))

    def _pixels(self, indices: np.ndarray) -> np.ndarray:
        """Values in [0, 1], float32 [N, P]."""
        reduced = []
        for start in range(0, len(indices), BATCH_PER_DEVICE):
            images = self._source.fetch(indices[start : start + BATCH_PER_DEVICE])
            side = min(PIXEL_SIDE, images.shape[1])
            reduced += [cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).ravel() for image in images]
        return np.stack(reduced).astype(np.float32) / 255
