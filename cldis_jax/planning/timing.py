"""Timing of the training step and of its parts on the devices present."""

import dataclasses
import itertools
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from cldis_jax import data
from cldis_jax.config import validate
from cldis_jax.planning import cost
from cldis_jax.runtime import partitioning, report
from cldis_jax.training.program import Program, make_program

WARM_UP = 2  # dispatches that are not timed
NEVER = 2**31 - 1  # steps between two probes of z: more than the timed steps


@dataclasses.dataclass(frozen=True)
class Timing:
    compile_seconds: float
    seconds: list[float]  # of each optimiser step, the wait for data included
    waited: list[float]  # the part of `seconds` that is the wait for data

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles of `seconds`."""
        lower, _, upper = statistics.quantiles(self.seconds, n=4)
        return (upper - lower) / 2


def time_steps(program: Program, batches: Iterator[np.ndarray], num_steps: int, name: str) -> Timing:
    """Time `num_steps` dispatches, each until its scalars are ready. A dispatch of K steps counts as K steps."""
    began = time.perf_counter()
    update = program.update.lower(program.abstract_state, program.abstract_batch).compile()
    compile_seconds = time.perf_counter() - began
    state = program.create()
    per_dispatch = program.abstract_batch.shape[0] if program.abstract_batch.ndim == 5 else 1
    seconds, waited = [], []
    for _ in tqdm(range(WARM_UP + num_steps), desc=name, unit="step", disable=None, leave=False):
        began = time.perf_counter()
        images = next(batches)
        waited.append((time.perf_counter() - began) / per_dispatch)
        state, scalars = update(state, partitioning.to_global(images, program.batch_sharding))
        jax.block_until_ready(scalars)
        seconds.append((time.perf_counter() - began) / per_dispatch)
    return Timing(compile_seconds, seconds[WARM_UP:], waited[WARM_UP:])


def random_batches(program: Program) -> Iterator[np.ndarray]:
    """This process's share of one batch of noise, repeated forever."""
    local = list(program.abstract_batch.shape)
    local[-4] //= jax.process_count()
    return itertools.repeat(np.random.default_rng(0).integers(0, 256, local, np.uint8))


def read_batches(config: ConfigDict) -> Iterator[np.ndarray]:
    """The batches that training reads."""
    source = data.make_source(config.data)
    loader = data.training_loader(config, source, data.parts(source, config.data).train)
    per_dispatch = config.train.steps_per_dispatch
    while True:
        images = [next(loader)["image"] for _ in range(per_dispatch)]
        yield np.stack(images) if per_dispatch > 1 else images[0]


def parts(config: ConfigDict) -> dict[str, ConfigDict]:
    """The config and its two halves alone, which need no probe of z."""
    alone = {name: config.copy_and_resolve_references() for name in ("vae", "diffae")}
    for part in alone.values():
        part.distillation.weight = 0.0
        part.feedback.every = NEVER
    alone["vae"].diffusion.weight = 0.0
    alone["vae"].feedback.mode = "fixed"
    alone["diffae"].vae.weight = 0.0
    return alone | {"closed_loop": config}


def peak_bytes() -> int:
    """The most memory used so far: of the device that used most, or on CPU of this process."""
    used = [device.memory_stats() for device in jax.local_devices()]
    if all(used):
        return max(stats["peak_bytes_in_use"] for stats in used)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def benchmark(config: ConfigDict, num_steps: int, *, read_data: bool = True, time_parts: bool = True) -> dict[str, Any]:
    """Every figure of a config on the devices present.

    Raises:
      ConfigError, data.DataError: before anything is compiled.
    """
    validate(config)
    mesh = partitioning.make_mesh(config)
    batches = read_batches(config) if read_data else None
    if batches:
        batches = itertools.chain([next(batches)], batches)  # raises for missing images before compiling
    flops = cost.training_flops_per_image(config) * config.data.batch_size
    program = make_program(config, mesh)
    whole = time_steps(program, batches or random_batches(program), num_steps, "training")
    results = {
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "global_batch": config.data.batch_size,
        "steps": num_steps,
        "compile_seconds": whole.compile_seconds,
        "seconds_per_step": whole.median,
        "seconds_per_step_spread": whole.spread,
        "images_per_second": config.data.batch_size / whole.median,
        "flops_per_step": flops,
        "flops_per_second": flops / whole.median,
        "data_wait_fraction": sum(whole.waited) / sum(whole.seconds),
        "peak_bytes": peak_bytes(),
    }
    if time_parts and config.vae.weight > 0 and config.diffusion.weight > 0:
        timings = {}
        for name, part in parts(config).items():
            program = make_program(part, mesh)
            timings[name] = time_steps(program, random_batches(program), num_steps, name)
        results["parts"] = {
            name: {"seconds_per_step": timing.median, "mean_seconds_per_step": timing.mean}
            for name, timing in timings.items()
        }
        results["loop_overhead"] = timings["closed_loop"].mean / timings["diffae"].mean - 1
    return results


def table(results: dict[str, Any]) -> str:
    """The figures as text."""
    milliseconds = "{:,.2f}".format
    rows = [
        ("devices", f"{results['devices']} x {results['device']}"),
        ("global batch", str(results["global_batch"])),
        ("compile, s", f"{results['compile_seconds']:.1f}"),
        (
            "ms a step, median",
            f"{milliseconds(results['seconds_per_step'] * 1e3)} "
            f"+- {milliseconds(results['seconds_per_step_spread'] * 1e3)} over {results['steps']}",
        ),
        ("images/s", f"{results['images_per_second']:,.1f}"),
        ("GFLOP/s achieved", f"{results['flops_per_second'] / 1e9:,.1f}"),
        ("waiting for data", f"{results['data_wait_fraction']:.1%}"),
        ("peak memory", f"{results['peak_bytes'] / 2**20:,.0f} MiB"),
    ]
    names = {"vae": "VAE alone", "diffae": "Diff-AE alone", "closed_loop": "closed loop"}
    for name, timing in results.get("parts", {}).items():
        rows.append((f"{names[name]}, ms a step, mean", milliseconds(timing["mean_seconds_per_step"] * 1e3)))
    if "loop_overhead" in results:
        rows.append(("closed loop over Diff-AE alone", f"{results['loop_overhead']:+.1%}"))
    return report.table(rows, ("what", "value"))
