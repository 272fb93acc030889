"""The cost of a step on TPUs, without a TPU: python -m cldis_jax.plan --config=configs/celeba.py --topology=v4:2x2x1.

Compiles the training step for a slice of v4, v5e, v5p or v6e chips (one host or a pod), and reports its memory, FLOPs,
roofline, collectives and donated arrays. With several slices, as in --topology=v4:2x2x1,v4:2x2x4, it reports weak
scaling: the batch grows with the chips, from that of the config on the first slice. Needs libtpu: the extra [tpu].
"""

import json
from typing import Any

import jax
from absl import flags
from etils import epath
from tqdm import tqdm

from cldis_jax import cli
from cldis_jax.planning import ahead_of_time, weak_scaling
from cldis_jax.planning.chips import Topology
from cldis_jax.runtime import files, report, visualize
from cldis_jax.runtime.errors import UserError

CONFIG = cli.define_config()
TOPOLOGY = flags.DEFINE_list(
    "topology", ["v4:2x2x1"], "slice to compile for: generation and chips along each axis; or several, for weak scaling"
)
EFFORT = flags.DEFINE_float(
    "effort",
    0.0,
    "XLA's effort to optimise, -1 to 1; training compiles with 0. Below 0 compilation is faster and the program is a "
    "little slower",
    lower_bound=-1.0,
    upper_bound=1.0,
)
BREAKDOWN = flags.DEFINE_bool("breakdown", False, "also which parts of the step the bytes, FLOPs and memory belong to")
JSON = flags.DEFINE_bool("json", False, "print JSON in place of tables")
OUT = flags.DEFINE_string("out", None, "also write the JSON to this file, and with several slices a figure beside it")


def main() -> None:
    cli.require(CONFIG)
    topologies = [Topology.parse(name) for name in TOPOLOGY.value]
    if not topologies:
        raise UserError("--topology is empty; a slice is v4:2x2x1")
    if OUT.value:
        if epath.Path(OUT.value).suffix == ".png":
            raise UserError(f"--out={OUT.value}: this file is the JSON; name it .json, the figure gets .png")
        files.check_writable(OUT.value)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)  # it is for programs that run here
    if len(topologies) == 1:
        facts = ahead_of_time.plan(CONFIG.value, topologies[0], EFFORT.value, by_part=BREAKDOWN.value)
        write(facts)
        print(json.dumps(facts) if JSON.value else ahead_of_time.tables(facts))
        return

    configs = [weak_scaling.with_batch_of(CONFIG.value, topologies[0], topology) for topology in topologies]
    plans = []
    for config, topology in tqdm(list(zip(configs, topologies)), desc="compiling", unit="slice", disable=None):
        plans.append(ahead_of_time.plan(config, topology, EFFORT.value, by_part=BREAKDOWN.value))
        write({"slices": plans})  # each takes minutes
    if OUT.value:
        visualize.save_png(epath.Path(OUT.value).with_suffix(".png"), weak_scaling.figure(plans))
    print(json.dumps({"slices": plans}) if JSON.value else weak_scaling.table(plans))


def write(facts: dict[str, Any]) -> None:
    """Write --out, if there is one."""
    if OUT.value:
        report.write_json(OUT.value, facts)


if __name__ == "__main__":
    cli.run(main)
