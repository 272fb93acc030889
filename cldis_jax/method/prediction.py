"""What the denoising network predicts: eps, v, or x_0 through a skip connection.

Sources: Ho et al. 2020 (arXiv 2006.11239), Salimans & Ho 2022 (v-prediction, arXiv 2202.00512), Karras et al. 2022
(EDM, arXiv 2206.00364), Li & He 2025 (arXiv 2511.13720).
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict


class Prediction(Protocol):
    """What the network predicts: its output F and x_t = signal x_0 + noise eps determine x_0 and eps.

    `signal` and `noise` are arrays that broadcast against the images.
    """

    def target(self, x0, eps, signal, noise) -> jax.Array:
        """The output F that gives this x_0 and this eps."""

    def x0(self, output, x_t, signal, noise) -> jax.Array:
        """x_0 from an output F."""

    def eps(self, output, x_t, signal, noise) -> jax.Array:
        """eps from an output F."""

    def weight(self, signal, noise) -> jax.Array:
        """The weight of the squared error of F in L_diff."""

    def x0_error(self, error, signal, noise) -> jax.Array:
        """The squared error in x_0 that belongs to a weighted squared error of F."""


@dataclasses.dataclass(frozen=True)
class PredictEps:
    """F is eps [Ho et al. 2020; Diff-AE]."""

    def target(self, x0, eps, signal, noise):
        return eps

    def x0(self, output, x_t, signal, noise):
        return (x_t - noise * output) / signal

    def eps(self, output, x_t, signal, noise):
        return output

    def weight(self, signal, noise):
        return jnp.ones_like(noise)

    def x0_error(self, error, signal, noise):
        return jnp.square(noise / signal) * error


@dataclasses.dataclass(frozen=True)
class PredictV:
    """F is v = signal eps - noise x_0 [Salimans & Ho 2022]."""

    def target(self, x0, eps, signal, noise):
        return signal * eps - noise * x0

    def x0(self, output, x_t, signal, noise):
        return signal * x_t - noise * output

    def eps(self, output, x_t, signal, noise):
        return signal * output + noise * x_t

    def weight(self, signal, noise):
        return jnp.ones_like(noise)

    def x0_error(self, error, signal, noise):
        return jnp.square(noise) * error


@dataclasses.dataclass(frozen=True)
class PredictX0:
    """F gives x_0 through a skip connection: x_0 = c x_t / signal + (1 - c) F.

    c = s^2 / (s^2 + sigma^2) with sigma = noise / signal and s = `skip_std`. It is the skip of EDM [Karras et al. 2022,
    section 5] for images of standard deviation s. Where sigma is above s the network predicts x_0, and it need not copy
    the noise [Li & He 2025]; where it is below, the network predicts noise, and DDIM stays invertible. The weight makes
    L_diff the mean of |x_0 - x0|^2 / noise^2, which is the loss of v-prediction.
    """

    skip_std: float

    def _network_share(self, signal, noise):  # 1 - c
        return jnp.square(noise) / (jnp.square(self.skip_std * signal) + jnp.square(noise))

    def target(self, x0, eps, signal, noise):
        return x0 - self.skip_std**2 * signal / noise * eps

    def x0(self, output, x_t, signal, noise):
        share = self._network_share(signal, noise)
        return (1 - share) / signal * x_t + share * output

    def eps(self, output, x_t, signal, noise):
        return (x_t - signal * self.x0(output, x_t, signal, noise)) / noise

    def weight(self, signal, noise):
        return jnp.square(self._network_share(signal, noise) / noise)

    def x0_error(self, error, signal, noise):
        return jnp.square(noise) * error


PREDICTIONS: dict[str, Callable[[ConfigDict], Prediction]] = {
    "eps": lambda c: PredictEps(),
    "v": lambda c: PredictV(),
    "x0": lambda c: PredictX0(c.skip_std),
}


def prediction_of(config: ConfigDict) -> Prediction:
    """The prediction that a config describes."""
    return PREDICTIONS[config.diffusion.prediction](config.diffusion)
