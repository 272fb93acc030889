"""The checkpoints of a workdir. The only file that imports Orbax; independent of the method.

`WORKDIR/checkpoints/STEP/` holds four items: `state` (parameters, optimiser, feedback, step), `ema` (the moving
averages, which evaluation reads), `data` (the position in the data) and `config`. Saving does not block, and a
checkpoint appears whole or not at all.
"""

import contextlib
import hashlib
import importlib.util
import json
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from orbax.checkpoint import checkpoint_managers as policies

from cldis_jax.runtime import exported
from cldis_jax.runtime.config_json import config_from_json, config_to_json, differing_fields, upgrade
from cldis_jax.runtime.errors import CheckpointError

PATTERN_CHARACTERS = "[*?\\"


def params_sha256(params: Any) -> str:
    """A digest of all parameters (names, shapes, bits); the same for any number of devices."""
    if jax.process_count() > 1:
        params = multihost_utils.process_allgather(params, tiled=True)
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(params)):
        digest.update(f"{jax.tree_util.keystr(path)}{leaf.shape}{leaf.dtype}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


class _Manager(ocp.CheckpointManager):
    def reached_preemption(self, step: int) -> bool:
        """Always False: only `StopRequest` may ask JAX, because every process must ask equally often."""
        return False


def _absolute(path: epath.PathLike) -> epath.Path:
    path = epath.Path(path)
    return path if "://" in str(path) else path.absolute()  # which would put a bucket into the current folder


def check_path(workdir: epath.PathLike) -> None:
    """Refuse a folder that can't be written: Orbax takes some paths for patterns, and a bucket needs a library.

    Raises:
      CheckpointError: the message names the character or the library.
    """
    path = str(_absolute(workdir))
    if path.startswith("gs://") and not any(map(importlib.util.find_spec, ("gcsfs", "tensorflow"))):
        raise CheckpointError(f"{path} is in a bucket, which needs gcsfs: pip install 'cldis_jax[gcs]'")
    for character in PATTERN_CHARACTERS:
        if character in path:
            raise CheckpointError(f"{path} has a {character} in it, with which checkpoints can't be written; rename it")


class Checkpoints:
    """The checkpoints of one workdir.

    Args:
      keep: so many of the newest are kept, and every multiple of `keep_period` steps.

    Raises:
      CheckpointError: there is none to read, or the folder can't be used.
    """

    def __init__(self, workdir: str, *, keep: int = 3, keep_period: int = 0, read_only: bool = False):
        self.directory = _absolute(workdir) / "checkpoints"
        self._read_back = read_only  # whether a checkpoint of this object was read again after it was written
        if not read_only:
            check_path(workdir)
        if read_only and not self.directory.exists():
            try:
                self.directory.stat()
            except (FileNotFoundError, NotADirectoryError):
                pass
            except Exception as error:  # a bucket that can't be reached, for one
                raise CheckpointError(f"{self.directory} can't be read: {_reason(error)}") from error
            raise CheckpointError(f"no checkpoint in {workdir}: train first, with --workdir={workdir}")
        preserve = [policies.LatestN(keep)] + ([policies.EveryNSteps(keep_period)] if keep_period else [])
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(preserve),
            create=not read_only,
            read_only=read_only,
            cleanup_tmp_directories=not read_only,
        )
        try:
            self._manager = _Manager(self.directory, options=options, item_names=("state", "ema", "data", "config"))
        except OSError as error:
            raise CheckpointError(f"{self.directory} can't be used: {error}") from error

    def steps(self) -> list[int]:
        """Saved steps, newest first."""
        self._manager.reload()
        return sorted(self._manager.all_steps(), reverse=True)

    def save(self, step: int, config: ConfigDict, ema: Any, state: Any = None, data: Any = None) -> None:
        """Start saving; returns as soon as the arrays are copied.

        The first save waits, reads the checkpoint again and compares it, so that no run writes checkpoints in vain.

        Args:
          ema: the moving averages, or None.
          state: a struct with a field `ema`, which is left out. Without a state the checkpoint can't be resumed.
          data: the position in the data, as JSON values.

        Raises:
          CheckpointError: this or the previous save could not be written, or the first one can't be read.
        """
        items = {"config": ocp.args.JsonSave(config_to_json(config))}
        arrays = {}
        if ema is not None:
            arrays["ema"] = ema
        if state is not None:
            arrays["state"] = state.replace(ema=None)
            items["data"] = ocp.args.JsonSave(data)
        items |= {name: ocp.args.StandardSave(values) for name, values in arrays.items()}
        with jax.transfer_guard("allow"), self._written():
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)
        if not self._read_back:
            self.wait()
            for name, values in list(arrays.items())[:1]:  # one of them is enough
                self._compare(step, name, values)
            self._read_back = True

    def _compare(self, step: int, item: str, saved: Any) -> None:
        """Raise CheckpointError unless the checkpoint holds the bits of `saved` that are on this process's devices."""
        wanted = jax.tree.map(lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), saved)
        try:
            args = ocp.args.Composite(**{item: ocp.args.StandardRestore(wanted), "config": ocp.args.JsonRestore()})
            found = self._manager.restore(step, args=args)[item]
            with jax.transfer_guard("allow"):
                same = jax.tree.map(_same_bits, saved, found)
        except Exception as error:  # as in `restore`
            reason = _reason(error)
        else:
            if all(jax.tree.leaves(same)):
                return
            reason = "it differs from what was saved"
        raise CheckpointError(f"the first checkpoint, {self.directory / str(step)}, can't be read again ({reason})")

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        """Turns the errors of a save, which come with the next call, into a CheckpointError."""
        try:
            yield
        except Exception as error:  # Orbax and TensorStore raise many kinds for one full disk
            raise CheckpointError(
                f"a checkpoint can't be written to {self.directory}; those before it are intact: {_reason(error)}"
            ) from error

    def restore(self, abstract_state: Any) -> tuple[Any, Any, int] | None:
        """(state, data position, step) of the newest checkpoint that can be read; None if there is no checkpoint.

        `abstract_state` gives shapes, types and shardings. A damaged checkpoint is reported and moved to
        `WORKDIR/damaged/`, and the one before it is used.

        Raises:
          CheckpointError: the newest checkpoint has no optimiser state, like that of an imported model; or none can
            be read, and then none is moved.
        """
        damaged = []
        for step in self.steps():
            if not any((self.directory / str(step) / item).exists() for item in ("state", "data")):
                raise CheckpointError(
                    f"step {step} in {self.directory} has no optimiser state, so training can't continue from it; "
                    f"start from it in a new workdir, with --config.init_from={self.directory.parent}"
                )
            items = {
                "state": ocp.args.StandardRestore(abstract_state.replace(ema=None)),
                "data": ocp.args.JsonRestore(),
            }
            if abstract_state.ema is not None:
                items["ema"] = ocp.args.StandardRestore(abstract_state.ema)
            restored = None
            try:
                restored = self._manager.restore(step, args=ocp.args.Composite(**items))
            except Exception as error:  # Orbax and TensorStore raise errors of many kinds
                _warn_damaged(step, error)
            if _on_every_process(restored is not None):
                self._set_aside(damaged)
                return restored.state.replace(ema=restored.get("ema")), restored.data, step
            damaged.append(step)
        if damaged:
            raise CheckpointError(
                f"no checkpoint in {self.directory} can be read (tried {damaged}, nothing was moved); "
                "repair what the warnings name, or start again in another workdir"
            )
        return None

    def restore_ema(self, abstract_ema: Any, step: int | None = None) -> tuple[Any, int]:
        """(moving averages, step) of the given checkpoint, or of the newest one that can be read."""
        steps = self._wanted(step)
        for candidate in steps:
            try:
                items = ocp.args.Composite(ema=ocp.args.StandardRestore(abstract_ema))
                return self._manager.restore(candidate, args=items).ema, candidate
            except Exception as error:
                _warn_damaged(candidate, error)
        raise CheckpointError(f"no checkpoint in {self.directory} can be read (of {sorted(steps)}); see the warnings")

    def _wanted(self, step: int | None) -> list[int]:
        """The given step alone, or all, the newest first. Raises CheckpointError if the given one is not there."""
        steps = self.steps()
        if step is None:
            return steps
        if step not in steps:
            raise CheckpointError(f"no checkpoint of step {step} in {self.directory}; there are {sorted(steps)}")
        return [step]

    def config(self, step: int | None = None) -> ConfigDict:
        """The config of the given checkpoint, or of the newest one that can be read; see `upgrade` for old ones."""
        for candidate in self._wanted(step):
            try:
                items = ocp.args.Composite(config=ocp.args.JsonRestore())
                values = self._manager.restore(candidate, args=items).config
            except Exception as error:
                _warn_damaged(candidate, error)
            else:
                return config_from_json(upgrade(values))
        if self.steps():
            raise CheckpointError(f"no checkpoint in {self.directory} can be read; see the warnings")
        raise CheckpointError(f"no checkpoint in {self.directory}: train first")

    def data(self, step: int) -> dict[str, Any]:
        """What the checkpoint of a step holds as `data`; nothing for an imported model, or if it can't be read."""
        try:
            return self._manager.restore(step, args=ocp.args.Composite(data=ocp.args.JsonRestore())).data
        except Exception:  # as in `restore`
            return {}

    def _set_aside(self, steps: list[int]) -> None:
        if not steps:
            return
        if jax.process_index() == 0:
            aside = self.directory.parent / "damaged"
            aside.mkdir(parents=True, exist_ok=True)
            for step in steps:
                target = aside / str(step)
                if target.exists():
                    target.rmtree()
                (self.directory / str(step)).rename(target)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("set aside damaged checkpoints")
        self._manager.reload()

    def wait(self) -> None:
        """Return when every save has reached the disk."""
        with self._written():
            self._manager.wait_until_finished()

    def close(self) -> None:
        with self._written():
            self._manager.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def reader(workdir: str) -> "Checkpoints | exported.Exported":
    """The checkpoints of a workdir to read from, or the one model of a folder that `cldis_jax.export` wrote.

    Raises:
      CheckpointError: there is neither, or it can't be read.
    """
    if exported.is_exported(workdir) and not has_checkpoint(workdir):
        return exported.Exported(workdir)
    return Checkpoints(workdir, read_only=True)


