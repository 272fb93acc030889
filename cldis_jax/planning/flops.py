"""FLOPs of a JAX program from its jaxpr, by the rules of XLA's cost analysis; needs no lowering and no device.

A multiply-add counts two, padding counts nothing, transcendental functions count nothing (XLA counts them apart).
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.interpreters import partial_eval

# Primitives that move data, and transcendental functions.
FREE = (
    *("broadcast_in_dim", "concatenate", "copy", "copy_p", "dynamic_slice", "dynamic_update_slice", "gather", "iota"),
    *("pad", "reshape", "rev", "select_n", "slice", "split", "squeeze", "transpose"),
    *("random_fold_in", "random_seed", "random_split", "random_unwrap", "random_wrap"),
    *("cbrt", "cos", "exp", "exp2", "expm1", "log", "log1p", "pow", "rsqrt", "sin", "sqrt", "tan", "tanh"),
)
PER_ELEMENT = {"logistic": 3, "erf_inv": 37}  # FLOPs of one; all other elementwise operations: 1
REDUCTIONS = ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or")


def per_example(function: Callable[..., Any], batch_size: int, *arguments: Any) -> float:
    """FLOPs of `function(*arguments)` for one example of the batch, without work that is done once a batch.

    Args:
      batch_size: an odd prime that divides no other dimension. An operation counts if one of its dimensions is a
        multiple of it.
      arguments: arrays, or shapes.
    """
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    used, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return _count(used, batch_size) / batch_size


def _count(jaxpr: Jaxpr, batch_size: int) -> float:
    return sum(_equation(equation, batch_size) for equation in jaxpr.eqns)


def _equation(equation: JaxprEqn, batch_size: int) -> float:
    name, params = equation.primitive.name, equation.params
    if name in FREE:
        return 0
    if name == "scan":
        return params["length"] * _count(params["jaxpr"].jaxpr, batch_size)
    if name == "cond":
        return max(_count(branch.jaxpr, batch_size) for branch in params["branches"])
    reads, writes = _shapes(equation.invars), _shapes(equation.outvars)
    scales = any(size % batch_size == 0 for shape in reads + writes for size in shape)
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return scales * 2 * math.prod(writes[0]) * math.prod(reads[0][axis] for axis in contracted)
    if name == "conv_general_dilated":
        return scales * _convolution(*reads[:2], writes[0], params)
    if name in REDUCTIONS:
        return scales * (_elements(reads) - _elements(writes))
    if name == "reduce_window_sum":
        return scales * _elements(writes) * (math.prod(params["window_dimensions"]) - 1)
    if name.startswith("scatter"):
        return scales * (math.prod(reads[2]) if name == "scatter-add" else 0)
    if inner := list(_inner(params)):
        return sum(_count(jaxpr, batch_size) for jaxpr in inner)
    if name == "integer_pow":
        power = abs(params["y"])
        return scales * _elements(writes) * (power.bit_length() + power.bit_count() - 2)
    if name == "random_bits":  # threefry on the position of each element
        return scales * _elements(writes) * (27 + 2 * sum(size > 1 for size in writes[0]))
    return scales * _elements(writes) * PER_ELEMENT.get(name, 1)


def _inner(params: dict[str, Any]) -> Iterator[Jaxpr]:
    """The programs that an equation calls once: of jit, checkpoint, custom derivatives."""
    for value in params.values():
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value


def _shapes(variables: list) -> list[tuple[int, ...]]:
    return [tuple(getattr(variable.aval, "shape", ())) for variable in variables]


def _elements(shapes: list[tuple[int, ...]]) -> int:
    return sum(map(math.prod, shapes))


def _convolution(lhs: tuple, rhs: tuple, out: tuple, params: dict[str, Any]) -> float:
    """Two FLOPs for each pair of a kernel's tap and the input element that it multiplies."""
    dimensions = params["dimension_numbers"]
    features = rhs[dimensions.rhs_spec[0]] * rhs[dimensions.rhs_spec[1]]  # out, and in of one group
    pairs = 1
    for i, (left, right, result) in enumerate(
        zip(dimensions.lhs_spec[2:], dimensions.rhs_spec[2:], dimensions.out_spec[2:])
    ):
        dilations = params["lhs_dilation"][i], params["rhs_dilation"][i]
        pairs *= _num_pairs(
            lhs[left], rhs[right], out[result], params["window_strides"][i], params["padding"][i][0], *dilations
        )
    return 2 * pairs * features * lhs[dimensions.lhs_spec[0]] / params["batch_group_count"]


@functools.cache
def _num_pairs(size: int, taps: int, outputs: int, stride: int, pad: int, lhs_dilation: int, rhs_dilation: int) -> int:
    """Number of pairs of a tap and an element along one dimension, without padding and gaps between elements."""
    positions = np.arange(outputs)[:, None] * stride + np.arange(taps) * rhs_dilation - pad
    inside = (positions >= 0) & (positions <= (size - 1) * lhs_dilation) & (positions % lhs_dilation == 0)
    return int(inside.sum())
