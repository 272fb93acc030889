"""Describe a config without running it: python -m cldis_jax.describe --config=configs/celeba.py [--json].

Prints parameters by network, FLOPs an image, bytes of the state, batch, steps and epochs; reads no data and needs no
accelerator. With --diff: prints what the config changes against its preset, and why.
"""

import gc
import json

import jax
from absl import flags
from ml_collections import config_flags

from cldis_jax import cli
from cldis_jax.config import CHOICES
from cldis_jax.planning import description
from cldis_jax.runtime.errors import UserError

CONFIG = cli.define_config()
JSON = flags.DEFINE_bool("json", False, "print JSON in place of a table")
DEVICES = flags.DEFINE_integer("devices", 1, "devices that share the global batch", lower_bound=1)
DIFF = flags.DEFINE_bool("diff", False, "print what the config changes against its preset, and why")
AGAINST = flags.DEFINE_enum("against", None, CHOICES["preset"], "with --diff: compare with this preset")


def main() -> None:
    cli.require(CONFIG)
    if AGAINST.value and not DIFF.value:
        raise UserError(f"--against={AGAINST.value} needs --diff")
    if DIFF.value:
        preset = AGAINST.value or CONFIG.value.preset
        rows = description.differences(CONFIG.value, preset, config_flags.get_override_values(flags.FLAGS[CONFIG.name]))
        print(json.dumps(rows) if JSON.value else description.differences_table(rows, preset))
        return
    jax.config.update("jax_platforms", "cpu")
    gc.disable()  # the objects of a traced program live until the end: collecting them takes a fifth of the time
    facts = description.describe(CONFIG.value, DEVICES.value)
    print(json.dumps(facts) if JSON.value else description.table(facts))


if __name__ == "__main__":
    cli.run(main)
