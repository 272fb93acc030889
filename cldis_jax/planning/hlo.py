"""Facts of a compiled program, read from its optimised HLO text: collectives, donation, the largest buffers.

Sizes are of one device: in an SPMD program every device runs the same text.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Callable, Iterator

COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "collective_permute")
# Instructions whose result has no memory of its own.
VIEWS = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all")
SEQUENCES = ("while", "conditional", "call")  # their callees run instruction by instruction, like the entry
ELEMENTWISE = (
    *("add", "subtract", "multiply", "divide", "maximum", "minimum", "power", "compare", "select", "negate", "abs"),
    *("exponential", "log", "tanh", "logistic", "rsqrt", "sqrt", "reduce"),
)

_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .+ \{$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (.+)$")
_CALLEES = re.compile(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)|branch_computations=\{([^}]*)\}")
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_DIM_LABELS = re.compile(r"dim_labels=\w+_(\w+)->")
_CONTRACTED = re.compile(r"lhs_contracting_dims=\{([\d,]*)\}")
_ARRAY = re.compile(r"\b([a-z]+)(\d*)(?:e\w+)?\[([\d,]*)\]")
# Also the order of the dimensions, last first, and the tile.
_TILED_ARRAY = re.compile(_ARRAY.pattern + r"(?:\{([\d,]*)(?::T\(([\d,]+)\))?)?")


@dataclasses.dataclass(frozen=True)
class Instruction:
    name: str
    shape: str  # as written, with layout
    opcode: str
    operands: tuple[str, ...]
    arguments: str  # as written, in parentheses; a constant's value
    attributes: str

    @property
    def op_name(self) -> str:
        """The place in the Python program that it comes from."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return found.group(1) if found else ""

    @property
    def callees(self) -> list[str]:
        """The computations that it runs."""
        found = []
        for single, several in _CALLEES.findall(self.attributes):
            found += [single] if single else re.findall(r"[\w.\-]+", several)
        return found


def dimensions(shape: str) -> list[int]:
    """Sizes of the first array of a shape."""
    found = _ARRAY.search(shape)
    return [int(size) for size in found.group(3).split(",") if size] if found else []


