"""Costs by part: the parts of known operations, totals that do not change, and the memory at its peak."""

import jax
import jax.numpy as jnp
import pytest

from cldis_jax.models.layers import ResBlock, SelfAttention
from cldis_jax.planning import breakdown, hlo

TEXT = """\
HloModule jit_step, is_scheduled=true

ENTRY %main (w: f32[8]) -> f32[8] {
  %w = f32[8]{0} parameter(0)
  %a = f32[16]{0} pad(%w), metadata={op_name="jit(step)/jvp(UNet)/down_0_block_0/norm_in/layer/mul"}
  %b = f32[4]{0} slice(%a), metadata={op_name="jit(step)/transpose(jvp(UNet))/middle_attention/norm/layer/mul"}
  %near = f32[999]{0:T(128)S(1)} broadcast(%b)
  %c = f32[32]{0} concatenate(%b, %near), metadata={op_name="jit(step)/jvp(UNet)/concatenate"}
  %view = f32[8,4]{1,0} bitcast(%c)
  %sum = f32[8]{0} all-reduce(%w), to_apply=%add, metadata={op_name="jit(step)/jvp(UNet)/stem/layer/mul"}
  ROOT %r = f32[8]{0} add(%view, %sum), metadata={op_name="jit(step)/optimiser/add"}
}
"""


def test_an_instruction_belongs_to_the_part_that_its_path_names():
    parts = {name: breakdown.part_of(i) for name, i in hlo.Module(TEXT).computations["main"].items()}
    assert parts["a"] == "norms and activations"
    assert parts["b"] == "attention"
    assert parts["near"] == breakdown.COPIES
    assert parts["c"] == "skips and resizing"
    assert parts["sum"] == breakdown.COLLECTIVES
    assert parts["r"] == "optimiser and EMA"


def test_the_memory_at_its_peak():
    """At `sum`: a and b are dead, a view of c is used later, `near` is in fast memory, r is the output."""
    assert breakdown.alive_at_peak(hlo.Module(TEXT)) == {"c": 128, "sum": 32}


def test_the_parts_of_a_network_add_up_to_the_totals():
    block, attention = ResBlock(8), SelfAttention()
    x, t_emb, z = jnp.ones((2, 8, 8, 8)), jnp.ones((2, 4)), jnp.ones((2, 3))
    params = jax.eval_shape(
        lambda: (block.init(jax.random.key(0), x, t_emb, z, False), attention.init(jax.random.key(0), x))
    )

    def step(params, x):
        def loss(params):
            with jax.named_scope("down_0_block_0"):
                h = block.apply(params[0], x, t_emb, z, False)
            with jax.named_scope("down_0_block_0_attention"):
                return jnp.square(attention.apply(params[1], h)).mean()

        gradient = jax.grad(loss)(params)
        with jax.named_scope("ema"):
            return jax.tree.map(lambda p, g: 0.9 * p + g, params, gradient)

    module = hlo.Module(jax.jit(step).lower(params, x).compile().as_text())
    totals = {"flops": 2e9, "bytes_accessed": 3e9, "temporaries": 5e6}
    parts = breakdown.breakdown(module, **totals)
    for what, total in totals.items():
        assert sum(costs[what] for costs in parts.values()) == pytest.approx(total, rel=1e-9)
    assert parts["convolutions"]["flops"] > parts["norms and activations"]["flops"] > 0
    for part in ("convolutions", "norms and activations", "attention", "conditioning", "optimiser and EMA"):
        assert parts[part]["bytes_accessed"] > 0, part
    for part in ("probe of z", "VAE", breakdown.COLLECTIVES):
        assert set(parts[part].values()) == {0}, part
    facts = {
        "breakdown": parts,
        "flops_per_chip": totals["flops"],
        "bytes_accessed_per_chip": totals["bytes_accessed"],
        "bytes_per_chip": {"temporaries": totals["temporaries"]},
    }
    last = breakdown.table(facts).splitlines()[-1].split()
    assert last == ["all", "3.00", "0.00", "2.00", "4.77"]


def test_the_padding_of_tiles():
    """Arrays of 64 columns fill half of their tiles."""
    text = """\
HloModule jit_step, is_scheduled=true

ENTRY %main (w: f32[8,128]) -> f32[8,128] {
  %w = f32[8,128]{1,0:T(8,128)} parameter(0)
  %n = f32[16,64]{1,0:T(8,128)} reshape(%w), metadata={op_name="jit(step)/down_0_block_0/norm_in/layer/mul"}
  %c = f32[16,64]{1,0:T(8,128)} negate(%n), metadata={op_name="jit(step)/down_0_block_0/norm_in/layer/mul"}
  ROOT %r = f32[8,128]{1,0:T(8,128)} reshape(%c), metadata={op_name="jit(step)/down_0_block_0/conv_in/layer/mul"}
}
"""
    accessed = 4 * ((1024 + 2048) + (2048 + 2048) + (2048 + 1024))
    parts = breakdown.breakdown(hlo.Module(text), flops=0, bytes_accessed=accessed, temporaries=0)
    assert parts["norms and activations"]["bytes_accessed"] == 4 * (1024 + 3 * 2048)
    assert parts["norms and activations"]["padding"] == 4 * 3 * 1024
    assert parts["convolutions"]["padding"] == 4 * 1024


def test_the_probe_counts_by_the_share_of_its_steps():
    def step(x, number):
        with jax.named_scope("probe"):
            probed = jax.lax.cond(number % 10 == 0, lambda: (x @ x).sum(), lambda: 0.0)
        with jax.named_scope("ema"):
            return (x @ x @ x).sum() + probed

    text = jax.jit(step).lower(jnp.ones((64, 64)), 0).compile().as_text()
    totals = {"flops": 3e9, "bytes_accessed": 3e9, "temporaries": 5e6}
    whole = breakdown.breakdown(hlo.Module(text), **totals)
    mean = breakdown.breakdown(hlo.Module(text), **totals, probe_every=10)
    probe, rest = whole[breakdown.PROBE], whole["optimiser and EMA"]
    assert probe["flops"] == pytest.approx(1e9, rel=0.05)  # one of three products
    for what in ("flops", "bytes_accessed"):
        assert mean[breakdown.PROBE][what] == pytest.approx(probe[what] / 10)
        assert mean["optimiser and EMA"][what] == rest[what]
    assert mean[breakdown.PROBE]["temporaries"] == probe["temporaries"]
