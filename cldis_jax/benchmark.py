"""Time the training of a config here: python -m cldis_jax.benchmark --config=configs/default.py [--steps=N] [--json].

Times the training step on the config's own data. Then times the VAE alone, Diff-AE alone and the closed loop on random
images. Writes no file but that of --out.
"""

import json

import jax
from absl import flags

from cldis_jax import cli
from cldis_jax.planning import timing
from cldis_jax.runtime import files, report

CONFIG = cli.define_config()
STEPS = flags.DEFINE_integer("steps", 20, "dispatches to time, after the first two", lower_bound=2)
DATA = flags.DEFINE_bool("data", True, "read the config's images; --nodata: use random images")
PARTS = flags.DEFINE_bool("parts", True, "also time the VAE alone, Diff-AE alone and the closed loop")
JSON = flags.DEFINE_bool("json", False, "print JSON in place of a table")
OUT = flags.DEFINE_string("out", None, "also write the JSON to this file")


def main() -> None:
    cli.require(CONFIG)
    if OUT.value and jax.process_index() == 0:
        files.check_writable(OUT.value)
    results = timing.benchmark(CONFIG.value, STEPS.value, read_data=DATA.value, time_parts=PARTS.value)
    if jax.process_index() != 0:
        return
    if OUT.value:
        report.write_json(OUT.value, results)
    print(json.dumps(results) if JSON.value else timing.table(results))


if __name__ == "__main__":
    cli.run(main)
