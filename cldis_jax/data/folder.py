"""Your own pictures: all images in a folder or a zip file, with their labels where there are any."""

import collections
import contextlib
import functools
import gc
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from absl import logging

from cldis_jax.data import cache, images, labels, listing
from cldis_jax.data.source import DataError, Source, names_digest

THREADS = min(8, os.cpu_count() or 1)  # for the images of one batch, without a cache


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Listings and tables are millions of small objects; Python would search them for garbage again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Folder(Source):
    """All images in a directory or a zip file, sorted folder by folder, uint8 [image_size, image_size, channels].

    Any size, mode and format: see `images.to_square`. Every image is decoded once, into a cache; later runs read that.
    Images that can't be decoded are left out. Without a cache an image is decoded whenever it is fetched; if it can't
    be read any more, a warning names it, and another image of the batch takes its place.

    Args:
      split: a folder inside, or a part that CelebA's list_eval_partition.txt names; empty: all images.
      cache_setting: "auto", a folder, or empty for no cache; see `cache.folder`.

    Raises:
      DataError: no such folder, no such part of it, or no readable image in it.
    """

    def __init__(
        self,
        path: str,
        image_size: int,
        channels: int = 3,
        crop: str = "center",
        split: str = "",
        cache_setting: str = "",
    ):
        self.name = f"folder {path}"
        self.image_size, self.channels, self.crop = image_size, channels, crop
        with _no_garbage_collection():
            found = listing.find(path)
            labelled = labels.find(found)
        if not len(found):
            skipped = listing.describe(found.skipped)
            raise DataError(f"data.path={path!r} has no image that Pillow can open{skipped and f'; {skipped}'}")
        chosen = labels.choose(found, labelled, split)
        self._listing = found.take(chosen) if split else found
        self._decoded = cache.decode_all(
            self._listing, self._decode, (image_size, image_size, channels), crop, cache.folder(cache_setting)
        )
        faults = self._decoded.faults
        self._rows = np.array([i for i in range(len(chosen)) if i not in faults], np.int64)
        broken = [f"{self._listing.names[i]}: {fault}" for i, fault in sorted(faults.items())]
        self._skipped = {listing.BROKEN: broken, **found.skipped}
        if not len(self._rows):
            raise DataError(f"data.path={path!r} has no usable image; {listing.describe(self._skipped)}")
        self.names = tuple(self._listing.names[i] for i in self._rows)  # relative to the root
        self._labels = labelled.take(chosen[self._rows])
        self.attribute_names = labelled.names
        self._pool = ThreadPoolExecutor(THREADS)
        self._lock = threading.Lock()
        self._lost: dict[int, str] = {}  # images that could be read at the start only

    def __len__(self) -> int:
        return len(self._rows)

    @functools.cached_property
    def digest(self) -> str:
        """The folder may move: only the names below it count."""
        return names_digest(self.names)

    def fetch(self, indices: np.ndarray) -> np.ndarray:
        rows = self._rows[np.asarray(indices)]
        if self._decoded.pixels is not None:
            return self._decoded.pixels.take(rows, axis=0)
        found = list(self._pool.map(self._attempt, rows))
        readable = [i for i, image in enumerate(found) if image is not None]
        if not readable:
            raise DataError(f"no image of a batch of {self.name} can be read any more: {self._lost[int(rows[0])]}")
        # The next readable one of the batch, which is of the same part of the set: training or held out.
        following = np.searchsorted(readable, np.arange(len(found))) % len(readable)
        return np.stack([found[readable[i]] for i in following])

    def part(self, name: str) -> np.ndarray:
        return labels.choose(self._listing.take(self._rows), self._labels, name, "data.holdout_split")

    def labelled(self, indices: np.ndarray) -> np.ndarray:
        return self._labels.known(np.asarray(indices))

    def attributes(self, indices: np.ndarray) -> np.ndarray:
        return self._labels.of(np.asarray(indices))

    def describe(self, held_out: int) -> list[str]:
        """What was read, in lines for the user: numbers, what is skipped, the cache, labels, odd values."""
        counts = f"{len(self):,} images ({held_out:,} held out)"
        file = self._decoded.file
        cached = f"read from {file} ({cache.size_text(file.stat().st_size)})" if file else ""
        lines = ["; ".join(filter(None, (counts, listing.describe(self._skipped), cached)))]
        if self.attribute_names:
            lines.append(f"{len(self.attribute_names):,} attributes ({listing.some(self.attribute_names)})")
        odd = collections.defaultdict(list)
        for i, what in sorted(self._decoded.oddities.items()):
            odd[what].append(self._listing.names[i])
        lines += [f"{len(names):,} images ({listing.some(names)}): {what}" for what, names in odd.items()]
        return lines + self._labels.notes

    def _decode(self, name: str) -> tuple[np.ndarray, str]:
        return images.read(self._listing.open(name), self.image_size, self.channels, self.crop)

    def _attempt(self, row: int) -> np.ndarray | None:
        """One image, or None, and a warning when it happens first, if it can't be read any more."""
        name = self._listing.names[row]
        try:
            return self._decode(name)[0]
        except Exception as error:  # damaged bytes raise errors of any kind
            with self._lock:
                if int(row) not in self._lost:
                    self._lost[int(row)] = f"{name}: {error or type(error).__name__}"
                    logging.warning(
                        "%s (%d lost since the start); another image of the batch takes its place",
                        self._lost[int(row)],
                        len(self._lost),
                    )
            return None
