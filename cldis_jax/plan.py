"""The cost of a step on TPUs, without a TPU: python -m cldis_jax.plan --config=configs/celeba.py --topology=v4:2x2x1.

Compiles the training step for a slice of v4, v5e, v5p or v6e chips (one host or a pod), and reports its memory, FLOPs,
roofline, collectives and donated arrays. Needs libtpu: the extra [tpu].
"""

import json

import jax
from absl import flags

from cldis_jax import cli
from cldis_jax.planning import ahead_of_time
from cldis_jax.planning.chips import Topology
from cldis_jax.runtime import report

CONFIG = cli.define_config()
TOPOLOGY = flags.DEFINE_string("topology", "v4:2x2x1", "slice to compile for: generation and chips along each axis")
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
OUT = flags.DEFINE_string("out", None, "also write the JSON to this file")


def main() -> None:
    cli.require(CONFIG)
    topology = Topology.parse(TOPOLOGY.value)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)  # it is for programs that run here
    facts = ahead_of_time.plan(CONFIG.value, topology, EFFORT.value, by_part=BREAKDOWN.value)
    if OUT.value:
        report.write_json(OUT.value, facts)
    print(json.dumps(facts) if JSON.value else ahead_of_time.tables(facts))


if __name__ == "__main__":
    cli.run(main)
