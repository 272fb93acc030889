"""Files that appear whole or not at all, on a disk or in a bucket."""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import IO

from etils import epath

from cldis_jax.runtime.errors import UserError


class WriteError(UserError, OSError):
    """A path that can't be written."""


@contextlib.contextmanager
def atomic(path: epath.PathLike, mode: str = "wb") -> Iterator[IO]:
    """A file to write, which gets the name `path` if the block ends without an error. Makes the folder.

    Until then `path` keeps its old content. Two processes or threads may write the same `path`; the last one wins.

    Args:
      mode: "wb" or "w".

    Raises:
      WriteError: the folder can't be made, or the file can't be opened.
    """
    part, opened = _open_part(path, mode)
    try:
        with opened as file:
            yield file
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    part.replace(path)


def check_writable(path: epath.PathLike) -> None:
    """Find out before long work whether `path` can be written. Makes the folder, and no file.

    Raises:
      WriteError: the folder can't be made, or the file can't be opened.
    """
    part, opened = _open_part(path, "wb")
    with opened as file:
        file.write(b"")
    part.unlink(missing_ok=True)


def append(path: epath.PathLike, text: str) -> None:
    """Append text to a file, or make it. In a bucket, where files can't grow, it is written anew."""
    path = epath.Path(path)
    if not in_bucket(path):
        with path.open("a") as file:
            file.write(text)
        return
    before = path.read_text() if path.exists() else ""
    with atomic(path, "w") as file:
        file.write(before + text)


def in_bucket(path: epath.PathLike) -> bool:
    """Whether a path is in a bucket, such as gs://BUCKET/FOLDER, and not on a disk."""
    return "://" in str(path)


def _open_part(path: epath.PathLike, mode: str) -> tuple[epath.Path, contextlib.AbstractContextManager[IO]]:
    """The file that will be renamed to `path`, and the same to be opened by `with`; on a disk it is open already."""
    path = epath.Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        return part, part.open(mode)
    except OSError as error:
        raise WriteError(f"{path} can't be written: {' '.join(str(error).split())}") from error
