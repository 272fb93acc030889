"""Your own images: every JPEG, PNG and WebP file in a directory and its sub-directories."""

import functools
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import logging
from PIL import Image
from tqdm import tqdm

from cldis_jax.data.images import crop_box, to_square
from cldis_jax.data.source import DataError, Source, names_digest

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
THREADS = min(8, os.cpu_count() or 1)
NAMED_FILES = 5  # largest number of broken files in a message


def read_image(file: str | os.PathLike, image_size: int, channels: int = 3, crop: str = "center") -> np.ndarray:
    """An image file of any size and mode as uint8 [image_size, image_size, channels]; see `images.to_square`."""
    with Image.open(file) as image:
        # A JPEG may be decoded at a smaller size, as long as it is large enough for a good resize.
        side = 3 * image_size
        if crop == "center":
            image.draft(None, (side, side))
        return to_square(image, image_size, channels, crop)


class Folder(Source):
    """All images in a directory and its sub-directories, ordered by path, uint8 [image_size, image_size, channels].

    `images.to_square` converts images of any size and mode. Every file is decoded once at the start. Broken files are
    left out; a warning names them.

    Raises:
      DataError: the directory does not exist, or contains no readable image.
    """

    def __init__(self, path: str, image_size: int, channels: int = 3, crop: str = "center"):
        self.name = f"folder {path}"
        self.image_size, self.channels, self.crop = image_size, channels, crop
        self._pool = ThreadPoolExecutor(THREADS)
        root = self._root = Path(path).expanduser()
        if not path or not root.is_dir():
            raise DataError(f"data.path={path!r} is not a directory; give the directory that holds your images")
        files = sorted(file for file in root.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        bar = tqdm(self._pool.map(self._error, files), "reading images", len(files), disable=len(files) <= 1000 or None)
        errors = list(bar)
        self.files = [file for file, error in zip(files, errors) if not error]

        broken = [f"{file} ({error})" for file, error in zip(files, errors) if error]
        more = ", ..." if len(broken) > NAMED_FILES else ""
        summary = f"{len(broken)} of {len(files)} images can't be used: {', '.join(broken[:NAMED_FILES])}{more}"
        if not self.files:
            found = summary if broken else f"no {', '.join(SUFFIXES)} file"
            raise DataError(f"data.path={path!r} holds no usable image: {found}")
        if broken:
            logging.warning("%s", summary)

    def __len__(self) -> int:
        return len(self.files)

    @functools.cached_property
    def digest(self) -> str:
        """The folder may move: only the names below it count."""
        return names_digest(file.relative_to(self._root).as_posix() for file in self.files)

    def fetch(self, indices: np.ndarray) -> np.ndarray:
        return np.stack(list(self._pool.map(self._read, (self.files[i] for i in indices))))

    def _read(self, file: Path) -> np.ndarray:
        return read_image(file, self.image_size, self.channels, self.crop)

    def _error(self, file: Path) -> str:
        """Why a file can't be used; empty if it can."""
        try:
            with warnings.catch_warnings(), Image.open(file) as image:
                warnings.simplefilter("ignore")
                crop_box(*image.size, self.crop)
                image.draft(None, (64, 64))
                image.load()
        except Exception as error:  # damaged bytes raise errors of any kind
            return str(error) or type(error).__name__
        return ""
