"""Checkpoints: which are kept, which are refused, and unreadable ones."""

import contextlib
import importlib.machinery
import resource
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cldis_jax.method import train_step
from cldis_jax.runtime import checkpoint


@pytest.fixture
def small(tiny):
    """A train state of three numbers."""
    return train_step.create_state(None, tiny, {"unet": {"w": jnp.arange(3.0)}})


def save(workdir, config, small, steps, **kept):
    with checkpoint.Checkpoints(str(workdir), **kept) as checkpoints:
        for step in steps:
            numbered = small.replace(step=jnp.int32(step))
            checkpoints.save(step, config, small.ema, numbered, {"next_index": step})
        checkpoints.wait()


def restore(workdir, small):
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), small)
    with checkpoint.Checkpoints(str(workdir)) as checkpoints:
        return checkpoints.restore(shapes)


def truncate(folder):
    for path in (folder / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(("keep_period", "kept"), [(0, [6, 7]), (3, [3, 6, 7])])
def test_the_latest_and_periodic_checkpoints_are_kept(tiny, small, tmp_path, keep_period, kept):
    save(tmp_path, tiny, small, range(1, 8), keep=2, keep_period=keep_period)
    assert checkpoint.kept_steps(str(tmp_path)) == kept


def test_a_folder_that_can_not_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(checkpoint.CheckpointError, match=r"file/run/checkpoints can't be used: "):
        checkpoint.Checkpoints(str(tmp_path / "file" / "run"))


def test_a_bucket_that_can_not_be_reached_is_one_line(monkeypatch):
    """... and is not taken for a folder below the current one."""
    asked = []

    class Backend:
        def exists(self, path):
            asked.append(path)
            return False

        def stat(self, path):
            raise RuntimeError("no\nhost")

    monkeypatch.setattr(type(checkpoint.epath.Path("gs://bucket/run")), "_backend", Backend())
    with pytest.raises(checkpoint.CheckpointError) as error:
        checkpoint.Checkpoints("gs://bucket/run", read_only=True)
    assert str(error.value) == "gs://bucket/run/checkpoints can't be read: RuntimeError: no"
    assert asked == ["gs://bucket/run/checkpoints"]


def test_a_bucket_without_its_library_names_the_extra(monkeypatch):
    for name in ("gcsfs", "tensorflow"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(checkpoint.CheckpointError, match=r"gs://bucket/run .* pip install 'cldis_jax\[gcs\]'"):
        checkpoint.check_path("gs://bucket/run")
    monkeypatch.setitem(sys.modules, "gcsfs", types.ModuleType("gcsfs"))
    sys.modules["gcsfs"].__spec__ = importlib.machinery.ModuleSpec("gcsfs", None)
    checkpoint.check_path("gs://bucket/run")


def test_nothing_to_restore(small, tmp_path):
    assert restore(tmp_path, small) is None
    assert not checkpoint.has_any(str(tmp_path))


def test_if_no_checkpoint_can_be_read_nothing_is_moved_or_restarted(tiny, small, tmp_path):
    save(tmp_path, tiny, small, (1, 2))
    for step in ("1", "2"):
        truncate(tmp_path / "checkpoints" / step)
    with pytest.raises(checkpoint.CheckpointError, match=r"tried \[2, 1\], nothing was moved") as error:
        restore(tmp_path, small)
    assert "\n" not in str(error.value)
    assert checkpoint.kept_steps(str(tmp_path)) == [1, 2]
    assert not (tmp_path / "damaged").exists()


def test_a_checkpoint_that_one_process_can_not_read_is_used_by_none(tiny, small, tmp_path, monkeypatch):
    """The patch simulates another process that cannot read the newest checkpoint."""
    save(tmp_path, tiny, small, (1, 2))
    others = iter([False, True])
    monkeypatch.setattr(
        checkpoint.multihost_utils, "process_allgather", lambda ours: np.array([bool(ours), next(others)])
    )
    restored, position, step = restore(tmp_path, small)
    assert step == restored.step == position["next_index"] == 1
    assert (tmp_path / "damaged" / "2").exists()


@pytest.mark.parametrize("name", ["a[1]", "what?", "a*", "a\\b"])
def test_a_path_that_orbax_takes_for_a_pattern_is_refused(tmp_path, name):
    character = next(c for c in name if c in "[?*\\")
    for refuse in (checkpoint.check_path, checkpoint.Checkpoints):
        with pytest.raises(checkpoint.CheckpointError, match=r"has a .* in it") as error:
            refuse(str(tmp_path / name / "run"))
        assert f"has a {character} in it" in str(error.value)
    assert list(tmp_path.iterdir()) == []
    checkpoint.check_path(tmp_path / "a]b (1) {x} #é%20")


@pytest.mark.parametrize("damage", ["cut short", "another value"])
def test_the_first_checkpoint_of_a_run_is_read_again(tiny, small, tmp_path, monkeypatch, damage):
    wait = checkpoint.Checkpoints.wait
    compare = checkpoint._same_bits

    def wait_and_damage(self):
        wait(self)
        if damage == "cut short":
            for path in (tmp_path / "checkpoints" / "1" / "ema").rglob("*"):
                if path.is_file():
                    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    monkeypatch.setattr(checkpoint.Checkpoints, "wait", wait_and_damage)
    if damage == "another value":
        monkeypatch.setattr(checkpoint, "_same_bits", lambda saved, found: compare(saved + 1, found))
    with pytest.raises(checkpoint.CheckpointError, match=r"checkpoints/1, can't be read again \(") as error:
        save(tmp_path, tiny, small, (1,))
    assert ("it differs from what was saved" in str(error.value)) == (damage == "another value")


def test_only_the_first_checkpoint_is_read_again(tiny, small, tmp_path, monkeypatch):
    compared = []
    compare = checkpoint.Checkpoints._compare
    monkeypatch.setattr(
        checkpoint.Checkpoints,
        "_compare",
        lambda self, step, *rest: (compared.append(step), compare(self, step, *rest)),
    )
    save(tmp_path, tiny, small, (1, 2, 3))
    assert compared == [1]


def test_a_save_that_failed_is_one_line_at_the_next_save(tiny, small, tmp_path, monkeypatch):
    """... and not only when the checkpoints are closed, which hides what `save` raises."""
    monkeypatch.setattr(checkpoint.Checkpoints, "wait", lambda self: None)
    monkeypatch.setattr(checkpoint.Checkpoints, "_compare", lambda *_: None)
    checkpoints = checkpoint.Checkpoints(str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
        checkpoints.save(1, tiny, small.ema, small, {})
        with pytest.raises(checkpoint.CheckpointError, match=r"can't be written to .*those before it are intact"):
            checkpoints.save(2, tiny, small.ema, small, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        with contextlib.suppress(checkpoint.CheckpointError):
            checkpoints.close()


@pytest.mark.parametrize("saves", [(2,), (2, 3)])
def test_a_full_disk_is_one_line_and_leaves_the_checkpoint_before_it(tiny, small, tmp_path, monkeypatch, saves):
    """The disk is played by a limit on the size of files, at which the same calls of the system fail."""
    save(tmp_path, tiny, small, (1,))
    if len(saves) > 1:  # the error of the first comes with the second
        monkeypatch.setattr(checkpoint.Checkpoints, "wait", lambda self: None)
        monkeypatch.setattr(checkpoint.Checkpoints, "_compare", lambda *_: None)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
        with pytest.raises(
            checkpoint.CheckpointError, match=r"can't be written to .*those before it are intact"
        ) as error:
            save(tmp_path, tiny, small, saves)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    monkeypatch.undo()
    assert "\n" not in str(error.value)
    restored, position, step = restore(tmp_path, small)
    assert step == restored.step == position["next_index"] == 1
    save(tmp_path, tiny, small, (4,))
    assert checkpoint.kept_steps(str(tmp_path)) == [1, 4]
