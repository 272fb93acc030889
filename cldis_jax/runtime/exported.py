"""A model as a small folder to share: moving averages as safetensors, and the config. No optimiser state.

`FOLDER/model.safetensors` holds every array under the path of its place, e.g. `params/unet/stem/kernel`, and in its
metadata the step and what is known of the data. `FOLDER/config.json` is the config.
"""

import json
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from etils import epath
from ml_collections import ConfigDict

from cldis_jax.runtime import report
from cldis_jax.runtime.config_json import config_from_json, config_to_json, upgrade
from cldis_jax.runtime.errors import CheckpointError
from cldis_jax.runtime.files import atomic

FILE, CONFIG = "model.safetensors", "config.json"


def is_exported(folder: epath.PathLike) -> bool:
    return (epath.Path(folder) / FILE).exists()


def write(folder: epath.PathLike, config: ConfigDict, ema: Any, step: int, data: dict[str, Any]) -> None:
    """Write the two files. `data` is what the checkpoint knows of the images, as JSON values.

    Raises:
      WriteError: the folder can't be written.
    """
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in _by_name(jax.device_get(ema)).items()}
    metadata = {"format": "cldis_jax", "step": str(step), "data": json.dumps(data)}
    report.write_json(epath.Path(folder) / CONFIG, config_to_json(config))
    with atomic(epath.Path(folder) / FILE) as file:
        file.write(safetensors.numpy.save(arrays, metadata))


class Exported:
    """An exported folder; it is read as `checkpoint.Checkpoints` are.

    Raises:
      CheckpointError: the file is damaged, or not of this package.
    """

    def __init__(self, folder: epath.PathLike):
        self.directory = epath.Path(folder)
        content = (self.directory / FILE).read_bytes()
        try:
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            self._metadata = header["__metadata__"]
            self._step, self._data = int(self._metadata["step"]), json.loads(self._metadata["data"])
            self._arrays = safetensors.numpy.load(content)
        except (KeyError, ValueError, safetensors.SafetensorError) as error:
            raise CheckpointError(f"{self.directory / FILE} is not an exported model of cldis_jax: {error}") from error

    def steps(self) -> list[int]:
        return [self._step]

    def config(self, step: int | None = None) -> ConfigDict:
        """The config; see `upgrade` for old ones."""
        self._check(step)
        try:
            return config_from_json(upgrade(report.read_json(self.directory / CONFIG)))
        except (OSError, json.JSONDecodeError) as error:
            raise CheckpointError(f"{self.directory / CONFIG} can't be read: {error}") from error

    def restore_ema(self, abstract_ema: Any, step: int | None = None) -> tuple[Any, int]:
        """(moving averages, step), with the shapes, types and shardings of `abstract_ema`."""
        self._check(step)
        wanted = _by_name(abstract_ema)
        for name, leaf in wanted.items():
            found = self._arrays.get(name)
            if found is None or found.shape != leaf.shape or found.dtype != leaf.dtype:
                here = "absent" if found is None else f"{found.dtype}{found.shape}"
                raise CheckpointError(
                    f"{self.directory / FILE} does not fit its config.json: {name} is {here}, not "
                    f"{leaf.dtype}{leaf.shape}"
                )
        arrays = [jax.device_put(self._arrays[name], leaf.sharding) for name, leaf in wanted.items()]
        return jax.tree.unflatten(jax.tree.structure(abstract_ema), arrays), self._step

    def data(self, step: int) -> dict[str, Any]:
        return self._data

    def _check(self, step: int | None) -> None:
        if step not in (None, self._step):
            raise CheckpointError(f"{self.directory} holds step {self._step} alone, not {step}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def _by_name(tree: Any) -> dict[str, Any]:
    """{path of names: leaf}, in the order of the tree's leaves."""
    return {
        "/".join(str(getattr(key, "key", getattr(key, "name", key))) for key in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