def num_bytes(shape: str, *, tiled: bool = False) -> int:
    """Bytes of a shape in HLO's notation, `bf16[8,64]{1,0:T(8,128)}`, or of a tuple of shapes.

    `tiled`: with the padding of a TPU, which stores whole tiles. That array has tiles of 8 × 128, of which 64 columns
    are empty.
    """
    bits = 0
    for kind, width, dims, order, tile in _TILED_ARRAY.findall(shape):
        sizes = [int(size) for size in dims.split(",") if size]
        if tiled and tile and order:
            for axis, length in zip(order.split(","), reversed(tile.split(","))):
                sizes[int(axis)] = -(-sizes[int(axis)] // int(length)) * int(length)
        bits += math.prod(sizes) * (8 if kind == "pred" else int(width or 0))
    return bits // 8


def in_main_memory(shape: str) -> bool:
    """Whether a shape, with its layout, is in the chip's main memory and not in its fast one."""
    return not re.search(r"S\([1-9]", shape)


def _closing(text: str, start: int) -> int:
    """Index after the parenthesis that closes the one at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i + 1
    raise ValueError(f"unbalanced parentheses in HLO: {text[:80]}")


def _instruction(name: str, text: str) -> Instruction:
    end = _closing(text, 0) if text.startswith("(") else text.index(" ")
    shape, rest = text[:end], text[end:].lstrip()
    opening = rest.index("(")
    closing = _closing(rest, opening)
    operands = tuple(re.findall(r"%([\w.\-]+)", rest[opening:closing]))
    return Instruction(name, shape, rest[:opening], operands, rest[opening:closing], rest[closing:])


Computation = dict[str, Instruction]  # by name, in the order in which they run


def flops(computation: Computation, instruction: Instruction) -> float:
    """Approximate FLOPs of an instruction itself; borders and dilation of convolutions count as pixels."""
    operands = [dimensions(computation[name].shape) for name in instruction.operands if name in computation]
    elements = math.prod(dimensions(instruction.shape))
    if instruction.opcode in ELEMENTWISE:
        return math.prod(operands[0]) if instruction.opcode == "reduce" else elements
    if instruction.opcode == "dot":
        contracted = _CONTRACTED.search(instruction.attributes)
        sizes = (operands[0][int(i)] for i in contracted.group(1).split(",") if i) if contracted else ()
        return 2 * elements * math.prod(sizes)
    if instruction.opcode == "convolution":
        outputs = operands[1][_DIM_LABELS.search(instruction.attributes).group(1).index("o")]
        return 2 * elements * math.prod(operands[1]) / outputs
    return 0


def bytes_accessed(computation: Computation, instruction: Instruction, *, tiled: bool = True) -> float:
    """Bytes of the operands and results of an instruction; none of a view. `tiled`: see `num_bytes`."""
    if instruction.opcode in VIEWS:
        return 0
    shapes = (instruction.shape, *(computation[name].shape for name in instruction.operands))
    return sum(num_bytes(shape, tiled=tiled) for shape in shapes)


class Module:
    """The computations of one compiled program."""

    def __init__(self, text: str):
        self.computations: dict[str, Computation] = {}
        self.entry = ""
        self._header = text[: text.index("\n")]
        for line in text.splitlines()[1:]:
            computation = _COMPUTATION.match(line)
            if computation:
                current = self.computations[computation.group(2)] = {}
                if computation.group(1):
                    self.entry = computation.group(2)
                continue
            instruction = _INSTRUCTION.match(line)
            if instruction:
                current[instruction.group(1)] = _instruction(*instruction.groups())

    @property
    def num_donated(self) -> int:
        """Arrays of the output that take the memory of an argument."""
        aliases = re.search(r"input_output_alias=\{(.*?\)) \}", self._header)
        return len(re.findall(r"\}: \(", aliases.group(1))) if aliases else 0

    def executions(self, *, loops: bool = True) -> dict[str, int]:
        """How often each computation runs. Every branch counts as taken, a loop with its number of rounds.

        `loops`: False counts every loop as one round, like XLA's own cost analysis.
        """
        times = collections.Counter({self.entry: 1})
        for name in reversed(self.computations):  # HLO defines callees before their callers
            for instruction in self.computations[name].values():
                trips = self.trip_count(instruction) if instruction.opcode == "while" and loops else 1
                for callee in instruction.callees:
                    times[callee] += times[name] * trips
        return times

    def trip_count(self, loop: Instruction) -> int:
        """Rounds of a `while`: XLA's note, else (on TPUs) n of a condition `i < n`, which scans have; 1 for others."""
        if known := _TRIP_COUNT.search(loop.attributes):
            return int(known.group(1))
        condition = self.computations[_CONDITION.search(loop.attributes).group(1)]
        *_, root = condition.values()
        last = condition.get(root.operands[-1]) if root.operands else None
        counted = root.opcode == "compare" and "direction=LT" in root.attributes and last and last.opcode == "constant"
        return int(last.arguments.strip("()")) if counted else 1

    def sequences(self) -> Iterator[str]:
        """The computations whose instructions make buffers: the entry, loops and branches, not fusions."""
        found = [self.entry]
        for name in found:
            yield name
            for instruction in self.computations[name].values():
                if instruction.opcode in SEQUENCES:
                    found += [callee for callee in instruction.callees if callee not in found]

    def repeated_flops(self) -> float:
        """How many times more FLOPs there are than if every loop ran once."""
        return self._repeated(flops, list(self.computations))

    def repeated_bytes(self) -> float:
        """How many times more bytes are read and written than if every loop ran once."""
        return self._repeated(bytes_accessed, list(self.sequences()))

    def _repeated(self, cost: Callable[[Computation, Instruction], float], names: list[str]) -> float:
        costs = {
            name: sum(cost(self.computations[name], i) for i in self.computations[name].values()) for name in names
        }
        totals = []
        for loops in (True, False):
            times = self.executions(loops=loops)
            totals.append(sum(times[name] * cost for name, cost in costs.items()))
        return totals[0] / totals[1] if totals[1] else 1.0

    def collectives(self, *, waited_for: bool = False) -> dict[str, int]:
        """`KIND_count` and `KIND_bytes` of each kind: how often it runs, and the bytes of its arrays.

        An all-gather counts the bytes of its result, every other kind those of its operands.

        `waited_for`: only those with no computation beside them. The others have a start and a done, and run between.
        """
        totals = {f"{kind}_{what}": 0 for kind in COLLECTIVES for what in ("count", "bytes")}
        times = self.executions()
        for name, computation in self.computations.items():
            for instruction in computation.values():
                kind = instruction.opcode.removesuffix("-start").replace("-", "_")
                started = instruction.opcode.endswith("-start")
                if kind not in COLLECTIVES or (started and waited_for):
                    continue
                size = sum(num_bytes(computation[operand].shape) for operand in instruction.operands)
                if kind == "all_gather":  # where it is started, its result holds the operands too
                    size = num_bytes(instruction.shape) - (size if started else 0)
                if kind == "all_reduce" and name.startswith("all-reduce-scatter"):  # as TPUs fuse it
                    kind = "reduce_scatter"
                totals[f"{kind}_count"] += times[name]
                totals[f"{kind}_bytes"] += times[name] * size
        return totals

    def largest_buffers(self, number: int) -> list[tuple[int, str, str]]:
        """(bytes, shape, origin) of the largest results in main memory, arguments left out, largest first.

        The results of a loop's body count once.
        """
        found = []
        for instruction in (i for name in self.sequences() for i in self.computations[name].values()):
            arrays = [a.group(0) for a in _ARRAY.finditer(instruction.shape)]
            if not arrays or instruction.opcode in VIEWS or not in_main_memory(instruction.shape):
                continue
            shape = max(arrays, key=num_bytes)
            found.append((num_bytes(shape), shape, instruction.op_name or instruction.opcode))
        return sorted(found, reverse=True)[:number]
