"""Find semantic directions: python -m cldis_jax.navigate --workdir=runs/quickstart [--num_directions=K --steps=N ...].

Learns, without labels, K directions of a frozen model's latent whose effects a second network can tell apart, in
WORKDIR/navigation/; run again, it goes on where it was. `cldis_jax.edit --directions=` then moves images along them.
With --decoder=ddim or x0 the directions are of z_sem, with --decoder=vae of z_disen.
"""

import jax
import numpy as np
from absl import flags
from etils import epath
from jax.experimental import multihost_utils

from cldis_jax import api, cli, data
from cldis_jax.api import pictures
from cldis_jax.models import pixels
from cldis_jax.navigation import factor_probe
from cldis_jax.navigation import method as navigation_method
from cldis_jax.navigation import results as navigation_results
from cldis_jax.navigation import search as navigation_search
from cldis_jax.runtime import checkpoint, partitioning, report, visualize

DEFAULT = navigation_method.default_config()
WORKDIR = cli.define_model()
OUT = flags.DEFINE_string("out", None, "folder of the directions (default: WORKDIR/navigation)")
NUM_DIRECTIONS = flags.DEFINE_integer("num_directions", None, "K (default: the size of z)")
STEPS = flags.DEFINE_integer("steps", DEFAULT.train.steps, "of A and R; may be raised to go on")
BATCH_SIZE = flags.DEFINE_integer("batch_size", DEFAULT.data.batch_size, "pairs of images a step")
DECODER = flags.DEFINE_enum("decoder", None, navigation_method.DECODERS, "default: ddim; vae for a VAE alone")
DECODE_STEPS = flags.DEFINE_integer("decode_steps", DEFAULT.decode_steps, "ddim: steps that the gradient flows through")
NOISE_LEVEL = flags.DEFINE_integer("noise_level", DEFAULT.noise_level, "x0: the timestep at which x_T is denoised once")
BASIS = flags.DEFINE_enum(
    "basis", DEFAULT.basis, navigation_method.BASES, "orthonormal, of length 1, or the axes, not learnt"
)
START = flags.DEFINE_enum("start", DEFAULT.start, navigation_method.STARTS, "of the directions")
MIN_SHIFT = flags.DEFINE_float("min_shift", DEFAULT.min_shift, "smallest |shift|, in standard deviations of z")
MAX_SHIFT = flags.DEFINE_float("max_shift", DEFAULT.max_shift, "largest |shift|; less where it leaves the data")
LEARNING_RATE = flags.DEFINE_float("learning_rate", DEFAULT.learning_rate, "Adam, of the reconstructor")
DIRECTIONS_RATE = flags.DEFINE_float("directions_learning_rate", DEFAULT.directions_learning_rate, "Adam, of A")
NUM_CODES = flags.DEFINE_integer("num_codes", DEFAULT.num_codes, "training images whose codes are moved")
SEED = flags.DEFINE_integer("seed", 0, "of everything random")
EVAL_BATCHES = flags.DEFINE_integer("eval_batches", 100, "batches of fresh pairs that the accuracy is measured on")
PROBE_STEPS = flags.DEFINE_integer("probe_steps", factor_probe.STEPS, "training of the factor probe; rendered sets")

NUM_SHOWN = 3  # images in the contact sheet and the animation
NUM_NAMED = 32  # images on which the factors are read
MAX_SHOWN_SHIFT = 3.0  # standard deviations; further out most models leave their data
CURVES = {
    "loss": ("loss", "cross_entropy"),
    "accuracy": ("accuracy",),
    "shift error (std)": ("shift_error",),
    "gradient norms": ("gradient_norm/directions", "gradient_norm/reconstructor"),
}


def settings(bundle: api.Bundle):
    """The config that flags and model make."""
    config = navigation_method.default_config()
    config.decoder = DECODER.value or ("ddim" if bundle.has_diffusion else "vae")
    config.num_directions = bundle.config.model.latent_dim if NUM_DIRECTIONS.value is None else NUM_DIRECTIONS.value
    config.model_step = bundle.step
    config.train.steps, config.train.seed, config.data.batch_size = STEPS.value, SEED.value, BATCH_SIZE.value
    for flag in (DECODE_STEPS, NOISE_LEVEL, BASIS, START, MIN_SHIFT, MAX_SHIFT, LEARNING_RATE, NUM_CODES):
        config[flag.name] = flag.value
    config.directions_learning_rate = DIRECTIONS_RATE.value
    navigation_method.validate(config, bundle.config.model.latent_dim)
    navigation_search.check_decoder(config, bundle)
    navigation_search.check_devices(config, jax.device_count())
    return config


def main() -> None:
    cli.require(WORKDIR)
    for flag, least in ((EVAL_BATCHES, 1), (PROBE_STEPS, 1)):
        if flag.value < least:
            raise ValueError(f"--{flag.name}={flag.value} must be at least {least}")
    navigate()
    if jax.process_count() > 1:  # the first draws alone, and the others' patience at the exit is a few minutes
        multihost_utils.sync_global_devices("the directions are written")


