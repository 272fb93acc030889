"""Event files, read with TensorBoard's own reader."""

import io

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.summary.writer import record_writer

from cldis_jax.runtime.events import Events


def test_tensorboard_reads_scalars_and_pictures(tmp_path):
    events = Events(tmp_path / "new" / "tensorboard")
    picture = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    events.scalars(10, {"L_diff": np.float32(0.5), "vae/kl": 3.0})
    events.scalars(20, {"L_diff": 0.25})
    events.picture(20, "traversals", picture)
    read = event_accumulator.EventAccumulator(str(tmp_path / "new" / "tensorboard")).Reload()  # before it is closed
    assert [(event.step, event.value) for event in read.Scalars("L_diff")] == [(10, 0.5), (20, 0.25)]
    assert [(event.step, event.value) for event in read.Scalars("vae/kl")] == [(10, 3.0)]
    (shown,) = read.Images("traversals")
    assert (shown.step, shown.height, shown.width) == (20, 4, 5)
    (tmp_path / "shown.png").write_bytes(shown.encoded_image_string)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "shown.png")), picture)
    events.close()


def test_a_full_disk_is_reported_at_once(tmp_path, monkeypatch):
    writer = record_writer.RecordWriter
    monkeypatch.setattr(record_writer, "RecordWriter", lambda file: writer(io.FileIO("/dev/full", "w")))
    with pytest.raises(OSError, match="No space left"):
        Events(tmp_path)
