"""Edits of images through their codes: shifts along latents or directions, interpolation, reconstruction.

Knows a Bundle and arrays, not files. A code is (z, x_T) of a Diff-AE, and z alone of a VAE (z_disen).
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from einops import rearrange

from cldis_jax.api import Bundle, pictures

CHUNK = 16  # images encoded or decoded at once


class Code(NamedTuple):
    z: np.ndarray  # [B, d]
    x_T: np.ndarray | None  # [B, H, W, C]; None for z_disen


@dataclasses.dataclass(frozen=True)
class Editor:
    """A model with the numbers of DDIM steps there and back; codes of `z_disen` have no x_T and need no steps."""

    bundle: Bundle
    latent: str  # z_sem | z_disen
    encode_steps: int
    decode_steps: int

    def encode(self, images: np.ndarray) -> Code:
        """The code of images [B, H, W, C]."""
        if self.latent == "z_disen":
            return Code(np.asarray(self.bundle.encode_posterior(jnp.asarray(images))[0]), None)
        codes = []
        for start in range(0, len(images), CHUNK):
            chunk = jnp.asarray(images[start : start + CHUNK])
            z = self.bundle.encode(chunk)
            codes.append((np.asarray(z), np.asarray(self.bundle.encode_noise(chunk, z, self.encode_steps))))
        return Code(*(np.concatenate(parts) for parts in zip(*codes)))

    def decode(self, code: Code) -> np.ndarray:
        """The images [B, H, W, C] of a code; where x_T is one row [1, H, W, C] it serves every z."""
        if code.x_T is None:
            return np.asarray(self.bundle.decode_vae(jnp.asarray(code.z, jnp.float32)))
        x_T = np.broadcast_to(code.x_T, (len(code.z), *code.x_T.shape[1:]))
        z = np.asarray(code.z, np.float32)
        return pictures.decode_in_chunks(self.bundle, x_T, z, self.decode_steps, min(CHUNK, len(z)))

    def traverse(self, code: Code, steps: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        """Images [K, S, H, W, C] of one code moved by each of `shifts` [S] along each row of `steps` [K, d]."""
        z = pictures.traversal_codes(code.z[0], steps, shifts).reshape(-1, steps.shape[1])
        return rearrange(self.decode(Code(z, code.x_T)), "(k s) h w c -> k s h w c", k=len(steps))

    def shifted(self, code: Code, steps: np.ndarray, shifts: dict[int, float]) -> np.ndarray:
        """Images [B, H, W, C] of codes moved by `shifts` of rows of `steps` [K, d], all at once."""
        return self.decode(code._replace(z=code.z + sum(shift * steps[k] for k, shift in shifts.items())))

    def interpolate(self, first: Code, second: Code, num_frames: int) -> np.ndarray:
        """Images [num_frames, H, W, C] from one image's code to another's: z linearly, x_T on the great circle."""
        weights = np.linspace(0, 1, num_frames, dtype=np.float32)
        z = np.stack([(1 - w) * first.z[0] + w * second.z[0] for w in weights])
        if first.x_T is None:
            return self.decode(Code(z, None))
        return self.decode(Code(z, np.stack([slerp(first.x_T[0], second.x_T[0], w) for w in weights])))

    def reconstructions(self, images: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """The images and their reconstructions by kind, each [B, H, W, C]."""
        code = self.encode(images)
        if code.x_T is None:
            return {"original": images, "VAE": self.decode(code)}
        random_x_T = pictures.random_noise(self.bundle, len(images), seed)
        return {
            "original": images,
            "inferred x_T": self.decode(code),
            "random x_T": self.decode(code._replace(x_T=random_x_T)),
        }


def latent_steps(bundle: Bundle, latent: str) -> np.ndarray:
    """What a shift of 1 adds to z for each latent dimension: its standard deviation over the training data [d, d]."""
    return np.diag(np.asarray(bundle.moments(latent).std))


def direction_steps(directions: np.ndarray, scales: np.ndarray, latent_dim: int) -> np.ndarray:
    """What a shift of 1 adds to z for each direction [K, d].

    Args:
      directions: columns [d, K] in units of each dimension's standard deviation.
      scales: these deviations [d].

    Raises:
      ValueError: the directions are of another model.
    """
    if directions.ndim != 2 or directions.shape[0] != latent_dim or scales.shape != (latent_dim,):
        raise ValueError(
            f"directions of shape {directions.shape} with scales {scales.shape} don't fit a z of {latent_dim}"
        )
    return (scales[:, None] * directions).T


def slerp(first: np.ndarray, second: np.ndarray, weight: float) -> np.ndarray:
    """Spherical interpolation of two arrays, the angle that of the flattened vectors [Shoemake 1985; Diff-AE].

    Falls back to the straight line where the two are parallel.
    """
    a, b = first.ravel().astype(np.float64), second.ravel().astype(np.float64)
    cosine = np.clip(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12), -1, 1)
    angle = np.arccos(cosine)
    if np.sin(angle) < 1e-6:
        mixed = (1 - weight) * a + weight * b
    else:
        mixed = (np.sin((1 - weight) * angle) * a + np.sin(weight * angle) * b) / np.sin(angle)
    return mixed.reshape(first.shape).astype(np.float32)


def parse_rows(text: str, num_rows: int, kind: str) -> list[int]:
    """The rows that `all` or `3,7` names, of `num_rows` dimensions or directions; raises ValueError."""
    if text == "all":
        return list(range(num_rows))
    return [_row(part, num_rows, kind) for part in text.split(",")]


def parse_shifts(text: str, num_rows: int, kind: str) -> dict[int, float]:
    """{3: 2.0, 7: -1.0} of `3=+2.0,7=-1`; raises ValueError."""
    shifts = {}
    for part in text.split(","):
        row, equals, value = part.partition("=")
        try:
            shift = float(value)
        except ValueError:
            shift = np.nan
        if not equals or not np.isfinite(shift):
            raise ValueError(f"--set takes pairs such as 3=+2.0,7=-1, not {part!r}")
        if (index := _row(row, num_rows, kind)) in shifts:
            raise ValueError(f"--set names {kind} {index} twice")
        shifts[index] = shift
    return shifts


def _row(text: str, num_rows: int, kind: str) -> int:
    try:
        row = int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not the number of a {kind}") from None
    if not 0 <= row < num_rows:
        raise ValueError(f"{kind} {row} is out of range: there are {num_rows}, numbered 0 to {num_rows - 1}")
    return row
