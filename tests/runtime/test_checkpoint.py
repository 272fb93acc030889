"""Checkpoints: which are kept, which are refused, and unreadable ones."""

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
