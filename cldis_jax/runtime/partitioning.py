"""The device mesh, and how the state and the batch are split over it."""

import math
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from cldis_jax.runtime.errors import UserError

AXES = ("data", "fsdp")
MOST_FSDP = 4  # with 8, XLA computes the gradient in windows, which accesses more bytes (docs/scaling.md)


def mesh_shape(config: ConfigDict, num_devices: int, num_slices: int = 1) -> tuple[int, int]:
    """Devices along (data, fsdp); -1 in the config means all devices that the other axis leaves.

    If both are -1, fsdp takes up to `MOST_FSDP` devices of a slice and data the rest.

    Raises:
      UserError: the shape does not multiply to `num_devices`.
    """
    shape = [int(config.sharding.mesh[axis]) for axis in AXES]
    asked = ", ".join(f"{axis}={size}" for axis, size in zip(AXES, shape))
    if any(size < 1 and size != -1 for size in shape):
        raise UserError(f"sharding.mesh ({asked}): each axis takes a positive size, or -1")
    if shape == [-1, -1]:
        shape[1] = math.gcd(num_devices // num_slices, MOST_FSDP)
    if -1 in shape:
        known = -int(np.prod(shape))
        shape[shape.index(-1)] = num_devices // known if num_devices % known == 0 else 0
    if np.prod(shape) != num_devices:
        raise UserError(f"sharding.mesh ({asked}) does not multiply to the {num_devices} devices present")
    return tuple(shape)


def make_mesh(config: ConfigDict, devices: list | None = None) -> Mesh:
    """The mesh over all devices, or over the given ones; a batch is split over both axes.

    Several TPU slices are joined only by the slow data-centre network, so they are placed along `data`.

    Raises:
      UserError: the config's mesh or batch does not fit the devices.
    """
    devices = jax.devices() if devices is None else devices
    slices = len({getattr(device, "slice_index", 0) for device in devices}) if devices[0].platform == "tpu" else 1
    shape = mesh_shape(config, len(devices), slices)
    batch_size, micro = config.data.batch_size, config.train.accumulate
    if batch_size % (len(devices) * micro):
        raise UserError(
            f"data.batch_size={batch_size} is not divisible by the {len(devices)} devices"
            + (f" times train.accumulate={micro}" if micro > 1 else "")
        )
    if shape[0] % slices:
        raise UserError(f"sharding.mesh gives data={shape[0]}, which must be a multiple of the {slices} slices")
    within = (shape[0] // slices, shape[1])
    if slices > 1:
        grid = mesh_utils.create_hybrid_device_mesh(within, (slices, 1), devices, allow_split_physical_axes=True)
    else:
        grid = mesh_utils.create_device_mesh(within, devices, allow_split_physical_axes=True)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 2)


def batch_sharding(mesh: Mesh, *, stacked: bool = False) -> NamedSharding:
    """Batches [B, ...] split over all devices; `stacked`: [K, B, ...], the second dimension is split."""
    return NamedSharding(mesh, PartitionSpec(*([None] if stacked else []), AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def replicate(mesh: Mesh, tree: Any) -> Any:
    """A tree of arrays that every process has, as global arrays, whole on each device."""
    with jax.transfer_guard("allow"):
        # Through the host: an array on one process's device can't be moved to the devices of all processes.
        return jax.device_put(jax.device_get(tree), replicated(mesh))


def state_sharding(mesh: Mesh, abstract_state: Any, min_bytes: int) -> Any:
    """Shardings of a tree of shapes: replicated, but arrays of at least `min_bytes` split over `fsdp`.

    The split dimension is the largest one that the axis divides. The rule depends only on shapes, so parameters, their
    moving averages and the optimiser's moments are split in the same way.
    """
    size = mesh.shape["fsdp"]

    def rule(leaf):
        spec = [None] * leaf.ndim
        divisible = [i for i in range(leaf.ndim) if leaf.shape[i] % size == 0]
        if size > 1 and divisible and leaf.size * leaf.dtype.itemsize >= min_bytes:
            spec[max(divisible, key=lambda i: leaf.shape[i])] = "fsdp"
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map(rule, abstract_state)


def to_global(batch: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """One global array from the parts of a batch that the processes have read."""
    with jax.transfer_guard("allow"):
        return jax.make_array_from_process_local_data(sharding, batch)


def to_host(tree: Any) -> Any:
    """A tree of global arrays as whole NumPy arrays on every process."""
    with jax.transfer_guard("allow"):
        if jax.process_count() > 1:
            return multihost_utils.process_allgather(tree, tiled=True)
        return jax.device_get(tree)
