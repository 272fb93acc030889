"""What a search for directions found, to keep, to look at and to compare: file, contact sheet, animation, factors."""

import zipfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from einops import rearrange
from etils import epath
from tqdm import tqdm

from cldis_jax import api
from cldis_jax.api import pictures
from cldis_jax.data import Source
from cldis_jax.navigation import factor_probe
from cldis_jax.runtime import visualize
from cldis_jax.runtime.files import atomic

CHUNK = 32  # images decoded at once
SHEET_SHIFTS = 7
FRAMES = 13
NUM_BEST = 5  # directions in the animation
PROBE_SHIFT = 2.0  # standard deviations either way, at which factors are read
RANDOM_DRAWS = 2  # bases that the random directions are averaged over

Paint = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (z [N, d], x_T [N, H, W, C]) -> images [N, H, W, C]


class Directions(NamedTuple):
    """What `directions.npz` holds."""

    A: np.ndarray  # [d, K], columns of length 1 in standard deviations of z
    scales: np.ndarray  # [d], these deviations
    ranking: np.ndarray  # [K], the best first
    accuracy: np.ndarray  # [K], how often the reconstructor names each
    latent: str
    model_step: int

    def save(self, path: epath.PathLike) -> None:
        """Write them, whole or not at all."""
        with atomic(path) as file:
            np.savez(file, **self._asdict())

    @classmethod
    def load(cls, path: epath.PathLike, bundle: api.Bundle) -> "Directions":
        """Those of a file, which `bundle` is to be moved along; notes where they were found on another step of it.

        Raises:
          ValueError: it is no such file.
        """
        try:
            with epath.Path(path).open("rb") as file, np.load(file) as content:
                found = cls(*(np.asarray(content[name]) for name in cls._fields))
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} can't be read as directions of cldis_jax.navigate: {error}") from error
        found = found._replace(latent=str(found.latent), model_step=int(found.model_step))
        if found.model_step != bundle.step:
            print(f"note: {path} holds directions of step {found.model_step}, the model is of step {bundle.step}")
        return found


def painter(bundle: api.Bundle, latent: str) -> Paint:
    """The model's full decoder for a latent, in batches: DDIM of the config's `decode_steps`, or the VAE's."""

    def paint(z, x_T):
        if latent == "z_disen":
            return pictures.in_chunks(bundle.decode_vae, z, size=CHUNK)
        return pictures.decode_in_chunks(bundle, x_T, z, bundle.config.diffusion.decode_steps, CHUNK)

    return paint


def shifted(paint: Paint, z: np.ndarray, x_T: np.ndarray, steps: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Images [K, N, S, H, W, C]: codes z [N, d] moved along `steps` [K, d] by `shifts` [S], each at its own x_T."""
    codes = np.stack([pictures.traversal_codes(code, steps, shifts) for code in z])  # [N, K, S, d]
    images = []
    for k in tqdm(range(len(steps)), "decoding the directions", unit="direction", leave=False, disable=None):
        flat = rearrange(codes[:, k], "n s d -> (n s) d").astype(np.float32)
        images.append(rearrange(paint(flat, x_T.repeat(len(shifts), axis=0)), "(n s) h w c -> n s h w c", n=len(z)))
    return np.stack(images)


def contact_sheet(
    paint: Paint,
    z: np.ndarray,
    x_T: np.ndarray,
    steps: np.ndarray,
    ranking: np.ndarray,
    accuracy: np.ndarray,
    max_shift: float,
) -> np.ndarray:
    """One uint8 picture: a row for each direction, best first, with every image moved from end to end."""
    shifts = np.linspace(-max_shift, max_shift, SHEET_SHIFTS)
    images = shifted(paint, z, x_T, steps[ranking], shifts)
    rows = [f"direction {k} ({accuracy[k]:.0%})" for k in ranking]
    columns = [f"{s:+.1f}" for s in shifts] * len(z)
    title = "shift in standard deviations; in brackets how often the reconstructor names the direction"
    return visualize.grid(rearrange(images, "k n s h w c -> k (n s) h w c"), rows, columns, title)


def animation(
    paint: Paint, z: np.ndarray, x_T: np.ndarray, steps: np.ndarray, ranking: np.ndarray, max_shift: float
) -> list[np.ndarray]:
    """Frames of the best directions, one a row, each image moving from end to end."""
    best = ranking[:NUM_BEST]
    shifts = np.linspace(-max_shift, max_shift, FRAMES)
    images = shifted(paint, z, x_T, steps[best], shifts)
    labels = [f"direction {k}" for k in best]
    return [visualize.grid(images[:, :, i], labels, title=f"{s:+.1f} std") for i, s in enumerate(shifts)]


# --- Factors by name ---


def rival_directions(codes: np.ndarray, num: int, seed: int) -> dict[str, np.ndarray]:
    """What found directions are compared with, as rows [., d] of length 1 in standard deviations of codes [N, d].

    `axes`: every dimension; `pca`: the `num` leading eigenvectors of the codes' correlations; `random`: as many
    orthonormal ones, from RANDOM_DRAWS draws.
    """
    dim, rng = codes.shape[1], np.random.default_rng(seed)
    std = codes.std(axis=0)
    centred = (codes - codes.mean(axis=0)) / np.where(std > 0, std, 1)
    eigenvectors = np.linalg.eigh(centred.T @ centred / len(codes))[1].T[::-1]
    bases = [np.linalg.qr(rng.normal(size=(dim, dim)))[0][:num] for _ in range(RANDOM_DRAWS)]
    return {"axes": np.eye(dim), "pca": eigenvectors[:num], "random": np.concatenate(bases)}


def factor_changes(
    probe: factor_probe.Probe, paint: Paint, z: np.ndarray, x_T: np.ndarray, steps: np.ndarray
) -> np.ndarray:
    """How much each factor changes along each direction [K, F], in [0, 1]: the mean over codes and both ways."""
    before = paint(z, x_T).repeat(2, axis=0)
    after = rearrange(
        shifted(paint, z, x_T, steps, np.array([-PROBE_SHIFT, PROBE_SHIFT])), "k n s h w c -> k (n s) h w c"
    )
    return np.stack([probe.changes(before, moved) for moved in after])


def name_factors(
    probe: factor_probe.Probe,
    source: Source,
    indices: np.ndarray,
    paint: Paint,
    found: np.ndarray,
    codes: np.ndarray,
    z: np.ndarray,
    x_T: np.ndarray,
    seed: int,
) -> dict[str, object]:
    """The `factor_share` of found directions [K, d] and of their rivals, the `changes` behind it, by factor [F] the
    `decoded_accuracy`: how often the probe reads the right value from a decoded image.

    Args:
      indices: of the source's images whose codes `z` [N, d] are moved, at x_T [N, H, W, C].
      codes: codes [M, d] of many images, for the deviations and the correlations.
    """
    scales = codes.std(axis=0)
    directions = {"navigation": found} | rival_directions(codes, len(found), seed)
    changes = {name: factor_changes(probe, paint, z, x_T, rows * scales) for name, rows in directions.items()}
    return {
        "factor_share": {name: factor_probe.factor_share(values) for name, values in changes.items()},
        "changes": changes,
        "decoded_accuracy": probe.accuracy(paint(z, x_T), source.factors(indices)),
    }
