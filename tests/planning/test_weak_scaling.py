"""Weak scaling: the batch grows with the chips; efficiency is by chip and relative to the first slice."""

import numpy as np
import pytest

from cldis_jax.configs import scenes
from cldis_jax.planning import weak_scaling
from cldis_jax.planning.chips import Topology


def plan(topology, chips, waiting):
    """The facts of a slice that computes 30 ms a step for 32 images a chip."""
    return {
        "topology": topology,
        "chips": chips,
        "global_batch": 32 * chips,
        "bytes_per_chip": {"total": 4e9},
        "roofline_seconds": 0.03,
        "waiting_seconds": waiting,
        "images_per_second": 32 * chips / (0.03 + waiting),
    }


PLANS = [plan("v4:2x2x1", 4, 0.002), plan("v4:4x4x4", 64, 0.01)]


def test_the_batch_grows_with_the_chips():
    config = scenes.get_config("tiny")
    config.data.batch_size = 8
    first = Topology.parse("v4:2x2x1")
    batches = [
        weak_scaling.with_batch_of(config, first, Topology.parse(name)).data.batch_size
        for name in ("v4:2x2x1", "v4:2x2x4", "v4:4x4x4")
    ]
    assert batches == [8, 32, 128]
    assert config.data.batch_size == 8
    with pytest.raises(ValueError, match="batch_size=8 is not divisible by the 16 chips of v4:2x2x4"):
        weak_scaling.with_batch_of(config, Topology.parse("v4:2x2x4"), first)


def test_efficiency_is_relative_to_the_first_slice():
    assert weak_scaling.efficiency(PLANS) == pytest.approx([1, 0.032 / 0.040])
    last = weak_scaling.table(PLANS).splitlines()[-1].split()
    assert last == ["v4:4x4x4", "64", "2,048", "4.0", "30.0", "10.00", "51,200", "80.0%"]


def test_the_figure_is_a_picture_of_the_plans():
    figure = weak_scaling.figure(PLANS)
    assert figure.dtype == np.uint8
    assert not np.array_equal(figure, weak_scaling.figure([PLANS[0], plan("v4:4x4x4", 64, 0.03)]))
