"""TPU chips by their datasheets, and the names of slices, e.g. v4:2x2x1 (chips along each axis)."""

import dataclasses
import math
import re

from cldis_jax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class Chip:
    """One generation; the figures are from Google Cloud's documentation (cloud.google.com/tpu/docs/v4 and so on)."""

    peak_flops: float  # bfloat16, a second
    hbm_bytes: float
    hbm_bandwidth: float  # bytes a second
    axes: int  # of the torus
    cores: str  # libtpu's name for the use of a chip's cores: megacore (two as one) or default (the only one)
    ici_bandwidth: float  # bytes a second that a chip sends over all of its links, two for each axis


CHIPS = {
    "v4": Chip(
        peak_flops=275e12, hbm_bytes=32 * 2**30, hbm_bandwidth=1200e9, axes=3, cores="megacore", ici_bandwidth=300e9
    ),
    "v5e": Chip(peak_flops=197e12, hbm_bytes=16e9, hbm_bandwidth=819e9, axes=2, cores="default", ici_bandwidth=200e9),
    "v5p": Chip(peak_flops=459e12, hbm_bytes=95e9, hbm_bandwidth=2765e9, axes=3, cores="megacore", ici_bandwidth=600e9),
    "v6e": Chip(peak_flops=918e12, hbm_bytes=32e9, hbm_bandwidth=1638e9, axes=2, cores="default", ici_bandwidth=400e9),
}
CHIPS_PER_HOST = (2, 2, 1)  # of a slice of several hosts


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice of one generation of chips."""

    generation: str
    shape: tuple[int, ...]

    @property
    def chip(self) -> Chip:
        return CHIPS[self.generation]

    @property
    def num_chips(self) -> int:
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        return f"{self.generation}:{'x'.join(map(str, self.shape))}"

    @property
    def ici_bandwidth(self) -> float:
        """Bytes a second that a chip sends to others of the slice: one link along an axis of 2 or 3 chips, two of 4.

        Links that leave the slice, and those of an axis of one chip, carry nothing.
        """
        links = sum(min(size // 2, 2) for size in self.shape)
        return self.chip.ici_bandwidth * links / (2 * self.chip.axes)

    def collective_seconds(self, collectives: dict[str, int]) -> float:
        """The least time of the collectives of `hlo.Module.collectives`, one after another, without latency.

        Of B bytes a chip sends B (n - 1) / n in a gather or a scatter over n chips, and twice that in an all-reduce
        (Patarasuk and Yuan 2009).
        """
        if self.num_chips == 1:
            return 0.0
        size = {name.removesuffix("_bytes"): b for name, b in collectives.items() if name.endswith("_bytes")}
        permuted = size.pop("collective_permute")
        shared = (sum(size.values()) + size["all_reduce"]) * (self.num_chips - 1) / self.num_chips
        return (shared + permuted) / self.ici_bandwidth

    @property
    def host_bounds(self) -> tuple[int, int, int]:
        """Chips that one host drives, along three axes."""
        shape = (*self.shape, *(1,) * (3 - len(self.shape)))
        return tuple(min(size, host) for size, host in zip(shape, CHIPS_PER_HOST))

    @classmethod
    def parse(cls, name: str) -> "Topology":
        """The slice of a name such as v4:4x4x8.

        Raises:
          UserError: an unknown generation, or a shape that is not one of its slices.
        """
        generation, _, rest = name.partition(":")
        if generation not in CHIPS:
            raise UserError(f"topology {name!r}: {generation!r} is none of {', '.join(CHIPS)} (e.g. v4:2x2x1)")
        axes = CHIPS[generation].axes
        example = f"{generation}:{'x'.join(map(str, CHIPS_PER_HOST[:axes]))}"
        if not re.fullmatch(r"[1-9]\d{0,3}(x[1-9]\d{0,3})*", rest) or rest.count("x") != axes - 1:
            raise UserError(f"topology {name!r}: {generation} takes the chips along {axes} axes, e.g. {example}")
        topology = cls(generation, tuple(int(size) for size in rest.split("x")))
        for size, host in zip(topology.shape, topology.host_bounds):
            if size % host:
                raise UserError(f"topology {name!r}: {size} chips along an axis do not divide among hosts of {host}")
        return topology
