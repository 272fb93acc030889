"""TensorBoard's event files, written with the package `tensorboard` and without TensorFlow."""

import io
import os
import socket
import time

import numpy as np
from etils import epath
from PIL import Image
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer import record_writer


class Events:
    """A new event file in `folder`. Each event is in the file when its method returns."""

    def __init__(self, folder: epath.PathLike):
        folder = epath.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns() // 10**9:010d}.{socket.gethostname()}.{os.getpid()}"
        self._records = record_writer.RecordWriter((folder / name).open("wb"))
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
        self._records.close()

    def _write(self, event: event_pb2.Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._records.flush()
