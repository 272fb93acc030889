"""One process works in a folder: who is refused, and whose lock is taken over."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from cldis_jax.runtime import lock


@pytest.fixture
def other():
    """A live process that is not this one."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def write(folder, **changes):
    (folder / "lock").write_text(json.dumps(lock._this_process() | changes))


def of(process):
    return {"pid": process.pid, "birth": lock._birth(process.pid)}


def test_a_second_process_is_refused_with_one_line_that_names_the_first(other, tmp_path):
    write(tmp_path, **of(other), host=(host := lock._this_process()["host"]))
    with pytest.raises(lock.LockError, match=rf"in use by process {other.pid} on {host} since \d{{4}}-") as error:
        lock.held(tmp_path).__enter__()
    assert "\n" not in str(error.value)
    assert json.loads((tmp_path / "lock").read_text())["pid"] == other.pid


def test_a_folder_is_held_and_released(tmp_path):
    folder = tmp_path / "new" / "run"
    with lock.held(folder):
        assert json.loads((folder / "lock").read_text())["pid"] == os.getpid()
        with pytest.raises(lock.LockError), lock.held(folder):
            pass
    with pytest.raises(KeyError), lock.held(folder):
        raise KeyError
    assert list(folder.iterdir()) == []


def test_a_dead_process_loses_its_lock_with_a_note(other, tmp_path, capsys):
    write(tmp_path, **of(other))
    other.kill()
    other.wait()
    with lock.held(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    assert f"note: process {other.pid} on " in capsys.readouterr().out


@pytest.mark.skipif(not lock._birth(os.getpid()), reason="only Linux says when a process began")
def test_an_id_that_was_given_again_is_another_process(other, tmp_path):
    write(tmp_path, pid=other.pid, birth="1")
    with lock.held(tmp_path):
        pass


def test_another_machine_loses_its_lock_after_ten_minutes_of_silence(tmp_path):
    write(tmp_path, host="elsewhere", pid=1)
    with pytest.raises(lock.LockError, match="process 1 on elsewhere"), lock.held(tmp_path):
        pass
    os.utime(tmp_path / "lock", (time.time() - 601,) * 2)
    with lock.held(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


def test_a_lock_cut_short_is_no_lock(tmp_path):
    (tmp_path / "lock").write_text('{"host": "els')
    with lock.held(tmp_path):
        pass


def test_a_held_lock_gives_signs_of_life_and_stops_where_it_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.01)
    asked = []
    previous = signal.signal(signal.SIGTERM, lambda *_: asked.append(1))

    def wait_until(happened):
        end = time.time() + 20
        while not happened() and time.time() < end:
            time.sleep(0.01)
        assert happened()

    try:
        with lock.held(tmp_path):
            os.utime(tmp_path / "lock", (0, 0))
            wait_until(lambda: (tmp_path / "lock").stat().st_mtime > 0)
            assert not asked
            folder = lock.epath.Path(tmp_path)
            with lock._alone(folder):
                lock._write(folder / "lock", lock._this_process() | {"host": "elsewhere"})
            wait_until(lambda: asked)
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert asked == [1]
    assert "elsewhere" in (tmp_path / "lock").read_text()  # it is left to the other


def test_a_lock_in_a_bucket_names_its_process_and_is_released(bucket, tmp_path):
    with lock.held(bucket):
        assert json.loads((tmp_path / "bucket/run/lock").read_text())["pid"] == os.getpid()
        with pytest.raises(lock.LockError, match=r"gs://bucket/run is in use by .* delete gs://bucket/run/lock"):
            lock.held(bucket).__enter__()
    assert list((tmp_path / "bucket/run").iterdir()) == []
    write(tmp_path / "bucket/run", host="elsewhere", pid=1)
    with pytest.raises(lock.LockError, match="process 1 on elsewhere"), lock.held(bucket):
        pass
    os.utime(tmp_path / "bucket/run/lock", (time.time() - 601,) * 2)  # the time that the bucket has, not this machine
    with lock.held(bucket):
        assert json.loads((tmp_path / "bucket/run/lock").read_text())["pid"] == os.getpid()


def test_of_two_that_begin_at_once_in_a_bucket_the_last_to_write_goes_on(bucket, tmp_path, monkeypatch):
    """A bucket has no lock of its own, so both find no file. The first one is asked to stop at its next beat."""
    monkeypatch.setattr(lock, "BEAT", 0.01)
    asked = threading.Event()
    previous = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    other = lock._this_process() | {"host": "elsewhere"}
    write_own = lock._write

    def write_and_be_overtaken(path, ours):
        write_own(path, ours)
        monkeypatch.setattr(lock, "_write", write_own)
        write_own(path, other)  # it looked for the file before we wrote it

    monkeypatch.setattr(lock, "_write", write_and_be_overtaken)
    try:
        with lock.held(bucket):
            assert asked.wait(20)
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert json.loads((tmp_path / "bucket/run/lock").read_text()) == other


def test_on_a_disk_a_second_process_waits_until_the_first_has_written(tmp_path):
    with lock._alone(tmp_path):
        folder = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(folder)


def test_a_folder_that_can_not_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(lock.WriteError, match=r"file/run can't be written"), lock.held(tmp_path / "file" / "run"):
        pass
