"""A model as the page shows it: its axes with names, and images to start from."""

import dataclasses
import functools
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cldis_jax import api, data
from cldis_jax.api.codes import encode
from cldis_jax.api.neighbours import Neighbours
from cldis_jax.data import files as image_files
from cldis_jax.explorer import naming
from cldis_jax.models import pixels
from cldis_jax.runtime.errors import UserError

NUM_SHOWN = 20  # images to choose from
NUM_COMPARED = 2_000  # images of the data among which neighbours are searched
ENCODE_STEPS = 250  # as `cldis_jax.edit` [Diff-AE: 250]


class Images(NamedTuple):
    """Images to choose from; without any, `pixels` has no rows."""

    names: tuple[str, ...]
    pixels: np.ndarray  # [N, H, W, C] in [-1, 1]
    files: tuple[str, ...]  # where each is on the disk; empty for an image of a data set
    note: str = ""  # why there are none, or what they are


@dataclasses.dataclass(frozen=True)
class Explored:
    """A model, the axes along which the page moves z, and images."""

    bundle: api.Bundle
    axes: api.Axes
    names: tuple[str, ...]  # of the axes; empty where nothing is known
    images: Images
    directions: str = ""  # the file of the axes, if they are directions

    def editor(self, num_steps: int | None = None) -> api.Editor:
        """The editor of the latent; `num_steps` of decoding, by default the config's."""
        steps = num_steps or self.bundle.config.diffusion.decode_steps
        return api.Editor(self.bundle, self.axes.latent, self.encode_steps, steps)

    @property
    def encode_steps(self) -> int:
        return min(ENCODE_STEPS, self.bundle.config.diffusion.num_steps)

    @property
    def order(self) -> list[int]:
        """The axes, those first that vary most: by their deviation, and directions as their search ranks them."""
        if self.axes.kind == "direction":
            return list(self.axes.order)
        return np.argsort(-np.linalg.norm(self.axes.steps, axis=1), kind="stable").tolist()

    def label(self, k: int) -> str:
        return naming.label(self.axes.kind, k, self.names[k])

    def read(self, path: str) -> np.ndarray:
        """An image file of any format that training reads, as [1, H, W, C] in [-1, 1].

        Raises:
          ImageFileError: it can't be read.
        """
        settings = self.bundle.config.data
        return image_files.read([Path(path)], settings.image_size, settings.channels, settings.crop)

    def command(self, image: str, shifts: dict[int, float], num_steps: int, seed: int | None) -> str:
        """The command line that makes the same picture; `seed` of a random x_T, or None."""
        words = ["python", "-m", "cldis_jax.edit", f"--workdir={self.bundle.workdir}", f"--images={image}"]
        words += ["--out=edited", "--set=" + ",".join(f"{k}={shift:+g}" for k, shift in shifts.items())]
        if self.axes.latent == "z_sem":
            words += [f"--encode_steps={self.encode_steps}", f"--num_steps={num_steps}"]
        if self.directions:
            words.append(f"--directions={self.directions}")
        elif self.axes.latent != self.bundle.main_latent:
            words.append(f"--latent={self.axes.latent}")
        if seed is not None:
            words += ["--x_T=random", f"--seed={seed}"]
        return " ".join(map(shlex.quote, words))

    @functools.cached_property
    def source(self) -> data.Source:
        """The images that the model was trained on.

        Raises:
          UserError: they are not here.
        """
        return data.make_source(self.bundle.config.data)

    @functools.cached_property
    def _compared(self) -> np.ndarray:
        return data.subset(np.arange(len(self.source)), NUM_COMPARED, 0)

    @functools.cached_property
    def neighbours(self) -> Neighbours:
        """The codes of NUM_COMPARED images of the data.

        Raises:
          UserError: the data are not here.
        """
        codes = encode(self.bundle, self.axes.latent, self.source, self._compared)
        return Neighbours(codes, np.asarray(self.bundle.moments(self.axes.latent).std))

    def compared_images(self, rows: np.ndarray) -> np.ndarray:
        """The images [B, H, W, C] in [-1, 1] of rows of `neighbours`."""
        return np.asarray(pixels.to_unit_range(self.source.fetch(self._compared[rows])))


def explored(
    bundle: api.Bundle,
    files: Sequence[Path] = (),
    *,
    axes: api.Axes | None = None,
    directions: str = "",
    num_images: int = NUM_SHOWN,
) -> Explored:
    """A model with its axes and at most `num_images` images: `files`, or held-out images of its data.

    Args:
      axes: by default the units of the main latent.
      directions: the file that `axes` come from.

    Raises:
      UserError: a file can't be read.
    """
    axes = axes or api.axes(bundle, bundle.main_latent)
    images = _of_files(bundle, files[:num_images]) if files else _held_out(bundle, num_images)
    return Explored(bundle, axes, tuple(naming.names(axes, bundle.workdir, directions)), images, directions)


def _of_files(bundle: api.Bundle, files: Sequence[Path]) -> Images:
    settings = bundle.config.data
    found = image_files.read(files, settings.image_size, settings.channels, settings.crop)
    return Images(tuple(image_files.names(files)), found, tuple(map(str, files)))


def _held_out(bundle: api.Bundle, num: int) -> Images:
    """Held-out images, or training images if none are held out; none if the data are not here.

    If the images here are not those of the training, nobody knows which of them were held out.
    """
    try:
        source = data.make_source(bundle.config.data)
        parts = data.parts(source, bundle.config.data)
    except UserError as error:
        none = np.zeros((0, *bundle.image_shape), np.float32)
        return Images((), none, (), f"the images of this model's data are not here: {error}")
    which, indices = ("held out", parts.held_out) if len(parts.held_out) else ("training", parts.train)
    note = ""
    if difference := data.difference(source, bundle.trained_on):
        which, indices = "other", np.arange(len(source))
        note = f"The model was trained on other images: {difference}"
    chosen = data.subset(indices, num, 0)
    shown = np.asarray(pixels.to_unit_range(source.fetch(chosen)))
    return Images(tuple(f"{which} {i}" for i in chosen), shown, ("",) * len(chosen), note)
