"""Early stop after SIGTERM, SIGHUP or Ctrl-C; several processes agree through JAX's coordination service."""

import contextlib
import os
import signal

import jax
from jax.experimental import multihost_utils


class StopRequest:
    """A context in which SIGTERM, SIGHUP and Ctrl-C only set a flag, so that a loop can finish its step and save.

    A second Ctrl-C ends the process at once. Where SIGHUP is ignored, as under nohup, it stays ignored.
    """

    def __init__(self):
        self._signal: int | None = None
        self._interrupted = False
        self._previous: dict[int, object] = {}

    def __enter__(self):
        several = jax.process_count() > 1  # then jax.distributed handles SIGTERM
        for number in (signal.SIGHUP,) if several else (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number, frame):
        if number == signal.SIGINT and self._interrupted:
            raise KeyboardInterrupt
        self._interrupted |= number == signal.SIGINT
        if self._signal is None:
            with contextlib.suppress(OSError):  # the terminal may be gone
                os.write(2, b"\nstopping after this step, saving\n")  # print is not safe in a handler
            self._signal = number
            if jax.process_count() > 1:
                os.kill(os.getpid(), signal.SIGTERM)

    def reached(self, dispatch: int) -> bool:
        """Whether to stop after a dispatch; the same on every process.

        Args:
          dispatch: a number that grows by one with each call; otherwise several processes never agree.
        """
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(dispatch)
        return self._signal is not None

    @property
    def exit_code(self) -> int:
        """The shell's code for the signal: 143 for SIGTERM, 129 for SIGHUP, 130 for Ctrl-C."""
        return 128 + (self._signal or signal.SIGTERM)

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)
