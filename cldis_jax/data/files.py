"""Image files on the command line: find them, read their pixels, and write results without replacing an input."""

import functools
import io
import itertools
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging
from PIL import Image

from cldis_jax.data import images, listing
from cldis_jax.runtime import visualize
from cldis_jax.runtime.errors import UserError
from cldis_jax.runtime.files import in_bucket

CELEBA_SIZE = (178, 218)  # width, height; images of other sizes get the centre crop


class ImageFileError(UserError):
    """An image that is missing or unreadable, or a result that would replace one."""


def find(text: str) -> list[Path]:
    """The images that a comma-separated list of files, folders and zip files names.

    A folder or a zip file stands for the readable images in it, as training finds them. The path of an image in a zip
    file goes through it: `photos.zip/a.jpg`.

    Raises:
      ImageFileError: a file is missing, or a folder has no readable image.
    """
    parts = [text] if Path(text).expanduser().exists() else text.split(",")
    return [file for part in parts for file in _found(part)]


def existing(text: str) -> Path:
    """The path of one image, in a folder or a zip file, which exists."""
    path = Path(text).expanduser()
    archive = _archive(path)
    if not path.is_file() and (archive is None or path not in _inside(archive)[1]):
        raise ImageFileError(f"no image file {text}")
    return path


def _found(text: str) -> list[Path]:
    path = Path(text).expanduser()
    if not path.is_dir() and not _is_zip(path):
        return [existing(text)]
    found, names = _inside(path)
    broken = {file: name for file, name in names.items() if not _is_readable(found.open(name))}
    skipped = listing.describe({listing.BROKEN: list(broken.values()), **found.skipped})
    if len(broken) == len(names):
        raise ImageFileError(f"no readable image in {text}{skipped and f'; {skipped}'}")
    if skipped:
        logging.warning("%s: %s", text, skipped)
    return [file for file in names if file not in broken]


def _inside(path: Path) -> tuple[listing.Listing, dict[Path, str]]:
    """The images of a folder or a zip file, and their names in it by their paths."""
    found = listing.find(str(path))
    return found, {Path(f"{path}/{name}"): name for name in found.names}


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() not in images.suffixes() and zipfile.is_zipfile(path)


def _archive(file: Path) -> Path | None:
    """The zip file that the path of an image goes through, or None for one on the disk."""
    return None if file.exists() else next(filter(_is_zip, file.parents), None)


def _is_readable(file: Path | io.BytesIO) -> bool:
    try:
        images.read(file, 8)
    except Exception:  # damaged bytes raise errors of any kind
        return False
    return True


def read(files: Sequence[Path], image_size: int, channels: int, crop: str) -> np.ndarray:
    """Files of any size and mode as [B, image_size, image_size, channels] float32 in [-1, 1].

    Raises:
      ImageFileError: one can't be read; the message names it.
    """
    inside = functools.cache(_inside)  # a zip file is listed once
    pixels = []
    for file in files:
        try:
            opened = file
            if (archive := _archive(file)) is not None:
                found, names = inside(archive)
                opened = found.open(names[file])
            with Image.open(opened) as image:
                size = image.size
            pixels.append(images.read(opened, image_size, channels, crop if size == CELEBA_SIZE else "center")[0])
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
        if in_bucket(folder):
            raise ImageFileError(f"{folder} is not a folder of this machine; give one, and copy it afterwards")
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
