"""Edits of images through their codes: traversals, shifts, interpolation, reconstruction. Arrays in, arrays out."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from einops import rearrange

from cldis_jax.api.bundle import Bundle
from cldis_jax.api.codes import in_batches
from cldis_jax.runtime.errors import UserError

BATCH = 16  # the most images encoded or decoded at once, unless an Editor is given another number


class Code(NamedTuple):
    """What the Diff-AE decodes: z and x_T. The VAE decodes z alone."""

    z: np.ndarray  # [B, d]
    x_T: np.ndarray | None  # [B, H, W, C]; None for z_disen

    def take(self, rows) -> "Code":
        """The codes at `rows`: a slice or indices."""
        return Code(self.z[rows], None if self.x_T is None else self.x_T[rows])


class Axes(NamedTuple):
    """The axes that z is moved along: its units, or directions from a search."""

    steps: np.ndarray  # [K, d], what a shift of 1 adds to z: one standard deviation
    order: list[int]  # [K], which to show first
    kind: str  # unit | direction
    latent: str  # z_sem | z_disen


@dataclasses.dataclass(frozen=True)
class Editor:
    """The encoder and the decoder of one latent of a model.

    Attributes:
      latent: z_sem, decoded by DDIM from x_T, or z_disen, decoded by the VAE without x_T.
      encode_steps, decode_steps: DDIM steps from image to x_T and back; by default the config's `decode_steps`.
      batch: images encoded or decoded at once, the last batch padded; by default all, at most BATCH.
    """

    bundle: Bundle
    latent: str
    encode_steps: int | None = None
    decode_steps: int | None = None
    batch: int | None = None

    def encode(self, images: np.ndarray) -> Code:
        """The codes of images [B, H, W, C] in [-1, 1]."""
        z = self._in_batches(lambda x: self.bundle.represent(x, self.latent), images)
        if self.latent == "z_disen":
            return Code(z, None)
        num_steps = self._steps(self.encode_steps)
        return Code(z, self._in_batches(lambda x, z: self.bundle.encode_noise(x, z, num_steps), images, z))

    def decode(self, code: Code, name: str = "") -> np.ndarray:
        """The images [B, H, W, C] of codes z [B, d].

        With fewer x_T than z, each serves the same number of consecutive z. A `name` shows a progress bar.
        """
        z = np.asarray(code.z, np.float32)
        if code.x_T is None:
            return self._in_batches(self.bundle.decode_vae, z, name=name)
        x_T, owner = code.x_T, np.arange(len(z)) * len(code.x_T) // len(z)
        num_steps = self._steps(self.decode_steps)
        return self._in_batches(lambda i, z: self.bundle.decode(x_T[i], z, num_steps), owner, z, name=name)

    def generate(self, z: np.ndarray, seed: int, name: str = "") -> np.ndarray:
        """The images [B, H, W, C] of codes z [B, d] at x_T ~ N(0, I)."""
        return self.decode(self.with_random_x_T(Code(z, None), seed), name)

    def with_random_x_T(self, code: Code, seed: int) -> Code:
        """The same z with x_T ~ N(0, I); for z_disen, which has no x_T, the code itself."""
        if self.latent == "z_disen":
            return code
        shape = (len(code.z), *self.bundle.image_shape)
        return code._replace(x_T=np.random.default_rng(seed).standard_normal(shape, np.float32))

    def traverse(self, code: Code, steps: np.ndarray, shifts: Sequence[float], name: str = "") -> np.ndarray:
        """Images [K, B, S, H, W, C]: each code moved by each of `shifts` [S] along each row of `steps` [K, d]."""
        z = code.z[:, None, None] + np.asarray(shifts)[None, None, :, None] * steps[None, :, None]
        images = self.decode(code._replace(z=rearrange(z, "b k s d -> (b k s) d")), name)
        return rearrange(images, "(b k s) h w c -> k b s h w c", b=len(code.z), k=len(steps))

    def shifted(self, code: Code, steps: np.ndarray, shifts: dict[int, float]) -> np.ndarray:
        """Images [B, H, W, C] of codes moved along several rows k of `steps` [K, d] at once, by `shifts[k]`."""
        return self.decode(code._replace(z=code.z + sum(shift * steps[k] for k, shift in shifts.items())))

    def interpolate(self, first: Code, second: Code, num_frames: int) -> np.ndarray:
        """Images [num_frames, H, W, C] from one image's code to another's: z linearly, x_T on the great circle."""
        weights = np.linspace(0, 1, num_frames, dtype=np.float32)
        z = np.stack([(1 - w) * first.z[0] + w * second.z[0] for w in weights])
        if first.x_T is None:
            return self.decode(Code(z, None))
        return self.decode(Code(z, np.stack([slerp(first.x_T[0], second.x_T[0], w) for w in weights])))

    def reconstruct(self, images: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
        """`original`, `inferred x_T` and `random x_T`, or `original` and `VAE`; each [B, H, W, C]."""
        images = np.asarray(images)
        code = self.encode(images)
        if code.x_T is None:
            return {"original": images, "VAE": self.decode(code)}
        random = self.generate(code.z, seed)
        return {"original": images, "inferred x_T": self.decode(code), "random x_T": random}

    def _in_batches(self, function, *arrays, name=""):
        return in_batches(function, *arrays, size=self.batch or min(BATCH, len(arrays[0])), name=name)

    def _steps(self, asked: int | None) -> int:
        return asked or self.bundle.config.diffusion.decode_steps


def axes(bundle: Bundle, latent: str) -> Axes:
    """The units of a latent; a shift of 1 is one standard deviation over the training data."""
    std = np.asarray(bundle.moments(latent).std)
    return Axes(np.diag(std), list(range(len(std))), "unit", latent)


def slerp(first: np.ndarray, second: np.ndarray, weight: float) -> np.ndarray:
    """Spherical interpolation of two arrays, by the angle between the flattened vectors [Shoemake 1985; Diff-AE].

    Parallel arrays are interpolated linearly.
    """
    a, b = first.ravel().astype(np.float64), second.ravel().astype(np.float64)
    cosine = np.clip(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12), -1, 1)
    angle = np.arccos(cosine)
    if np.sin(angle) < 1e-6:
        mixed = (1 - weight) * a + weight * b
    else:
        mixed = (np.sin((1 - weight) * angle) * a + np.sin(weight * angle) * b) / np.sin(angle)
    return mixed.reshape(first.shape).astype(np.float32)


def parse_rows(text: str, axes: Axes) -> list[int]:
    """The numbers of the axes in `all` or `3,7`; for `all` in the order to show them. Raises UserError."""
    return list(axes.order) if text == "all" else [_row(part, axes) for part in text.split(",")]


def parse_shifts(text: str, axes: Axes) -> dict[int, float]:
    """{3: 2.0, 7: -1.0} of `3=+2.0,7=-1`; raises UserError."""
    shifts = {}
    for part in text.split(","):
        row, equals, value = part.partition("=")
        try:
            shift = float(value)
        except ValueError:
            shift = np.nan
        if not equals or not np.isfinite(shift):
            raise UserError(f"--set takes pairs such as 3=+2.0,7=-1, not {part!r}")
        if (index := _row(row, axes)) in shifts:
            raise UserError(f"--set names {axes.kind} {index} twice")
        shifts[index] = shift
    return shifts


def _row(text: str, axes: Axes) -> int:
    num = len(axes.steps)
    try:
        row = int(text)
    except ValueError:
        raise UserError(f"{text!r} is not the number of a {axes.kind}") from None
    if not 0 <= row < num:
        raise UserError(f"{axes.kind} {row} is out of range: there are {num}, numbered 0 to {num - 1}")
    return row
