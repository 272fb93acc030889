"""Train: python -m cldis_jax.main --config=configs/scenes.py --workdir=runs/scenes [--config.any.field=value]."""

import jax
from absl import flags

from cldis_jax import cli

CONFIG = cli.define_config()
WORKDIR = cli.define_workdir()
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "one of several processes, as the launcher's environment says")
COORDINATOR = flags.DEFINE_string("coordinator", None, "with --distributed, by hand: host:port of process 0")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "with --coordinator")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "with --coordinator")


def main() -> None:
    cli.require(CONFIG)
    cli.require(WORKDIR)
    if DISTRIBUTED.value or COORDINATOR.value:
        jax.distributed.initialize(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    from cldis_jax import train  # after the processes have met

    train.train(CONFIG.value, WORKDIR.value)


if __name__ == "__main__":
    cli.run(main)
