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
    part, file = _open_part(path, mode)
    try:
        with file:
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
    part, file = _open_part(path, "wb")
    file.close()
    part.unlink()


def _open_part(path: epath.PathLike, mode: str) -> tuple[epath.Path, IO]:
    """The file that will be renamed to `path`, and the same opened."""
    path = epath.Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        return part, part.open(mode)
    except OSError as error:
        raise WriteError(f"{path} can't be written: {' '.join(str(error).split())}") from error
