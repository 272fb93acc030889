"""Early stop after SIGTERM or Ctrl-C; several processes agree through JAX's coordination service."""

import os
import signal

import jax
from jax.experimental import multihost_utils


class StopRequest:
    """A context in which SIGTERM and Ctrl-C only set a flag, so that a loop can finish its step and save.

    A second Ctrl-C ends the process at once.
    """

    def __init__(self):
        self._signal: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self):
        if jax.process_count() == 1:  # with several, jax.distributed handles SIGTERM
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number, frame):
        if number == signal.SIGINT and self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self._signal is None:
            os.write(2, b"\nstopping after this step, saving\n")  # print is not safe in a handler
        self._signal = number

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
        """The shell's code for the signal: 143 for SIGTERM, 130 for Ctrl-C."""
        return 128 + (self._signal or signal.SIGTERM)

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)
