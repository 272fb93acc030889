"""Image files on the command line: find them, read their pixels, and write results without replacing an input."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cldis_jax.data.folder import SUFFIXES, read_image
from cldis_jax.runtime import visualize
from cldis_jax.runtime.errors import UserError

CELEBA_SIZE = (178, 218)  # width, height; images of other sizes get the centre crop


class ImageFileError(UserError):
    """An image that is missing or unreadable, or a result that would replace one."""


def find(text: str) -> list[Path]:
    """The files of a comma-separated list, or the image files of a folder."""
    path = Path(text).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
        if not files:
            raise ImageFileError(f"no {', '.join(SUFFIXES)} file in the folder {text}")
        return files
    return [path] if path.is_file() else [existing(part) for part in text.split(",")]


def existing(text: str) -> Path:
    """The path of an existing file."""
    path = Path(text).expanduser()
    if not path.is_file():
        raise ImageFileError(f"no image file {text}")
    return path


def read(files: Sequence[Path], image_size: int, channels: int, crop: str) -> np.ndarray:
    """Images of any size and mode, float32 [B, image_size, image_size, channels] in [-1, 1]."""
    images = []
    for file in files:
        try:
            with Image.open(file) as image:
                size = image.size
            images.append(read_image(file, image_size, channels, crop if size == CELEBA_SIZE else "center"))
        except Exception as error:  # damaged bytes raise errors of any kind
            raise ImageFileError(f"{file} can't be read as an image: {error}") from error
    return np.stack(images).astype(np.float32) / 127.5 - 1


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