def kept_steps(workdir: str) -> list[int]:
    """The steps of a workdir's checkpoints, the smallest first.

    Raises:
      CheckpointError: there is no checkpoint.
    """
    with reader(workdir) as checkpoints:
        steps = checkpoints.steps()
    if not steps:
        raise CheckpointError(f"no checkpoint in {workdir}: train first, with --workdir={workdir}")
    return steps[::-1]


def has_any(workdir: str) -> bool:
    """Whether the workdir holds a checkpoint, readable or not, or an exported model."""
    return has_checkpoint(workdir) or exported.is_exported(workdir)


def has_checkpoint(workdir: str) -> bool:
    """Whether the workdir holds a checkpoint, readable or not."""
    directory = epath.Path(workdir) / "checkpoints"
    return directory.exists() and any(path.name.isdigit() for path in directory.iterdir())


def claim(folder: epath.PathLike, asked: dict[str, Any], what: str) -> None:
    """Raise CheckpointError if a folder holds the work of another config.

    The config is compared with `FOLDER/config.json`, or if that is absent with the newest checkpoint's. An empty
    folder is accepted, and so are other values of FREE_FIELDS.

    Args:
      asked: the config that is to run, from `config_to_json`.
      what: what the folder holds, e.g. "a run".

    Raises:
      CheckpointError: the message lists the fields that differ.
    """
    folder = epath.Path(folder)
    record = folder / "config.json"
    if exported.is_exported(folder) and not has_checkpoint(folder):
        raise CheckpointError(
            f"{folder} holds an exported model, which has no optimiser state; choose another folder, and start from "
            f"this model with --config.init_from={folder}"
        )
    if record.exists() and (has_checkpoint(folder) or (folder / "main.json").exists()):
        saved = json.loads(record.read_text())
    elif has_checkpoint(folder):
        with Checkpoints(folder, read_only=True) as checkpoints:
            saved = config_to_json(checkpoints.config())
    else:
        return
    if differing := differing_fields(saved, asked):
        onward = (  # only the config of a training has this field
            f"to start from its parameters with this config, add --config.init_from={folder} and a new workdir; or "
            if "init_from" in asked
            else ""
        )
        raise CheckpointError(
            f"{folder} holds {what} of another config; {onward}choose another folder, move this one, or make these "
            "agree:\n  " + "\n  ".join(differing)
        )


def _on_every_process(ok: bool) -> bool:
    """Whether `ok` is true on every process; the result is the same on all."""
    return bool(np.all(multihost_utils.process_allgather(np.array(ok))))


def _warn_damaged(step: int, error: Exception) -> None:
    logging.warning("checkpoint %d can't be read (%s); trying the one before it", step, _reason(error))


def _reason(error: Exception) -> str:
    """The kind and the first line of an error; the lines of Orbax and TensorStore can be very long."""
    line = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    return line if len(line) <= 300 else f"{line[:300]}..."


def _same_bits(saved: jax.Array, found: np.ndarray) -> bool:
    """Whether `found` holds the bits of the part of `saved` that is on this process's devices."""
    if not hasattr(saved, "addressable_shards"):
        return np.asarray(saved).tobytes() == found.tobytes()
    return all(np.asarray(shard.data).tobytes() == found[shard.index].tobytes() for shard in saved.addressable_shards)
