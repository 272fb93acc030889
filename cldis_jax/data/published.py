"""Cars3D and MPI3D: sets with known factors, read from their published files."""

import zipfile
from pathlib import Path

import numpy as np
import scipy.io
from absl import logging
from PIL import Image
from tqdm import tqdm

from cldis_jax.data.images import to_square
from cldis_jax.data.source import DataError, Source

MPI3D_SIZES = {
    "toy": (6, 6, 2, 3, 3, 40, 40),
    "realistic": (6, 6, 2, 3, 3, 40, 40),
    "real": (6, 6, 2, 3, 3, 40, 40),
    "complex": (4, 4, 2, 3, 3, 40, 40),
}


class Cars3D(Source):
    """Cars3D (Reed et al., 2015), 17,568 images uint8 [image_size, image_size, channels], kept in memory.

    Args:
      path: the unpacked directory of nips2015-analogy-data.tar.gz, or the directory of its 183 .mat files. Each file
        has `im` [row, column, colour, 24 azimuths, 4 elevations]. Objects are numbered in the order of file names.

    Raises:
      DataError: files are missing, or their arrays have another shape.
    """

    name = "cars3d"
    factor_names = ("elevation", "azimuth", "object")
    factor_sizes = (4, 24, 183)

    def __init__(self, path: str, image_size: int = 64, channels: int = 3):
        elevations, azimuths, objects = self.factor_sizes
        files = sorted(Path(path).expanduser().rglob("*.mat")) if path else []
        files = [file for file in files if file.parent.name == "cars"] or files
        if len(files) != objects:
            raise DataError(
                f"data.path={path!r} holds {len(files)} .mat files of Cars3D; {objects} are needed. Unpack "
                "nips2015-analogy-data.tar.gz (Reed et al., 2015) and give its directory"
            )
        self._images = np.empty((elevations, azimuths, objects, image_size, image_size, channels), np.uint8)
        for car, file in enumerate(tqdm(files, "reading Cars3D", disable=None)):
            try:
                views = scipy.io.loadmat(file).get("im")
            except Exception as error:  # loadmat raises errors of many kinds for damaged files
                raise DataError(f"{file} can't be read as a .mat file: {error}") from error
            if views is None or views.ndim != 5 or views.shape[2:] != (3, azimuths, elevations):
                found = "nothing" if views is None else f"shape {views.shape}"
                raise DataError(f"{file}: expected `im` of shape (H, W, 3, {azimuths}, {elevations}), found {found}")
            for elevation, azimuth in np.ndindex(elevations, azimuths):
                view = Image.fromarray(views[..., azimuth, elevation])
                self._images[elevation, azimuth, car] = to_square(view, image_size, channels)
        self._images = self._images.reshape(-1, *self._images.shape[3:])

    def fetch(self, indices: np.ndarray) -> np.ndarray:
        return self._images[indices]


class Mpi3D(Source):
    """MPI3D (Gondal et al., 2019), uint8 [image_size, image_size, channels], read from disk as needed.

    Args:
      path: the published .npz, which has the array `images` [N, 64, 64, 3], or this array as .npy.
      name: toy | realistic | real (1,036,800 images) | complex (460,800).

    Raises:
      DataError: the file is missing, or its number of images is not that of the set.
    """

    factor_names = ("color", "shape", "size", "camera", "background", "horizontal", "vertical")

    def __init__(self, path: str, name: str, image_size: int = 64, channels: int = 3):
        if name not in MPI3D_SIZES:
            raise DataError(f"data.name={name!r} is not a part of MPI3D; choose from {', '.join(MPI3D_SIZES)}")
        self.name = f"mpi3d_{name}"
        self.factor_sizes = MPI3D_SIZES[name]
        self.image_size, self.channels = image_size, channels
        file = Path(path).expanduser()
        if not path or not file.is_file():
            raise DataError(f"data.path={path!r} is not a file; give MPI3D's published {self.name} .npz, or an .npy")
        try:
            self._images = np.load(file, mmap_mode="r") if file.suffix == ".npy" else _map_npz(file, "images")
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{file} can't be read as MPI3D's array `images`: {error}") from error
        if self._images.shape[0] != len(self) or self._images.ndim != 4:
            raise DataError(
                f"{file} holds an array of shape {self._images.shape}; {self.name} has {len(self):,} images "
                f"(factor sizes {self.factor_sizes}): is data.name right?"
            )

    def fetch(self, indices: np.ndarray) -> np.ndarray:
        images = (Image.fromarray(self._images[i]) for i in indices)
        return np.stack([to_square(image, self.image_size, self.channels) for image in images])


def _map_npz(file: Path, key: str) -> np.ndarray:
    """An array of an .npz file: memory-mapped if it is stored uncompressed, else loaded into memory."""
    with zipfile.ZipFile(file) as archive:
        member = archive.getinfo(f"{key}.npy")
        if member.compress_type != zipfile.ZIP_STORED:
            size = member.file_size / 2**30
            logging.warning(
                "%s is compressed: loading %.1f GiB into memory; an .npy file would be read from disk", file, size
            )
            return np.load(file)[key]
        with archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, fortran_order, dtype = read_header[version](stream)
            header_bytes = stream.tell()
    with open(file, "rb") as raw:
        # The local header before the data: 30 bytes, a name and an extra field. Their lengths are at byte 26.
        raw.seek(member.header_offset + 26)
        name_bytes, extra_bytes = np.frombuffer(raw.read(4), "<u2").astype(int)
    start = member.header_offset + 30 + name_bytes + extra_bytes + header_bytes
    return np.memmap(file, dtype, "r", int(start), shape, "F" if fortran_order else "C")
