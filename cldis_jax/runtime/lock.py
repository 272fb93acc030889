"""One run in one folder: the file `lock` names the process that works there.

On a disk, looking for a lock and writing one is one act, for the folder itself is locked meanwhile. In a bucket (gs://)
it is two: of two processes that start within the same second both may begin. The last one to write holds the lock; the
other finds that at its next sign of life, within a minute, and stops as SIGTERM asks it to. Until then both write.
"""

import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
from absl import logging
from etils import epath

from cldis_jax.runtime.errors import UserError
from cldis_jax.runtime.files import WriteError, atomic

BEAT = 60  # seconds between two signs of life
SILENCE = 600  # seconds without one, after which a process on another machine counts as dead


class LockError(UserError):
    """Another process works in the folder."""


@contextlib.contextmanager
def held(folder: epath.PathLike) -> Iterator[None]:
    """Hold `FOLDER/lock` while the block runs, on the first of several processes. Makes the folder.

    The lock of a process that is dead is taken over with a note. A process on this machine is dead if its id is gone,
    one on another machine if it has not touched the file for ten minutes.

    Raises:
      LockError: a live process holds it.
      WriteError: the folder can't be written.
    """
    if jax.process_index() != 0:
        yield
        return
    path = epath.Path(folder) / "lock"
    ours = _this_process()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"{folder} can't be written: {' '.join(str(error).split())}") from error
    with _alone(path.parent):
        if (other := _read(path)) is not None:
            seconds = _silence(path)
            who = f"process {other['pid']} on {other['host']}"
            if _alive(other, seconds):
                raise LockError(
                    f"{folder} is in use by {who} since {other['began']}, {seconds:.0f} s after its last sign of life; "
                    f"wait for it, or delete {path} if it is gone"
                )
            print(f"note: {who} held {folder} and is gone; going on in its place", flush=True)
        _write(path, ours)
    ended = threading.Event()
    beats = threading.Thread(target=_beat, args=(path, ours, ended), daemon=True)
    beats.start()
    try:
        yield
    finally:
        ended.set()
        beats.join(timeout=BEAT)
        if _read(path) == ours:
            path.unlink(missing_ok=True)


def _beat(path: epath.Path, ours: dict[str, Any], ended: threading.Event) -> None:
    """Touch the lock until the block ends; if another process has taken it, ask this one to stop."""
    while not ended.wait(BEAT):
        try:
            with _alone(path.parent):  # else the lock of another, taken after the reading, would be written over
                found = _read(path)
                if found in (None, ours):
                    _write(path, ours)
                    continue
            message = "process %d on %s has taken %s over; stopping"
            logging.error(message, found["pid"], found["host"], path.parent)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        except Exception as error:  # a disk that is full, or a bucket that can't be reached, may recover
            logging.warning("%s can't be written: %s", path, error)


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "began": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "birth": _birth(pid),
        "namespace": _namespace(),
    }


def _birth(pid: int) -> str:
    """When a process began, in ticks since the machine did: an id may be given again. Empty where it is not known."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _namespace() -> str:
    """Containers with one host name count their processes apart."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _alive(other: dict[str, Any], silence: float) -> bool:
    if (other["host"], other["namespace"]) != (socket.gethostname(), _namespace()):
        return silence < SILENCE
    try:
        os.kill(other["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return other["birth"] == _birth(other["pid"])


def _silence(path: epath.Path) -> float:
    """Seconds since the lock was last written."""
    try:
        written = os.path.getmtime(path)  # on a disk; epath would also ask for the owner, who may have no name
    except OSError:
        written = path.stat().mtime
    return max(time.time() - written, 0.0)


def _read(path: epath.Path) -> dict[str, Any] | None:
    """What the lock says; None where there is none, or it is of another kind."""
    try:
        found = json.loads(path.read_text())
        return found if found.keys() >= {"host", "pid", "began", "birth", "namespace"} else None
    except (OSError, ValueError, AttributeError):
        return None


def _write(path: epath.Path, ours: dict[str, Any]) -> None:
    with atomic(path, "w") as file:
        file.write(json.dumps(ours) + "\n")


@contextlib.contextmanager
def _alone(folder: epath.Path) -> Iterator[None]:
    """One process at a time, where the system can do that; in a bucket the block just runs."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
