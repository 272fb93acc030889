"""Collectives, donated arguments and buffers are parsed from the text of a program."""

import jax
import jax.numpy as jnp
import pytest

from cldis_jax.planning import hlo

# A loop of three iterations with an all-reduce; an asynchronous all-gather, a fused reduce-scatter, two donated arrays.
TEXT = """\
HloModule jit_step, is_scheduled=true, input_output_alias={ {0}: (0, {}, may-alias), {1}: (2, {}, may-alias) }, rest={}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[]{:T(128)} parameter(0)
  %b = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%a, %b)
}

%all-reduce-scatter (p: bf16[8,64]) -> bf16[2,64] {
  %p = bf16[8,64]{1,0:T(8,128)(2,1)} parameter(0)
  %all-reduce.7 = bf16[8,64]{1,0:T(8,128)(2,1)} all-reduce(%p), channel_id=3, to_apply=%add
  ROOT %slice = bf16[2,64]{1,0:T(8,128)(2,1)} slice(%all-reduce.7), slice={[0:2], [0:64]}
}

%body (t: (s32[], f32[16])) -> (s32[], f32[16]) {
  %t = (s32[]{:T(128)}, f32[16]{0:T(128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%t), index=0
  %x = f32[16]{0:T(128)} get-tuple-element(%t), index=1
  %y = f32[4,4]{1,0:T(8,128)S(1)} bitcast(%x)
  %both = (f32[16]{0:T(128)}, /*index=1*/f32[4,4]{1,0:T(8,128)S(1)}) all-reduce(%x, %y), channel_id=1, to_apply=%add
  %x2 = f32[16]{0:T(128)} get-tuple-element(%both), index=0
  ROOT %out = (s32[]{:T(128)}, f32[16]{0:T(128)}) tuple(%i, %x2)
}

%condition (c: (s32[], f32[16])) -> pred[] {
  %c = (s32[]{:T(128)}, f32[16]{0:T(128)}) parameter(0)
  ROOT %true = pred[]{:T(512)} constant(true)
}

ENTRY %main (w: f32[4,8], s: (s32[], f32[16]), g: bf16[8,64]) -> (f32[32,8], bf16[2,64]) {
  %w = f32[4,8]{1,0:T(8,128)} parameter(0)
  %s = (s32[]{:T(128)}, f32[16]{0:T(128)}) parameter(1)
  %g = bf16[8,64]{1,0:T(8,128)(2,1)} parameter(2)
  %loop = (s32[]{:T(128)}, f32[16]{0:T(128)}) while(%s), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"3"}}
  %start = (f32[4,8]{1,0:T(8,128)}, f32[32,8]{1,0:T(8,128)}) all-gather-start(%w), channel_id=2, dimensions={0}
  %done = f32[32,8]{1,0:T(8,128)} all-gather-done(%start), metadata={op_name="jit(step)/gather"}
  %near = f32[4096]{0:T(1024)S(1)} broadcast(%done), dimensions={}
  %scattered = bf16[2,64]{1,0:T(8,128)(2,1)} fusion(%g), kind=kCustom, calls=%all-reduce-scatter
  ROOT %result = (f32[32,8]{1,0:T(8,128)}, bf16[2,64]{1,0:T(8,128)(2,1)}) tuple(%done, %scattered)
}
"""


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("bf16[8,64]{1,0:T(8,128)(2,1)S(3)}", 8 * 64 * 2),
        ("(f32[], /*index=1*/pred[3,5])", 4 + 15),
        ("u8[2,3]", 6),
        ("f8e4m3fn[7]", 7),
        ("s4[8]", 4),
        ("c64[2]", 16),
        ("token[]", 0),
    ],
)
def test_bytes_of_shapes(shape, size):
    assert hlo.num_bytes(shape) == size


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("bf16[32,4,4,64]{3,0,2,1:T(8,128)(2,1)}", 32 * 4 * 4 * 128 * 2),  # 64 of 128 columns
        ("bf16[4,16,16,128]{3,0,2,1:T(8,128)(2,1)}", 8 * 16 * 16 * 128 * 2),  # 4 of 8 rows
        ("f32[4,16,16,128]{3,2,1,0:T(8,128)}", 4 * 16 * 16 * 128 * 4),
        ("(f32[3]{0:T(128)}, f32[2,3]{1,0})", (128 + 6) * 4),  # without a tile nothing is padded
        ("f32[]{:T(128)}", 4),
    ],
)
def test_bytes_of_whole_tiles(shape, size):
    assert hlo.num_bytes(shape, tiled=True) == size


