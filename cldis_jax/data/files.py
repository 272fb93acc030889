"""Image files on the command line: find them, read their pixels, and write results without replacing an input."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging
from PIL import Image

from cldis_jax.data import images, listing
from cldis_jax.runtime import visualize
from cldis_jax.runtime.errors import UserError

CELEBA_SIZE = (178, 218)  # width, height; images of other sizes get the centre crop


class ImageFileError(UserError):
    """An image that is missing or unreadable, or a result that would replace one."""


def find(text: str) -> list[Path]:
    """The files that a comma-separated list names, or the readable images of a folder, as training finds them."""
    path = Path(text).expanduser()
    if path.is_dir():
        found = listing.find(text)
        broken = [name for name in found.names if not _is_readable(found.open(name))]
        skipped = listing.describe({listing.BROKEN: broken, **found.skipped})
        if len(broken) == len(found):
            raise ImageFileError(f"no readable image in the folder {text}{skipped and f'; {skipped}'}")
        if skipped:
            logging.warning("%s: %s", text, skipped)
        return [found.open(name) for name in found.names if name not in broken]
    return [path] if path.is_file() else [existing(part) for part in text.split(",")]


def existing(text: str) -> Path:
    """The path of an existing file."""
    path = Path(text).expanduser()
    if not path.is_file():
        raise ImageFileError(f"no image file {text}")
    return path


def _is_readable(file: Path) -> bool:
    try:
        images.read(file, 8)
    except Exception:  # damaged bytes raise errors of any kind
        return False
    return True


def read(files: Sequence[Path], image_size: int, channels: int, crop: str) -> np.ndarray:
    """Files of any size and mode as [B, image_size, image_size, channels] float32 in [-1, 1]."""
    pixels = []
    for file in files:
        try:
            with Image.open(file) as image:
                size = image.size
            pixels.append(images.read(file, image_size, channels, crop if size == CELEBA_SIZE else "center")[0])
        except Exception as error:  # damaged bytes raise errors of any kind
            raise ImageFileError(f"{file} can't be read as an image: {error}") from error
    return np.stack(pixels).astype(np.float32) / 127.5 - 1


def names(files: Sequence[Path]) -> list[str]:
    """A unique name for the results of each file: its stem, with a number if several files have the same stem."""
    stems = [file.stem for file in files]
    found, taken = [], set(stems)
    for i, stem in enumerate(stems):
        if stems.count(stem) > 1:
            stem = next(name for name in (f"{stem}_{n}" for n in itertools.count(i)) if name not in taken)
            taken.add(stem)
        found.append(stem)
    return found


class Outputs:
    """Writes pictures to a folder. A picture that would replace an input is an ImageFileError."""

    def __init__(self, folder: str, inputs: Sequence[Path]):
        self.folder = Path(folder).expanduser()
        if self.folder.exists() and not self.folder.is_dir():
            raise ImageFileError(f"{folder} is a file; give a folder for the pictures")
        self._inputs = {file.resolve() for file in inputs}
        self.written: list[str] = []

    def path(self, name: str) -> Path:
        """The path for `name`. Call it for every name before any work, because it may raise ImageFileError."""
        path = self.folder / name
        if path.resolve() in self._inputs:
            raise ImageFileError(f"{path} would replace an input image; choose another folder")
        return path

    def png(self, name: str, picture: np.ndarray) -> None:
        visualize.save_png(self.path(name), picture)
        self.written.append(name)

    def animation(self, name: str, frames: Sequence[np.ndarray]) -> None:
        visualize.save_animation(self.path(name), frames)
        self.written.append(name)
