"""Find semantic directions: python -m cldis_jax.navigate --workdir=runs/quickstart [--num_directions=K --steps=N ...].

Learns K directions of a frozen model's latent without labels, so that a second network recognises the effect of each.
--decoder=ddim and x0 search z_sem, --decoder=vae searches z_disen. Writes to WORKDIR/navigation/. A second run
continues where the first stopped. `cldis_jax.edit --directions=` moves images along the directions.
"""

import jax
from absl import flags
from etils import epath

from cldis_jax import cli
from cldis_jax.navigation import factor_probe, method, results
from cldis_jax.navigation.run import config_for, navigate
from cldis_jax.runtime import report

DEFAULT = method.default_config()
WORKDIR = cli.define_model()
OUT = flags.DEFINE_string("out", None, "folder of the directions (default: WORKDIR/navigation)")
NUM_DIRECTIONS = flags.DEFINE_integer("num_directions", None, "K (default: the size of z)")
STEPS = flags.DEFINE_integer("steps", DEFAULT.train.steps, "training steps; a larger number continues a search")
BATCH_SIZE = flags.DEFINE_integer("batch_size", DEFAULT.data.batch_size, "pairs of images a step")
DECODER = flags.DEFINE_enum("decoder", None, method.DECODERS, "default: ddim, or vae for a VAE alone")
DECODE_STEPS = flags.DEFINE_integer("decode_steps", DEFAULT.decode_steps, "ddim: steps that the gradient flows through")
NOISE_LEVEL = flags.DEFINE_integer("noise_level", DEFAULT.noise_level, "x0: the timestep at which x_T is denoised once")
BASIS = flags.DEFINE_enum("basis", DEFAULT.basis, method.BASES, "orthonormal; of length 1; the axes, not learnt")
START = flags.DEFINE_enum("start", DEFAULT.start, method.STARTS, "initial directions")
MIN_SHIFT = flags.DEFINE_float("min_shift", DEFAULT.min_shift, "smallest |shift|, in standard deviations of z")
MAX_SHIFT = flags.DEFINE_float("max_shift", DEFAULT.max_shift, "largest |shift|; choose less if images leave the data")
LEARNING_RATE = flags.DEFINE_float("learning_rate", DEFAULT.learning_rate, "of the reconstructor (Adam)")
DIRECTIONS_RATE = flags.DEFINE_float("directions_learning_rate", DEFAULT.directions_learning_rate, "of A (Adam)")
NUM_CODES = flags.DEFINE_integer("num_codes", DEFAULT.num_codes, "training images whose codes are moved")
SEED = flags.DEFINE_integer("seed", 0, "random seed", lower_bound=0)
EVAL_BATCHES = flags.DEFINE_integer("eval_batches", 100, "batches of fresh pairs for the accuracy", lower_bound=1)
PROBE_STEPS = flags.DEFINE_integer(
    "probe_steps", factor_probe.STEPS, "training steps of the factor probe (labelled sets)", lower_bound=1
)


def main() -> None:
    cli.require(WORKDIR)
    bundle = cli.load()
    numbers = (DECODE_STEPS, NOISE_LEVEL, MIN_SHIFT, MAX_SHIFT, LEARNING_RATE, DIRECTIONS_RATE, NUM_CODES)
    fields = {flag.name: flag.value for flag in (*numbers, BASIS, START, DECODER, NUM_DIRECTIONS)}
    config = config_for(bundle, **{name: value for name, value in fields.items() if value is not None})
    config.train.steps, config.train.seed, config.data.batch_size = STEPS.value, SEED.value, BATCH_SIZE.value
    folder = epath.Path(OUT.value or epath.Path(WORKDIR.value) / "navigation")
    found = navigate(bundle, folder, config, eval_batches=EVAL_BATCHES.value, probe_steps=PROBE_STEPS.value)
    if jax.process_index() != 0:
        return
    table = [
        ("RCA", f"{found['rca']:.3f}   chance {found['chance']:.3f}"),
        ("shift error", f"{found['shift_error']:.3f} std   chance {found['shift_error_chance']:.3f}"),
    ]
    table += [(f"factor share: {name}", f"{share:.3f}") for name, share in found.get("factor_share", {}).items()]
    table += results.probe_rows(found)
    print(report.table([*table, ("results", str(folder))], ("navigation", "value")))


if __name__ == "__main__":
    cli.run(main)
