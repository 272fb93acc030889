"""The training step, compiled for TPUs that are not present, and the memory, FLOPs and traffic of the result."""

import importlib.util
import os
import re
import time
from typing import Any

import jax
from jax.experimental import topologies
from ml_collections import ConfigDict

from cldis_jax import models
from cldis_jax.config import validate
from cldis_jax.planning import breakdown, cost, hlo
from cldis_jax.planning.chips import Topology
from cldis_jax.runtime import partitioning, report
from cldis_jax.runtime.errors import UserError
from cldis_jax.training.program import make_program

NUM_BUFFERS = 5
# libtpu must not look for a chip: no metadata server, no lock against other processes, a made-up host.
LIBTPU_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_ACCELERATOR_TYPE": "v4-8",
}


def devices_of(topology: Topology) -> list:
    """Devices to compile for, one a chip.

    Raises:
      UserError: libtpu is missing, or has no such slice.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("compiling for TPUs needs libtpu: pip install 'cldis_jax[tpu]'")
    for name, value in LIBTPU_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        description = topologies.get_topology_desc(
            platform="tpu",
            topology_name=topology.name,
            chip_config_name=topology.chip.cores,
            chips_per_host_bounds=topology.host_bounds,
        )
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"topology {topology.name!r}: {str(error).splitlines()[0]}") from error
    return list(description.devices)


def compile_step(
    config: ConfigDict, topology: Topology, effort: float = 0.0
) -> tuple[jax.stages.Compiled, dict[str, Any]]:
    """The compiled training step of a config on a slice, and the facts that need no compilation.

    `effort` in [-1, 1] is how long XLA optimises; training compiles with 0.

    Raises:
      UserError: the mesh or the batch does not fit the slice, or the step does not fit into its memory.
    """
    validate(config)
    config = config.copy_and_resolve_references()
    config.train.steps_per_dispatch = 1  # the figures are of one step
    devices = devices_of(topology)
    mesh = partitioning.make_mesh(config, devices)
    program = make_program(config, mesh)
    num_params = cost.count(program.abstract_state.params)
    facts = {
        "topology": topology.name,
        "chips": len(devices),
        "hosts": len({device.process_index for device in devices}),
        "mesh": dict(mesh.shape),
        "global_batch": config.data.batch_size,
        "accumulate": config.train.accumulate,
        "effort": effort,
        "parameters": num_params,
        "gradient_bytes": num_params * models.compute_dtype(config, "tpu").itemsize,
        "state_arrays": len(jax.tree.leaves(program.abstract_state)),
    }
    began = time.perf_counter()
    try:
        lowered = program.update.lower(program.abstract_state, program.abstract_batch)
        compiled = lowered.compile({"exec_time_optimization_effort": effort} if effort else None)
    except jax.errors.JaxRuntimeError as error:
        used = re.search(r"Used (\S+) of (\S+) hbm", str(error))
        if not used:
            raise
        raise UserError(
            f"one step needs {used.group(1)} of the {used.group(2)} that a {topology.generation} chip offers; "
            f"raise train.accumulate={config.train.accumulate}, set model.remat=True, or raise sharding.mesh.fsdp"
        ) from error
    return compiled, facts | {"compile_seconds": time.perf_counter() - began}


def costs(compiled: jax.stages.Compiled, module: hlo.Module) -> tuple[float, float]:
    """FLOPs and bytes accessed of one run. XLA's own figures count the body of a loop once."""
    once = compiled.cost_analysis()
    return float(once["flops"]) * module.repeated_flops(), float(once["bytes accessed"]) * module.repeated_bytes()