def navigate() -> None:
    """Search, measure, draw, write."""
    bundle = cli.load()
    config = settings(bundle)
    folder = epath.Path(OUT.value or epath.Path(WORKDIR.value) / "navigation")

    # Codes
    source = data.make_source(bundle.config.data)
    train_indices, heldout_indices = data.split(len(source), bundle.config.data.holdout)
    held_out = len(heldout_indices) >= NUM_NAMED
    fresh_indices = heldout_indices if held_out else train_indices
    fresh_indices = data.subset(fresh_indices, factor_probe.NUM_TESTED, config.train.seed)
    chosen = data.subset(train_indices, config.num_codes, config.train.seed)
    latent = navigation_search.latent_of(config)
    codes = navigation_search.encode(bundle, latent, source, chosen)
    fresh = navigation_search.encode(bundle, latent, source, fresh_indices)

    # Search
    search = navigation_search.Search(config, bundle, codes)
    found = search.fit(str(folder))

    # Results
    measured = search.measure(found.state.params, fresh, EVAL_BATCHES.value)
    A = np.asarray(navigation_method.direction_matrix(config, partitioning.to_host(found.state.params["directions"])))
    if jax.process_index() != 0:
        return
    ranking = np.argsort(-measured["accuracy"], kind="stable")
    directions = navigation_results.Directions(A, search.scales, ranking, measured["accuracy"], latent, bundle.step)
    directions.save(folder / "directions.npz")
    results = {
        "rca": measured["rca"],
        "chance": 1 / config.num_directions,
        "shift_error": measured["shift_error"],
        "shift_error_chance": (config.min_shift + config.max_shift) / 2,  # of the best constant answer, 0
        "ranking": ranking.tolist(),
        "accuracy": measured["accuracy"].tolist(),
        "fresh_pairs": int(measured["count"].sum()),
        "images": "held-out" if held_out else "training",  # that the fresh pairs and the pictures come from
        "latent": latent,
        "steps": int(found.state.step),
        "compile_seconds": found.compile_seconds,
        "seconds_per_step": found.seconds_per_step,
        "config": checkpoint.config_to_json(config),
    }
    steps = A.T * search.scales
    paint = navigation_results.painter(bundle, latent)
    rng = np.random.default_rng(config.train.seed)
    rows = rng.choice(len(fresh), min(NUM_NAMED, len(fresh)), replace=False)
    images = np.asarray(pixels.to_unit_range(source.fetch(fresh_indices[rows])))
    x_T = pictures.own_noise(bundle, images, bundle.config.diffusion.decode_steps)
    shown, noise = fresh[rows[:NUM_SHOWN]], x_T[:NUM_SHOWN]
    shown_shift = min(config.max_shift, MAX_SHOWN_SHIFT)
    sheet = navigation_results.contact_sheet(paint, shown, noise, steps, ranking, measured["accuracy"], shown_shift)
    visualize.save_png(folder / "directions.png", sheet)
    frames = navigation_results.animation(paint, shown, noise, steps, ranking, shown_shift)
    visualize.save_animation(folder / "best.gif", frames)
    visualize.save_png(folder / "curves.png", visualize.curves(found.history, CURVES))

    table = [
        ("RCA", f"{results['rca']:.3f}   chance {results['chance']:.3f}"),
        ("shift error", f"{results['shift_error']:.3f} std   chance {results['shift_error_chance']:.3f}"),
    ]
    if source.factor_names:
        probe = factor_probe.load_or_train(
            folder / "factor_probe.msgpack", source, train_indices, steps=PROBE_STEPS.value, seed=config.train.seed
        )
        named = navigation_results.name_factors(
            probe, source, fresh_indices[rows], paint, A.T, codes, fresh[rows], x_T, config.train.seed
        )
        results["factor_share"] = named["factor_share"]
        results["factor_changes"] = {name: values.tolist() for name, values in named["changes"].items()}
        tested = factor_probe.tested_accuracy(probe, source, fresh_indices)
        results["probe_accuracy"] = {
            "originals": dict(zip(source.factor_names, tested.tolist())),
            "decoded": dict(zip(source.factor_names, named["decoded_accuracy"].tolist())),
        }
        picture = visualize.heatmap(
            named["changes"]["navigation"][ranking],
            [f"direction {k}" for k in ranking],
            source.factor_names,
            f"change of each factor at {navigation_results.PROBE_SHIFT:g} std",
            "share of the factor's range",
        )
        visualize.save_png(folder / "factors.png", picture)
        table += [(f"factor share: {name}", f"{share:.3f}") for name, share in results["factor_share"].items()]
        table.append(
            ("probe reads originals / decoded", f"{tested.mean():.2f} / {named['decoded_accuracy'].mean():.2f}")
        )

    report.write_json(folder / "navigation.json", results)
    print(report.table([*table, ("results", str(folder))], ("navigation", "value")))


if __name__ == "__main__":
    cli.run(main)
