"""Weak scaling: plans of slices of several sizes with the same batch a chip, as a table and as a figure."""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from cldis_jax.planning.chips import Topology
from cldis_jax.runtime import report, visualize
from cldis_jax.runtime.errors import UserError

Facts = dict[str, Any]  # of `ahead_of_time.plan`


def with_batch_of(config: ConfigDict, first: Topology, topology: Topology) -> ConfigDict:
    """The config with as many images a chip of `topology` as it has on `first`.

    Raises:
      UserError: the batch does not divide among the chips of `first`.
    """
    images, rest = divmod(config.data.batch_size, first.num_chips)
    if rest:
        raise UserError(
            f"data.batch_size={config.data.batch_size} is not divisible by the {first.num_chips} chips of {first.name}"
        )
    config = config.copy_and_resolve_references()
    config.data.batch_size = images * topology.num_chips
    return config


def efficiency(plans: list[Facts]) -> list[float]:
    """Images a second and chip of each plan, as a share of those of the first."""
    speeds = [facts["images_per_second"] / facts["chips"] for facts in plans]
    return [speed / speeds[0] for speed in speeds]


def table(plans: list[Facts]) -> str:
    """One line a slice; times are lower bounds, speeds upper bounds."""
    header = ("slice", "chips", "batch", "GB a chip", "roofline, ms", "waiting, ms", "images/s", "per chip")
    rows = [
        (
            facts["topology"],
            f"{facts['chips']:,}",
            f"{facts['global_batch']:,}",
            f"{facts['bytes_per_chip']['total'] / 1e9:.1f}",
            f"{facts['roofline_seconds'] * 1e3:.1f}",
            f"{facts['waiting_seconds'] * 1e3:.2f}",
            f"{facts['images_per_second']:,.0f}",
            f"{share:.1%}",
        )
        for facts, share in zip(plans, efficiency(plans))
    ]
    return report.table(rows, header)


def figure(plans: list[Facts]) -> np.ndarray:
    """Images a second over chips beside a straight line, and what a step consists of; uint8 [H, W, 3]."""
    chips = np.array([facts["chips"] for facts in plans])
    speeds = np.array([facts["images_per_second"] for facts in plans])
    canvas = visualize.new_figure(9, 3.4)
    left, right = canvas.subplots(1, 2)
    left.loglog(chips, speeds[0] * chips / chips[0], color="0.6", linestyle=":", label="proportional to the chips")
    left.loglog(chips, speeds, marker="o", label="plan: at most")
    left.set_xticks(chips, [f"{count:,}" for count in chips], minor=False)
    left.minorticks_off()
    left.set(xlabel="chips", ylabel="images/s")
    left.legend()
    names = [f"{facts['topology']}\n{facts['chips']:,}" for facts in plans]
    bottom = np.zeros(len(plans))
    for what, label in (("roofline_seconds", "computation (roofline)"), ("waiting_seconds", "waiting for collectives")):
        milliseconds = 1e3 * np.array([facts[what] for facts in plans])
        right.bar(names, milliseconds, bottom=bottom, label=label)
        bottom += milliseconds
    right.set(ylabel="ms a step, at least", ylim=(0, 1.35 * bottom.max()))
    right.legend()
    return visualize.render(canvas)
