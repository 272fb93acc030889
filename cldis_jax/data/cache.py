"""Images decoded once, by all cores, into one array on disk that every later run maps into memory.

A cache is two files, named by a digest of all that decides the pixels: KEY.npy, uint8 [N, H, W, C] with zeros for
images that can't be read, and KEY.json, which names these. Until it is complete, the array is KEY.part and KEY.progress
counts the rows that are certain to be on disk; a later run goes on from there.
"""

import collections
import contextlib
import dataclasses
import errno
import functools
import hashlib
import io
import itertools
import json
import math
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL
from tqdm import tqdm

from cldis_jax.data.listing import Listing
from cldis_jax.runtime import files

DECODING = 1  # raise it when the same file gives other pixels
THREADS = os.cpu_count() or 1  # Pillow decodes and resizes without Python's lock
SAVE_EVERY = 5.0  # seconds between records of the progress


@dataclasses.dataclass
class Decoded:
    """All images of a listing, each decoded once."""

    pixels: np.ndarray | None = None  # uint8 [N, H, W, C]; None without a cache
    faults: dict[int, str] = dataclasses.field(default_factory=dict)  # why an image can't be read
    oddities: dict[int, str] = dataclasses.field(default_factory=dict)
    file: Path | None = None


Decode = Callable[[str], tuple[np.ndarray, str]]  # name -> pixels [H, W, C] and what is odd; raises


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def folder(setting: str) -> Path | None:
    """The folder that `data.cache` means: "auto" is the user's cache folder; None if it is off."""
    if setting == "auto":
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        try:
            return Path(base).expanduser() / "cldis_jax" / "images"
        except RuntimeError:  # in a container, perhaps
            say("no image cache, because this user has no home folder; --config.data.cache=FOLDER names a place for it")
            return None
    return Path(setting).expanduser() if setting else None


def key(listing: Listing, image_size: int, channels: int, crop: str) -> str:
    """A digest of the files and of how they are decoded. It does not depend on where the folder is."""
    how = [DECODING, PIL.__version__, image_size, channels, crop]
    digest = hashlib.sha256(json.dumps(how).encode())
    files = zip(listing.names, listing.sizes, listing.stamps)
    digest.update("".join(f"{name}\0{size}\0{stamp}\n" for name, size, stamp in files).encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def decode_all(listing: Listing, decode: Decode, row: tuple[int, int, int], crop: str, where: Path | None) -> Decoded:
    """Every image of `listing`, from the cache in the folder `where` or decoded now.

    Args:
      row: H, W, C of an image.

    If the cache can't be written, one line says why, and the images are only checked.
    """
    if where is not None and len(listing):
        place = where / key(listing, row[0], row[2], crop)
        shape = (len(listing), *row)
        try:
            found = _current(place, shape, listing.names, decode)
            if found is None:
                where.mkdir(parents=True, exist_ok=True)
                with _one_builder(place) as part:
                    found = _current(place, shape, listing.names, decode)
                    found = found or _build(place, part, shape, listing.names, decode)
            return found
        except OSError as error:
            say(f"no image cache in {where}: {error.strerror or error}; each image is decoded whenever it is used")
    checked = Decoded()
    for i, (_, fault, oddity) in enumerate(_results(listing.names, decode, "checking images")):
        _note(checked, i, fault, oddity)
    return checked


def _note(decoded: Decoded, i: int, fault: str, oddity: str) -> None:
    if fault:
        decoded.faults[i] = fault
    if oddity:
        decoded.oddities[i] = oddity


def _results(names: tuple[str, ...], decode: Decode, what: str) -> Iterator[tuple[np.ndarray | None, str, str]]:
    """Pixels, fault and oddity of each file, in order, with a bar; few results wait at a time."""
    attempt = functools.partial(_attempt, decode)
    with ThreadPoolExecutor(THREADS) as pool, tqdm(total=len(names), desc=what, unit="image", disable=None) as bar:
        for pixels, oddity, fault in _in_order(pool, attempt, names, 16 * THREADS):
            bar.update()
            yield pixels, fault, oddity


def _attempt(decode: Decode, name: str) -> tuple[np.ndarray | None, str, str]:
    """Pixels, oddity and fault of a file."""
    try:
        return *decode(name), ""
    except Exception as error:  # damaged bytes raise errors of any kind
        return None, "", str(error) or type(error).__name__


def _in_order(pool: ThreadPoolExecutor, function: Callable, items: Iterable, ahead: int) -> Iterator:
    """Like `pool.map`, with at most `ahead` results that wait."""
    items = iter(items)
    waiting = collections.deque(pool.submit(function, item) for item in itertools.islice(items, ahead))
    try:
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in itertools.islice(items, 1))
            yield result
    finally:
        for future in waiting:
            future.cancel()


