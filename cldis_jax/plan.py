"""What a step costs on TPUs, without one: python -m cldis_jax.plan --config=configs/celeba.py --topology=v4:2x2x1.

Compiles the very step that training runs, ahead of time, for a slice of v4, v5e, v5p or v6e chips (one host or a pod),
and reports memory, FLOPs, the roofline that they imply, collectives and donation. Needs libtpu: the extra [tpu].
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
    "of XLA's optimisation, -1 to 1: below 0 it compiles sooner a program that is a little slower than the one that "
    "training runs (0)",
    lower_bound=-1.0,
    upper_bound=1.0,
)
JSON = flags.DEFINE_bool("json", False, "print JSON in place of tables")
OUT = flags.DEFINE_string("out", None, "also write the JSON to this file")


def main() -> None:
    cli.require(CONFIG)
    topology = Topology.parse(TOPOLOGY.value)
    jax.config.update("jax_platforms", "cpu")
    facts = ahead_of_time.plan(CONFIG.value, topology, EFFORT.value)
    if OUT.value:
        report.write_json(OUT.value, facts)
    print(json.dumps(facts) if JSON.value else ahead_of_time.tables(facts))


if __name__ == "__main__":
    cli.run(main)
