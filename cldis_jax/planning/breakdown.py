"""Which parts of the training step cost what: bytes, FLOPs and memory of a compiled program, by part.

XLA keeps with each instruction the place in the Python program that it comes from (`op_name`): the names of Flax's
modules and of `jax.named_scope`. A fusion belongs to the convolution or matrix product in it, if there is one.
"""

import collections
import re
from typing import Any

from cldis_jax.planning import hlo
from cldis_jax.runtime import report

PROBE = "probe of z"
# Part -> names in the path of an instruction, written as a regular expression. The first part that matches counts.
PARTS = {
    PROBE: r"probe",
    "optimiser and EMA": r"optimiser|ema",  # XLA makes one fusion of them for each parameter
    "VAE": r"BetaVAE\b.*",
    "attention": r"\w+_(attention|cross)",
    "conditioning": r"ada_gn|time_scale_shift|z_scale|tokens|time_[01]|time_embedding",
    "norms and activations": r"norm(_in|_out)?|silu",
    "convolutions": r"conv_(in|out|\d+)|stem|hidden|head",
    "skips and resizing": r"\w+_block_\d+|\w+_(down|up)|UNet|SemanticEncoder|StridedEncoder",
}
COLLECTIVES, COPIES, LOSS = "collectives", "copies", "loss and data"
ORDER = (*PARTS, LOSS, COLLECTIVES, COPIES)


def part_of(instruction: hlo.Instruction) -> str:
    """The part that an instruction belongs to, by its own name."""
    if instruction.opcode.removesuffix("-start").removesuffix("-done").replace("-", "_") in hlo.COLLECTIVES:
        return COLLECTIVES
    if not instruction.op_name:
        return COPIES
    path = re.findall(r"[\w.]+", instruction.op_name)  # `transpose(jvp(UNet))/stem/layer` has five names
    for part, pattern in PARTS.items():
        if any(re.fullmatch(pattern, name) for name in path):
            return part
    return LOSS


def breakdown(
    module: hlo.Module, *, flops: float, bytes_accessed: float, temporaries: float, probe_every: int = 1
) -> dict[str, Any]:
    """`flops`, `bytes_accessed` and `temporaries` of each part; each adds up to the total given, which is XLA's.

    `padding` is the share of `bytes_accessed` that a TPU reads and writes because it stores whole tiles.

    XLA's totals are those of a step that probes z. With `probe_every` the FLOPs and bytes of the probe are divided by
    it: those of the mean step.

    The shares are our own count: of operands and results (bytes), of arithmetic (FLOPs), and of the results that are
    alive when most bytes are (temporaries).
    """
    parts = _parts(module)
    times = module.executions()
    counts = {what: collections.Counter() for what in ("flops", "bytes_accessed", "temporaries", "padding")}
    for name, computation in module.computations.items():
        for instruction in computation.values():
            counts["flops"][parts[name, instruction.name]] += times[name] * hlo.flops(computation, instruction)
    for name in module.sequences():
        computation = module.computations[name]
        for instruction in computation.values():
            part = parts[name, instruction.name]
            tiled, full = (times[name] * hlo.bytes_accessed(computation, instruction, tiled=t) for t in (True, False))
            counts["bytes_accessed"][part] += tiled
            counts["padding"][part] += tiled - full
    for name, size in alive_at_peak(module).items():
        counts["temporaries"][parts[module.entry, name]] += size
    totals = {"flops": flops, "bytes_accessed": bytes_accessed, "temporaries": temporaries}
    scales = {what: totals[what] / max(1, counts[what].total()) for what in totals}
    scales["padding"] = scales["bytes_accessed"]
    parts = {part: {what: scale * counts[what][part] for what, scale in scales.items()} for part in ORDER}
    for what in ("flops", "bytes_accessed", "padding"):
        parts[PROBE][what] /= probe_every
    return parts


def _parts(module: hlo.Module) -> dict[tuple[str, str], str]:
    """(computation, instruction) -> part. What XLA added inside a fusion belongs to the fusion's part."""
    parts = {
        (name, instruction.name): part_of(instruction)
        for name, computation in module.computations.items()
        for instruction in computation.values()
    }
    for name, computation in module.computations.items():  # HLO defines callees before their callers
        for instruction in computation.values():
            if instruction.opcode != "fusion":
                continue
            inside = [(callee, i) for callee in instruction.callees for i in module.computations[callee].values()]
            main = [parts[callee, i.name] for callee, i in inside if i.opcode in ("convolution", "dot")]
            named = [parts[callee, i.name] for callee, i in inside if parts[callee, i.name] != COPIES]
            own = parts[name, instruction.name]
            if main or own == COPIES:
                own = (main or [collections.Counter(named or [COPIES]).most_common(1)[0][0]])[0]
            parts[name, instruction.name] = own
            for callee, i in inside:
                if parts[callee, i.name] == COPIES:
                    parts[callee, i.name] = own
    return parts


def alive_at_peak(module: hlo.Module) -> dict[str, int]:
    """Name -> bytes of the results of the entry that are alive when most bytes are.

    Without arguments and outputs. What a loop or a branch holds inside does not count.
    """
    entry = module.computations[module.entry]
    order = {name: i for i, name in enumerate(entry)}
    behind: dict[str, set[str]] = {}  # the results that a value, perhaps a view of them, keeps alive
    last = {}
    for name, instruction in entry.items():
        kept = set().union(*(behind[operand] for operand in instruction.operands))
        last |= dict.fromkeys(kept, order[name])
        is_view = instruction.opcode in hlo.VIEWS
        behind[name] = kept if is_view else {name} if hlo.in_main_memory(instruction.shape) else set()
    outputs = behind[next(reversed(entry))]
    sizes = {name: hlo.num_bytes(entry[name].shape, tiled=True) for name in last if name not in outputs}
    changes = sorted(
        [(order[name], size) for name, size in sizes.items()]
        + [(last[name] + 1, -size) for name, size in sizes.items()]
    )
    alive, most, peak = 0, -1, 0
    for when, change in changes:
        alive += change
        if alive > most:
            most, peak = alive, when
    return {name: size for name, size in sizes.items() if order[name] <= peak <= last[name]}


def table(facts: dict[str, Any]) -> str:
    """The breakdown of `ahead_of_time.plan` as text, for one chip and one optimiser step."""
    totals = {
        "bytes_accessed": facts["bytes_accessed_per_chip"],
        "flops": facts["flops_per_chip"],
        "temporaries": facts["bytes_per_chip"]["temporaries"],
        "padding": sum(costs["padding"] for costs in facts["breakdown"].values()),
    }
    units = {"bytes_accessed": 1e9, "padding": 1e9, "flops": 1e9, "temporaries": 2**20}
    rows = [
        (
            part,
            *(f"{costs[what] / unit:,.2f} ({costs[what] / max(1, totals[what]):.1%})" for what, unit in units.items()),
        )
        for part, costs in facts["breakdown"].items()
    ]
    rows.append(("all", *(f"{totals[what] / unit:,.2f}" for what, unit in units.items())))
    return report.table(rows, ("part", "GB accessed", "of it padding", "GFLOP", "MiB of temporaries"))