def _current(place: Path, shape: tuple[int, ...], names: tuple[str, ...], decode: Decode) -> Decoded | None:
    """A complete cache, if no image can be read by now that could not be when it was built.

    An error of the system, such as a permission that is missing, may pass; it has a number. An error of the file stays.
    """
    found = _open(place, shape)
    may_have_passed = [i for i, fault in found.faults.items() if fault.startswith("[Errno ")] if found else []
    if any(not fault for _, _, fault in map(functools.partial(_attempt, decode), (names[i] for i in may_have_passed))):
        return None
    return found


def _open(place: Path, shape: tuple[int, ...]) -> Decoded | None:
    """A complete cache, or None."""
    file = place.with_suffix(".npy")
    if not file.exists():
        return None
    try:
        record = json.loads(place.with_suffix(".json").read_text())
        pixels = np.load(file, mmap_mode="r")
        faults, oddities = ({int(i): text for i, text in record[kind].items()} for kind in ("faults", "oddities"))
        if pixels.shape != shape or pixels.dtype != np.uint8 or record["done"] != shape[0]:
            return None
    except (OSError, ValueError, KeyError, EOFError):  # damaged from outside: built again
        return None
    return Decoded(np.asarray(pixels), faults, oddities, file)


def _build(place: Path, part: Path, shape: tuple[int, ...], names: tuple[str, ...], decode: Decode) -> Decoded:
    """Decodes all images into `part`, from where an earlier build stopped, and gives it its name.

    Raises:
      OSError: it can't be written, for example on a full disk.
    """
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    row_bytes = math.prod(shape[1:])
    record = part.with_suffix(".progress")
    built, done = _progress(record, part, len(header.getvalue()), row_bytes)
    needed, free = (shape[0] - done) * row_bytes, shutil.disk_usage(place.parent).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"it needs {size_text(needed)}, {size_text(free)} are free")
    resumed = f", {done:,} are there already" if done else ""
    size = size_text(shape[0] * row_bytes)
    say(f"decoding {shape[0]:,} images once, into {place.with_suffix('.npy')} ({size}){resumed}")

    def save(file, count, path):
        # Plain writes, not a writable memory map: on a full disk that would end the process with SIGBUS.
        file.flush()
        os.fsync(file.fileno())
        with files.atomic(path, "w") as text:
            json.dump({"done": count, "faults": built.faults, "oddities": built.oddities}, text)

    try:
        with open(part, "r+b" if done else "wb") as file:
            if done:
                file.truncate(len(header.getvalue()) + done * row_bytes)
                file.seek(0, os.SEEK_END)
            else:
                file.write(header.getvalue())
            saved = time.monotonic()
            for i, (pixels, fault, oddity) in enumerate(_results(names[done:], decode, "decoding images"), done):
                _note(built, i, fault, oddity)
                file.write(pixels.tobytes() if pixels is not None else bytes(row_bytes))
                if time.monotonic() - saved > SAVE_EVERY:
                    save(file, i + 1, record)
                    saved = time.monotonic()
            save(file, shape[0], place.with_suffix(".json"))
        os.replace(part, place.with_suffix(".npy"))
    except OSError:
        part.unlink(missing_ok=True)  # a full disk: give the room back
        raise
    finally:
        if not part.exists():
            record.unlink(missing_ok=True)
    return _open(place, shape) or built


def _progress(record: Path, part: Path, header_bytes: int, row_bytes: int) -> tuple[Decoded, int]:
    """What an earlier build noted, and how many rows it is sure to have written."""
    try:
        noted = json.loads(record.read_text())
        faults, oddities = ({int(i): text for i, text in noted[kind].items()} for kind in ("faults", "oddities"))
        if part.stat().st_size >= header_bytes + noted["done"] * row_bytes:
            return Decoded(None, faults, oddities), noted["done"]
    except (OSError, ValueError, KeyError):
        pass
    return Decoded(), 0


@contextlib.contextmanager
def _one_builder(place: Path) -> Iterator[Path]:
    """The file to build in. Other processes that want the same cache wait, where the file system has locks."""
    lock_file = place.with_suffix(".lock")
    with open(lock_file, "w") as lock:
        try:
            import fcntl

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"another process decodes these images into {place.with_suffix('.npy')}; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
        except (ImportError, OSError):  # no locks: each builder has a file of its own, and the last one counts
            yield place.with_name(f"{place.name}-{socket.gethostname()}-{os.getpid()}.part")
        else:
            yield place.with_suffix(".part")
    with contextlib.suppress(OSError):
        lock_file.unlink()


def size_text(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e7 else f"{num_bytes / 1e6:.2f} MB"
