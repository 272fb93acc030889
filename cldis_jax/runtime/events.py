"""TensorBoard's event files, written with the package `tensorboard` and without TensorFlow."""

import contextlib
import io
import itertools
import os
import socket
import time

import numpy as np
from etils import epath
from PIL import Image
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer import record_writer

from cldis_jax.runtime.files import in_bucket

NUM_IN_BUCKET = 50  # events in one file there


class Events:
    """New event files in `folder`: one on a disk, where each event is written when its method returns.

    In a bucket a file exists when it is closed, so there is one for every NUM_IN_BUCKET events.
    """

    def __init__(self, folder: epath.PathLike):
        self._folder = epath.Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._numbers = itertools.count()
        self._open()

    def _open(self) -> None:
        name = f"{time.time_ns() // 10**9:010d}.{socket.gethostname()}.{os.getpid()}.{next(self._numbers)}"
        self._file = contextlib.ExitStack()  # in a bucket `open` may give no file, but what a `with` opens
        opened = self._file.enter_context((self._folder / f"events.out.tfevents.{name}").open("wb"))
        self._records, self._num = record_writer.RecordWriter(opened), 0
        self._write(event_pb2.Event(file_version="brain.Event:2"))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        found = [summary_pb2.Summary.Value(tag=name, simple_value=float(value)) for name, value in values.items()]
        self._write(event_pb2.Event(step=step, summary=summary_pb2.Summary(value=found)))

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """A uint8 picture [H, W, 3]."""
        height, width, channels = picture.shape
        png = io.BytesIO()
        Image.fromarray(picture).save(png, "png")
        image = summary_pb2.Summary.Image(
            height=height, width=width, colorspace=channels, encoded_image_string=png.getvalue()
        )
        value = summary_pb2.Summary.Value(tag=name, image=image)
        self._write(event_pb2.Event(step=step, summary=summary_pb2.Summary(value=[value])))

    def close(self) -> None:
        self._file.close()

    def _write(self, event: event_pb2.Event) -> None:
        if self._num > NUM_IN_BUCKET and in_bucket(self._folder):
            self.close()
            self._open()
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._records.flush()
        self._num += 1