def plan(config: ConfigDict, topology: Topology, effort: float = 0.0, *, by_part: bool = False) -> dict[str, Any]:
    """All figures; FLOPs and bytes are of one chip and the mean optimiser step. `by_part` adds `breakdown`."""
    compiled, facts = compile_step(config, topology, effort)
    chip, memory, module = topology.chip, compiled.memory_analysis(), hlo.Module(compiled.as_text())
    resident = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    flops, accessed = costs(compiled, module)
    parts = breakdown.breakdown(
        module,
        flops=flops,
        bytes_accessed=accessed,
        temporaries=memory.temp_size_in_bytes,
        probe_every=config.feedback.every,
    )
    flops, accessed = (sum(part[what] for part in parts.values()) for what in ("flops", "bytes_accessed"))
    compute_seconds, memory_seconds = flops / chip.peak_flops, accessed / chip.hbm_bandwidth
    roofline_seconds, collectives = max(compute_seconds, memory_seconds), module.collectives()
    waiting_seconds = topology.collective_seconds(module.collectives(waited_for=True))
    if by_part:
        facts["breakdown"] = parts
    return facts | {
        "bytes_per_chip": {
            "arguments": memory.argument_size_in_bytes,
            "temporaries": memory.temp_size_in_bytes,
            "output": memory.output_size_in_bytes,
            "donated": memory.alias_size_in_bytes,  # output in the memory of an argument
            "program": memory.generated_code_size_in_bytes,
            "total": resident + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes,
        },
        "hbm_bytes_per_chip": chip.hbm_bytes,
        "flops_per_chip": flops,
        "bytes_accessed_per_chip": accessed,
        "compute_seconds": compute_seconds,
        "memory_seconds": memory_seconds,
        "roofline_seconds": roofline_seconds,
        "collectives": collectives,
        "collective_seconds": topology.collective_seconds(collectives),
        "waiting_seconds": waiting_seconds,
        "step_seconds": roofline_seconds + waiting_seconds,
        "images_per_second": config.data.batch_size / (roofline_seconds + waiting_seconds),
        "donated_arrays": module.num_donated,
        "largest_buffers": [
            {"bytes": size, "shape": shape, "origin": origin}
            for size, shape, origin in module.largest_buffers(NUM_BUFFERS)
        ],
    }


def tables(facts: dict[str, Any]) -> str:
    """The plan as text."""
    bytes_per_chip, hbm = facts["bytes_per_chip"], facts["hbm_bytes_per_chip"]
    mesh = ", ".join(f"{axis}={size}" for axis, size in facts["mesh"].items())
    bound = "compute" if facts["compute_seconds"] > facts["memory_seconds"] else "memory bandwidth"
    rows = [
        ("slice", f"{facts['topology']}: {facts['chips']} chips on {facts['hosts']} hosts, mesh {mesh}"),
        ("batch, global / a chip", f"{facts['global_batch']} / {facts['global_batch'] // facts['chips']}"),
        *((f"{name} a chip", _mebibytes(size)) for name, size in bytes_per_chip.items()),
        ("share of the chip's memory", f"{bytes_per_chip['total'] / hbm:.1%} of {hbm / 1e9:.4g} GB"),
        ("donated arrays of the state", f"{facts['donated_arrays']} of {facts['state_arrays']}"),
        ("GFLOP a chip and step", f"{facts['flops_per_chip'] / 1e9:,.4g}"),
        ("bytes accessed a chip and step", _mebibytes(facts["bytes_accessed_per_chip"])),
        ("roofline, ms a step", f"{facts['roofline_seconds'] * 1e3:.3f}, bound by {bound}"),
        ("gradient", _mebibytes(facts["gradient_bytes"])),
    ]
    for kind in hlo.COLLECTIVES:
        count, size = (facts["collectives"][f"{kind}_{what}"] for what in ("count", "bytes"))
        rows.append((kind.replace("_", "-"), f"{count} of {_mebibytes(size)} in all" if count else "none"))
    waiting = f"{facts['waiting_seconds'] * 1e3:.3f} of them with no computation beside them"
    rows.append(("collectives, ms a step, at least", f"{facts['collective_seconds'] * 1e3:.3f}, {waiting}"))
    step = f"{facts['step_seconds'] * 1e3:.3f}, {facts['images_per_second']:,.0f} images/s at most"
    rows.append(("roofline and waiting, ms a step", step))
    effort = f" with effort {facts['effort']:g}" if facts["effort"] else ""
    rows.append(("compiled in", f"{facts['compile_seconds']:.0f} s{effort}"))
    buffers = [(_mebibytes(b["bytes"]), b["shape"], b["origin"]) for b in facts["largest_buffers"]]
    shown = [report.table(rows, ("what", "value")), report.table(buffers, ("largest buffers", "shape", "origin"))]
    if "breakdown" in facts:
        shown.append(breakdown.table(facts))
    return "\n\n".join(shown)


def _mebibytes(size: float) -> str:
    return f"{size / 2**20:,.2f} MiB"
