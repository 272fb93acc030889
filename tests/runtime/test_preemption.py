"""Signals that ask a loop to stop."""

import os
import pty
import shutil
import signal
import subprocess
import sys

import pytest

from cldis_jax.runtime import preemption


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_only_asks(number, status):
    before = signal.getsignal(number)
    with preemption.StopRequest() as stop:
        assert not stop.reached(0)
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGTERM)  # the first one counts
        assert stop.reached(1)
    assert stop.exit_code == status
    assert signal.getsignal(number) == before


def test_the_second_interrupt_ends_at_once():
    with preemption.StopRequest():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_what_nohup_ignores_stays_ignored():
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with preemption.StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.reached(1)
    finally:
        signal.signal(signal.SIGHUP, previous)


ENDLESS = """
import sys
from cldis_jax.runtime import preemption, report

log = report.Report(sys.argv[1], 10**9, 0)
with preemption.StopRequest() as stop:
    step = 0
    while not stop.reached(step):
        step += 1
        log.say(f"step {step}")
log.say("stopped")
open(sys.argv[1] + "/saved", "w").close()
raise SystemExit(stop.exit_code)
"""


def test_a_pipe_that_nobody_reads_asks_too(tmp_path):
    command = [sys.executable, "-c", ENDLESS, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "step 1\n"
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=60) == 143, errors
    assert (tmp_path / "saved").exists()
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors


@pytest.mark.skipif(shutil.which("setsid") is None, reason="needs setsid of util-linux")
def test_a_terminal_that_is_closed_asks_too(tmp_path):
    """As when an ssh connection drops: SIGHUP, and every later write to the terminal fails."""
    master, terminal = pty.openpty()
    command = ["setsid", "--ctty", "--wait", sys.executable, "-c", ENDLESS, str(tmp_path)]
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    seen = b""
    while b"step 1" not in seen:
        seen += os.read(master, 1000)
    os.close(master)
    assert process.wait(timeout=60) == 129
    assert (tmp_path / "saved").exists()
