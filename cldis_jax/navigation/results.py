"""The results of a search for directions: the file, the contact sheet, the animation, the effect on each factor."""

import zipfile
from typing import Any, NamedTuple

import numpy as np
from einops import rearrange
from etils import epath

from cldis_jax import api
from cldis_jax.navigation import factor_probe
from cldis_jax.runtime import visualize
from cldis_jax.runtime.errors import UserError
from cldis_jax.runtime.files import atomic

SHEET_SHIFTS = 7
FRAMES = 13
NUM_BEST = 5  # directions in the animation
PROBE_SHIFT = 2.0  # standard deviations either way, at which factors are read
RANDOM_DRAWS = 2  # bases that the random directions are averaged over


class Directions(NamedTuple):
    """The content of `directions.npz`."""

    A: np.ndarray  # [d, K], columns of length 1 in standard deviations of z
    scales: np.ndarray  # [d], these deviations
    ranking: np.ndarray  # [K], the best first
    accuracy: np.ndarray  # [K], how often the reconstructor recognises each
    latent: str
    model_step: int

    def save(self, path: epath.PathLike) -> None:
        """Write the file, whole or not at all."""
        with atomic(path) as file:
            np.savez(file, **self._asdict())

    @property
    def axes(self) -> api.Axes:
        """As axes of an Editor: a shift of 1 along a direction is one standard deviation of z."""
        return api.Axes((self.scales[:, None] * self.A).T, self.ranking.tolist(), "direction", self.latent)

    @classmethod
    def load(cls, path: epath.PathLike, bundle: api.Bundle, latent: str | None = None) -> "Directions":
        """The directions of a file, for `bundle`; prints a note if they were found at another step of it.

        Raises:
          UserError: there is no such file, or its directions are of another kind of model or not of `latent`.
        """
        try:
            with epath.Path(path).open("rb") as file, np.load(file) as content:
                found = cls(*(np.asarray(content[name]) for name in cls._fields))
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} can't be read as directions of cldis_jax.navigate: {error}") from error
        found, dim = found._replace(latent=str(found.latent), model_step=int(found.model_step)), len(bundle.z_std)
        if found.A.ndim != 2 or len(found.A) != dim or found.scales.shape != (dim,):
            raise UserError(
                f"{path}: directions of shape {found.A.shape} with scales {found.scales.shape} don't fit a z of {dim}"
            )
        if found.latent != (latent or found.latent):
            raise UserError(f"{path} holds directions of {found.latent}, not of --latent={latent}")
        if found.model_step != bundle.step:
            print(f"note: {path} holds directions of step {found.model_step}, the model is of step {bundle.step}")
        return found


def contact_sheet(
    editor: api.Editor, code: api.Code, axes: api.Axes, accuracy: np.ndarray, max_shift: float
) -> np.ndarray:
    """One uint8 picture: a row for each direction, the best first, in which every image is moved from end to end."""
    shifts = np.linspace(-max_shift, max_shift, SHEET_SHIFTS)
    images = editor.traverse(code, axes.steps[axes.order], shifts, "decoding the directions")
    rows = [f"direction {k} ({accuracy[k]:.0%})" for k in axes.order]
    columns = [f"{s:+.1f}" for s in shifts] * len(code.z)
    title = "shift in standard deviations; in brackets how often the reconstructor names the direction"
    return visualize.grid(rearrange(images, "k n s h w c -> k (n s) h w c"), rows, columns, title)


def animation(editor: api.Editor, code: api.Code, axes: api.Axes, max_shift: float) -> list[np.ndarray]:
    """Frames of the best directions, one a row, in which each image moves from end to end."""
    best = axes.order[:NUM_BEST]
    shifts = np.linspace(-max_shift, max_shift, FRAMES)
    images = editor.traverse(code, axes.steps[best], shifts, "decoding the animation")
    labels = [f"direction {k}" for k in best]
    return [visualize.grid(images[:, :, i], labels, title=f"{s:+.1f} std") for i, s in enumerate(shifts)]


# --- Factors by name ---


def baseline_directions(codes: np.ndarray, num: int, seed: int) -> dict[str, np.ndarray]:
    """Directions to compare with: rows [., d] of length 1 in standard deviations of codes [N, d].

    `axes`: every dimension; `pca`: the `num` leading eigenvectors of the codes' correlations; `random`: `num`
    orthonormal ones from each of RANDOM_DRAWS draws.
    """
    dim, rng = codes.shape[1], np.random.default_rng(seed)
    std = codes.std(axis=0)
    centred = (codes - codes.mean(axis=0)) / np.where(std > 0, std, 1)
    eigenvectors = np.linalg.eigh(centred.T @ centred / len(codes))[1].T[::-1]
    bases = [np.linalg.qr(rng.normal(size=(dim, dim)))[0][:num] for _ in range(RANDOM_DRAWS)]
    return {"axes": np.eye(dim), "pca": eigenvectors[:num], "random": np.concatenate(bases)}


def factor_changes(
    probe: factor_probe.Probe, editor: api.Editor, code: api.Code, steps: np.ndarray, before: np.ndarray
) -> np.ndarray:
    """How much each factor changes along each direction [K, F], in [0, 1]: the mean over codes and both ways.

    `before` [B, H, W, C] are the images of the codes.
    """
    shifts = (-PROBE_SHIFT, PROBE_SHIFT)
    after = editor.traverse(code, steps, shifts, "reading the factors")
    before = before.repeat(len(shifts), axis=0)
    return np.stack([probe.changes(before, rearrange(moved, "n s h w c -> (n s) h w c")) for moved in after])


def name_factors(
    probe: factor_probe.Probe,
    editor: api.Editor,
    code: api.Code,
    values: np.ndarray,
    found: np.ndarray,
    codes: np.ndarray,
    seed: int,
) -> dict[str, object]:
    """How much each direction changes each factor, as the probe reads it.

    Args:
      code: of the images that are moved; `values` [B, F] of the factors are their true ones.
      found: the directions [K, d], of length 1 in standard deviations of z.
      codes: codes [M, d] of many images, for the deviations and the correlations of z.

    Returns `changes` [K, F] of the found directions and of the baselines, their `factor_share`, and `decoded_score`
    [F]: how well the probe reads the true values from the decoded images.
    """
    directions = {"navigation": found} | baseline_directions(codes, len(found), seed)
    scales, before = codes.std(axis=0), editor.decode(code)
    changes = {name: factor_changes(probe, editor, code, rows * scales, before) for name, rows in directions.items()}
    return {
        "factor_share": {name: factor_probe.factor_share(values) for name, values in changes.items()},
        "changes": changes,
        "decoded_score": probe.score(before, values),
    }


def probe_rows(written: dict[str, Any]) -> list[tuple[str, str]]:
    """A row with the mean score of the factor probe, from the content of navigation.json.

    No row for data without labels, and where no factor has a score: its attribute has one value in all images.
    """
    rows = []
    for measure in ("accuracy", "auroc"):
        scores = written.get(f"probe_{measure}", {})
        known = {images: [s for s in by_factor.values() if s is not None] for images, by_factor in scores.items()}
        if known.get("originals") and known.get("decoded"):
            means = f"{np.mean(known['originals']):.2f} / {np.mean(known['decoded']):.2f}"
            rows.append((f"{measure} of the probe: originals / decoded", means))
    return rows
