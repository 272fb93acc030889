"""Mesh shapes, and which arrays are split."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from cldis_jax.runtime import partitioning


def with_mesh(config, data, fsdp):
    config.sharding.mesh.data, config.sharding.mesh.fsdp = data, fsdp
    return config


@pytest.mark.parametrize(
    ("data", "fsdp", "devices", "shape"),
    [(-1, 1, 8, (8, 1)), (-1, 4, 8, (2, 4)), (2, -1, 8, (2, 4)), (1, 8, 8, (1, 8)), (-1, 1, 1, (1, 1))],
)
def test_one_axis_takes_the_remaining_devices(tiny, data, fsdp, devices, shape):
    assert partitioning.mesh_shape(with_mesh(tiny, data, fsdp), devices) == shape


@pytest.mark.parametrize(
    ("devices", "slices", "shape"), [(1, 1, (1, 1)), (6, 1, (3, 2)), (32, 1, (8, 4)), (8, 2, (2, 4))]
)
def test_fsdp_takes_up_to_four_devices_of_a_slice(tiny, devices, slices, shape):
    assert tuple(tiny.sharding.mesh.values()) == (-1, -1)
    assert partitioning.mesh_shape(tiny, devices, slices) == shape


@pytest.mark.parametrize(
    ("data", "fsdp", "message"),
    [
        (3, 1, "does not multiply to the 8 devices"),
        (-1, 3, "does not multiply to the 8 devices"),
        (0, 8, "positive size"),
        (-2, 4, "positive size"),
    ],
)
def test_a_mesh_that_does_not_fit(tiny, data, fsdp, message):
    with pytest.raises(ValueError, match=message) as caught:
        partitioning.mesh_shape(with_mesh(tiny, data, fsdp), 8)
    assert "\n" not in str(caught.value)


def test_batch_must_divide(tiny):
    tiny.data.batch_size, tiny.train.accumulate = 9, 2
    with pytest.raises(ValueError, match=r"batch_size=9 is not divisible by the 1 devices times train.accumulate=2"):
        partitioning.make_mesh(tiny)


@dataclasses.dataclass(frozen=True)
class TPU:
    """The attributes of a v4 chip that a mesh uses. A slice has four chips, 2x2."""

    id: int
    platform: str = "tpu"
    device_kind: str = "TPU v4"
    core_on_chip: int = 0

    @property
    def slice_index(self):
        return self.id // 4

    @property
    def process_index(self):
        return self.id // 4

    @property
    def coords(self):
        return (self.id % 2, self.id // 2 % 2, 0)


def test_slices_are_along_data(tiny):
    devices = [TPU(i) for i in range(8)]
    for fsdp in (1, 2, 4):
        grid = partitioning.make_mesh(with_mesh(tiny, -1, fsdp), devices).devices
        assert grid.shape == (8 // fsdp, fsdp)
        assert [device.slice_index for device in grid.flat] == [0] * 4 + [1] * 4
    with pytest.raises(ValueError, match="data=1, which must be a multiple of the 2 slices"):
        partitioning.make_mesh(with_mesh(tiny, -1, 8), devices)


def test_large_arrays_are_split_along_their_largest_divisible_axis():
    mesh = AbstractMesh((2, 4), partitioning.AXES, axis_types=(AxisType.Auto,) * 2)

    def spec(*shape):
        leaf = jax.ShapeDtypeStruct(shape, jnp.float32)
        return tuple(partitioning.state_sharding(mesh, leaf, min_bytes=256).spec)

    assert spec(3, 3, 8, 64) == (None, None, None, "fsdp")
    assert spec(64, 8) == ("fsdp", None)
    assert spec(66, 8) == (None, "fsdp")  # 66 is not a multiple of 4
    assert spec(67, 9) == (None, None)
    assert spec(64) == ("fsdp",)  # exactly 256 bytes
    assert spec(60) == (None,)  # below 256 bytes
    assert spec() == ()


def test_nothing_is_split_without_an_fsdp_axis():
    mesh = AbstractMesh((8, 1), partitioning.AXES, axis_types=(AxisType.Auto,) * 2)
    leaf = jax.ShapeDtypeStruct((4096, 4096), jnp.float32)
    assert partitioning.state_sharding(mesh, leaf, 1).spec == PartitionSpec(None, None)


def test_to_global_and_back(tiny):
    mesh = partitioning.make_mesh(tiny)
    batch = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    for stacked in (False, True):
        array = partitioning.to_global(batch, partitioning.batch_sharding(mesh, stacked=stacked))
        np.testing.assert_array_equal(partitioning.to_host(array), batch)
