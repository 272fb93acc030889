"""Image sets, rendered or read from files, and their batches."""

import importlib.util
import sys

import jax
from ml_collections import ConfigDict

from cldis_jax.data.folder import Folder
from cldis_jax.data.images import CROPS
from cldis_jax.data.loader import Parts, make_loader, parts, split, subset, training_loader
from cldis_jax.data.published import Cars3D, Mpi3D
from cldis_jax.data.scenes import Scenes
from cldis_jax.data.source import DataError, Source, difference, identity
from cldis_jax.data.sprites import Sprites

SOURCES = ("scenes", "sprites", "folder", "tfds", "cars3d", "mpi3d")

__all__ = ["SOURCES", "DataError", "Source", "difference", "identity", "make_loader", "make_source", "split", "subset"]
__all__ += ["Parts", "parts", "training_loader"]


def make_source(data: ConfigDict) -> Source:
    """The image set of the config's section `data`.

    Raises:
      DataError: an unknown source or crop, a number of channels that the source does not have, missing images, or a
        library that is not installed. The message says what to do.
    """
    size, channels = data.image_size, data.channels
    if data.source not in SOURCES:
        raise DataError(f"data.source={data.source!r} is unknown; choose from {', '.join(SOURCES)}")
    if data.crop not in CROPS:
        raise DataError(f"data.crop={data.crop!r} is unknown; choose from {', '.join(CROPS)}")
    if channels not in (1, 3) or (data.source == "scenes" and channels == 1):
        allowed = "3" if data.source == "scenes" else "1 or 3"
        raise DataError(f"data.channels={channels}: the source {data.source} has {allowed}")
    if data.source == "scenes":
        return Scenes(size)
    if data.source == "sprites":
        return Sprites(size, channels)
    if data.source == "folder":
        folder = Folder(data.path, size, channels, data.crop, data.split, data.cache)
        if not jax.distributed.is_initialized() or jax.process_index() == 0:
            print(*folder.describe(len(parts(folder, data).held_out)), sep="\n", file=sys.stderr, flush=True)
        return folder
    if data.source == "cars3d":
        return Cars3D(data.path, size, channels)
    if data.source == "mpi3d":
        return Mpi3D(data.path, data.name, size, channels)
    if importlib.util.find_spec("tensorflow_datasets") is None:
        raise DataError("data.source=tfds needs TensorFlow Datasets: pip install 'cldis_jax[tfds]'")
    from cldis_jax.data.tfds import Tfds  # imported here, because the import takes seconds

    return Tfds(data.name, size, channels, data.crop, data.data_dir)


def known_size(data: ConfigDict) -> int | None:
    """The number of images of the config's section `data`, if it is known without reading them; else None."""
    published = {
        "shapes3d": 480_000,
        "dsprites": 737_280,
        "smallnorb": 48_600,
        "celeb_a": 202_599,
        "toy": 1_036_800,
        "realistic": 1_036_800,
        "real": 1_036_800,
        "complex": 460_800,
    }
    rendered = {"scenes": 480_000, "sprites": 737_280, "cars3d": 17_568}
    return rendered.get(data.source, published.get(data.name))