def test_collectives_by_kind():
    totals = hlo.Module(TEXT).collectives()
    assert (totals["all_reduce_count"], totals["all_reduce_bytes"]) == (3, 3 * (64 + 64))
    assert (totals["all_gather_count"], totals["all_gather_bytes"]) == (1, 32 * 8 * 4)
    assert (totals["reduce_scatter_count"], totals["reduce_scatter_bytes"]) == (1, 8 * 64 * 2)
    assert totals["all_to_all_count"] == totals["collective_permute_bytes"] == 0


def test_an_asynchronous_collective_is_not_waited_for():
    totals = hlo.Module(TEXT).collectives(waited_for=True)
    assert totals["all_gather_count"] == totals["all_gather_bytes"] == 0  # it has a start and a done
    assert (totals["all_reduce_count"], totals["reduce_scatter_count"]) == (3, 1)


@pytest.mark.parametrize(
    ("root", "trips"),
    [
        ("%true = pred[]{:T(512)} compare(%i, %n), direction=LT, metadata={}", 7),
        ("%true = pred[]{:T(512)} compare(%i, %n), direction=GT, metadata={}", 1),
        ("%true = pred[]{:T(512)} constant(true)", 1),
    ],
)
def test_iterations_of_a_loop_from_its_condition(root, trips):
    """In the form of the TPU compiler."""
    text = TEXT.replace('backend_config={"known_trip_count":{"n":"3"}}', "")
    bound = "%i = s32[]{:T(128)} get-tuple-element(%c), index=0\n  %n = s32[]{:T(128)} constant(7)"
    text = text.replace("ROOT %true = pred[]{:T(512)} constant(true)", f"{bound}\n  ROOT {root}")
    module = hlo.Module(text)
    assert module.trip_count(module.computations["main"]["loop"]) == trips
    assert module.executions()["body"] == trips


def test_donated_arrays():
    assert hlo.Module(TEXT).num_donated == 2


def test_largest_buffers_leave_out_arguments_and_near_memory():
    assert hlo.Module(TEXT).largest_buffers(1) == [(1024, "f32[32,8]", "jit(step)/gather")]


def test_a_program_of_this_version_of_jax():
    def step(x, y):
        return jax.lax.fori_loop(0, 5, lambda _, x: x @ y, x), y + 1

    shape = jax.ShapeDtypeStruct((32, 32), jnp.float32)
    module = hlo.Module(jax.jit(step, donate_argnums=(0, 1)).lower(shape, shape).compile().as_text())
    assert module.num_donated == 2
    assert max(module.executions().values()) == 5
    assert max(module.executions(loops=False).values()) == 1
    assert module.repeated_flops() == pytest.approx(5, rel=0.05)
    assert module.largest_buffers(1)[0][0] == 32 * 32 * 4


def test_buffers_of_a_loop_body_are_listed():
    def step(x):
        return jax.lax.fori_loop(0, 3, lambda _, x: jnp.tanh(x @ x.T) @ x, x)

    module = hlo.Module(jax.jit(step).lower(jax.ShapeDtypeStruct((64, 4), jnp.float32)).compile().as_text())
    assert module.largest_buffers(1)[0][:2] == (64 * 64 * 4, "f32[64,64]")


def test_no_loop_is_no_repetition():
    shape = jax.ShapeDtypeStruct((8, 8), jnp.float32)
    module = hlo.Module(jax.jit(lambda x: x @ x + 1).lower(shape).compile().as_text())
    assert module.repeated_flops() == module.repeated_bytes() == 1
