"""Run the commands of the cells."""

import pathlib
import shlex
import signal
import subprocess
from typing import Any

from cldis_jax.configs import default

CONFIGS = pathlib.Path(default.__file__).parent
# In a checkout configs/ is beside the package, in an installed package inside it.
CHECKOUT = CONFIGS.parent if (CONFIGS.parent / "cldis_jax").is_dir() else None


class CellError(RuntimeError):
    """A command of a cell failed; the message is the command's own error."""


class Children:
    """Runs one command at a time. It passes SIGTERM and Ctrl-C on to the command, and then starts no other."""

    def __init__(self):
        self._child: subprocess.Popen | None = None
        self._signal: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._pass_on)
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _pass_on(self, number, frame):
        self._signal = number
        if self._child is not None:
            self._child.send_signal(number)

    def run(self, command: list[str], log: pathlib.Path) -> None:
        """Run a command and append its output to `log`.

        Raises:
          CellError: the command failed.
          SystemExit: a signal came; the command has ended.
        """
        self._stop_if_asked()
        with log.open("ab") as file:
            file.write(f"$ {shlex.join(command)}\n".encode())
            file.flush()
            start = file.tell()
            self._child = subprocess.Popen(
                command,
                cwd=CHECKOUT,  # where `python -m` finds the package even if it is not installed
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that Ctrl-C in the terminal reaches the command once, through this process
                close_fds=False,  # the command inherits the lock of its cell
            )
            if self._signal is not None:
                self._child.send_signal(self._signal)
            status = self._child.wait()
            self._child = None
        self._stop_if_asked()
        if status != 0:
            raise CellError(error_of(log.read_bytes()[start:], status))

    def _stop_if_asked(self) -> None:
        if self._signal is not None:
            raise SystemExit(128 + self._signal)


def error_of(output: bytes, status: int) -> str:
    """Why a command failed: its last line that starts with "error: ", or else its last line."""
    lines = [line.strip() for line in output.decode(errors="replace").replace("\r", "\n").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    last = (errors or lines or ["no output"])[-1]
    return f"killed by signal {-status}; last line: {last}" if status < 0 else last.removeprefix("error: ")
