"""Slices by name, errors in one line, and a small training step compiled for TPUs (with the extra [tpu])."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from cldis_jax.configs import scenes
from cldis_jax.planning import ahead_of_time, hlo
from cldis_jax.planning.chips import CHIPS, Topology
from cldis_jax.runtime import partitioning
from cldis_jax.training.program import make_program


@pytest.mark.parametrize(
    ("name", "num_chips", "num_hosts"),
    [
        ("v4:2x2x1", 4, 1),
        ("v4:4x4x8", 128, 32),
        ("v5e:1x1", 1, 1),
        ("v5e:4x8", 32, 8),
        ("v5p:2x2x4", 16, 4),
        ("v6e:2x2", 4, 1),
    ],
)
def test_slices(name, num_chips, num_hosts):
    pytest.importorskip("libtpu")
    topology = Topology.parse(name)
    devices = ahead_of_time.devices_of(topology)
    assert topology.num_chips == len(devices) == num_chips
    assert len({device.process_index for device in devices}) == num_hosts
    assert {device.platform for device in devices} == {"tpu"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v9:2x2x1", "none of v4, v5e, v5p, v6e"),
        ("v4", "chips along 3 axes, e.g. v4:2x2x1"),
        ("v4:2x2", "chips along 3 axes"),
        ("v5e:2x2x1", "chips along 2 axes, e.g. v5e:2x2"),
        ("v5e:0x2", "chips along 2 axes"),
        ("v4:3x3x3", "do not divide among hosts"),
        ("v5e:axb", "chips along 2 axes"),
    ],
)
def test_unknown_slices_in_one_line(name, message):
    with pytest.raises(ValueError, match=message) as caught:
        Topology.parse(name)
    assert "\n" not in str(caught.value)
    assert repr(name) in str(caught.value)


def collectives(**sizes):
    return {
        f"{kind}_{what}": sizes.get(kind, 0) if what == "bytes" else 1
        for kind in hlo.COLLECTIVES
        for what in ("count", "bytes")
    }


@pytest.mark.parametrize(("generation", "published"), [("v5e", 51.2e12), ("v6e", 102.4e12)])
def test_the_links_give_the_published_all_reduce_bandwidth_of_a_pod(generation, published):
    assert Topology.parse(f"{generation}:16x16").ici_bandwidth * 256 == pytest.approx(published)


@pytest.mark.parametrize(("name", "bandwidth"), [("v4:2x2x1", 100e9), ("v4:2x2x4", 200e9), ("v4:4x4x8", 300e9)])
def test_links_that_leave_the_slice_carry_nothing(name, bandwidth):
    """A v4 chip has six links of 50 GB/s."""
    assert Topology.parse(name).ici_bandwidth == pytest.approx(bandwidth)


def test_the_time_of_collectives():
    """By hand: of 200 MB an all-reduce over 4 chips sends 300 MB a chip, a gather or a scatter 150 MB."""
    four = Topology.parse("v4:2x2x1")
    assert four.collective_seconds(collectives(all_reduce=200e6)) == pytest.approx(3e-3)
    assert four.collective_seconds(collectives(all_gather=200e6, reduce_scatter=200e6)) == pytest.approx(3e-3)
    assert four.collective_seconds(collectives(collective_permute=100e6)) == pytest.approx(1e-3)
    assert Topology.parse("v5e:1x1").collective_seconds(collectives(all_reduce=200e6)) == 0


def test_chip_generations_match_the_datasheets():
    assert CHIPS["v5p"].hbm_bytes > CHIPS["v6e"].hbm_bytes > CHIPS["v5e"].hbm_bytes
    for chip in CHIPS.values():  # FLOPs per byte of memory traffic: between one and six hundred
        assert 100 < chip.peak_flops / chip.hbm_bandwidth < 600


def test_missing_libtpu_names_the_extra(monkeypatch):
    monkeypatch.setattr(ahead_of_time.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"cldis_jax\[tpu\]"):
        ahead_of_time.devices_of(Topology.parse("v4:2x2x1"))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("data.batch_size", 6, "not divisible by the 4 devices"), ("sharding.mesh.data", 3, "does not multiply to the 4")],
)
def test_batch_and_mesh_must_fit_the_slice(tiny, field, value, message):
    pytest.importorskip("libtpu")
    with tiny.unlocked():
        tiny.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=message):
        ahead_of_time.plan(tiny, Topology.parse("v4:2x2x1"))


def costs(function, *shapes):
    compiled = jax.jit(function).lower(*shapes).compile()
    return ahead_of_time.costs(compiled, hlo.Module(compiled.as_text()))


def test_costs_do_not_depend_on_the_number_of_micro_batches():
    def loss(params, x):
        h = jax.lax.conv_general_dilated(x, params[0], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jnp.square(jax.nn.silu(h).reshape(-1, 8 * 8 * 16) @ params[1]).mean()

    def whole(params, x):
        return jax.grad(loss)(params, x)

    def in_parts(params, x):
        def add(total, x):
            return jax.tree.map(jnp.add, total, jax.grad(loss)(params, x)), None

        return jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), x.reshape(4, -1, *x.shape[1:]))[0]

    params = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((3, 3, 4, 16), (8 * 8 * 16, 4))]
    images = jax.ShapeDtypeStruct((64, 8, 8, 4), jnp.float32)
    (flops, accessed), (flops_in_parts, accessed_in_parts) = (costs(f, params, images) for f in (whole, in_parts))
    assert flops_in_parts == pytest.approx(flops, rel=0.05)
    assert accessed_in_parts == pytest.approx(accessed, rel=0.3)  # each part reads the parameters once


@pytest.mark.slow
@pytest.mark.parametrize("slice_of", ["", "v5e:1x1"])
def test_costs_of_the_training_step_do_not_depend_on_accumulation(slice_of):
    flops = {}
    if slice_of:
        pytest.importorskip("libtpu")
    devices = ahead_of_time.devices_of(Topology.parse(slice_of)) if slice_of else jax.devices()[:1]
    for accumulate in (1, 2):
        config = smallest()
        config.train.accumulate = accumulate
        program = make_program(config, partitioning.make_mesh(config, devices))
        compiled = program.update.lower(program.abstract_state, program.abstract_batch).compile()
        flops[accumulate], _ = ahead_of_time.costs(compiled, hlo.Module(compiled.as_text()))
    assert flops[2] == pytest.approx(flops[1], rel=0.05)


def command(*arguments):
    words = [sys.executable, "-m", "cldis_jax.plan", "--config=configs/scenes.py:tiny", *arguments]
    return subprocess.run(words, capture_output=True, text=True)


def test_an_output_that_can_not_be_written_is_an_error_before_compiling(tmp_path):
    done = command(f"--out={tmp_path}")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == f"error: {tmp_path} can't be written: it is a folder"
    done = command(f"--out={tmp_path}/plan.png")
    assert done.returncode == 1
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .endswith("plan.png: this file is the JSON; name it .json, the figure gets .png")
    )


def test_a_bad_topology_is_an_error_in_one_line():
    done = command("--topology=v9:2x2x1", "--json")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip().splitlines()[-1].startswith("error: topology 'v9:2x2x1'")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_commands_output_is_json_alone(tmp_path):
    pytest.importorskip("libtpu")
    small = ("--config.model.channel_multipliers=(1,)", "--config.model.encoder_multipliers=(1,)")
    done = command("--topology=v5e:1x1", "--json", f"--out={tmp_path / 'plan.json'}", *small)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((tmp_path / "plan.json").read_text())


def smallest():
    config = scenes.get_config("tiny")
    config.model.channel_multipliers = config.model.encoder_multipliers = (1,)
    return config


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:4x4"])
def test_data_parallel_step_reduces_its_gradient_once(name, capsys):
    pytest.importorskip("libtpu")
    config = smallest()
    config.data.batch_size = 2 * Topology.parse(name).num_chips
    facts = ahead_of_time.plan(config, Topology.parse(name))
    used, collectives = facts["bytes_per_chip"], facts["collectives"]
    assert used["total"] < facts["hbm_bytes_per_chip"]
    assert facts["donated_arrays"] == facts["state_arrays"]
    assert used["donated"] > 0.9 * used["output"]
    # The latents' statistics and the losses are reduced too; in a network this small their bytes matter.
    assert facts["gradient_bytes"] <= collectives["all_reduce_bytes"] < 1.3 * facts["gradient_bytes"]
    assert collectives["all_gather_bytes"] == collectives["reduce_scatter_bytes"] == 0
    assert facts["step_seconds"] == facts["roofline_seconds"] + facts["waiting_seconds"] > facts["waiting_seconds"] > 0
    assert "slice" in ahead_of_time.tables(facts)
    json.dumps(facts, allow_nan=False)


@pytest.mark.slow
def test_fsdp_gathers_parameters_and_scatters_gradients():
    pytest.importorskip("libtpu")
    config = smallest()
    config.sharding.mesh.data, config.sharding.mesh.fsdp = 1, 4
    config.sharding.fsdp_min_bytes = 256
    facts = ahead_of_time.plan(config, Topology.parse("v4:2x2x1"))
    mesh = partitioning.make_mesh(config, ahead_of_time.devices_of(Topology.parse("v4:2x2x1")))
    params = jax.tree.leaves(make_program(config, mesh).abstract_state.params)
    split = sum(array.size for array in params if not array.sharding.is_fully_replicated)
    assert 2 * split <= facts["collectives"]["all_gather_bytes"] < 3 * split  # in bfloat16
    replicated = smallest()
    assert (
        facts["bytes_per_chip"]["arguments"]
        < ahead_of_time.plan(replicated, Topology.parse("v4:2x2x1"))["bytes_per_chip"]["arguments"]
    )
