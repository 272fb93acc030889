"""Score a trained model: python -m cldis_jax.evaluate --workdir=DIR --metrics=factor_vae,dci,mig,z_usage.

Measures how well a latent disentangles the data's factors or attributes. Such a score has floors: a random linear mix
of the labels, an untrained encoder, and for attributes linear codes of the pixels. Metrics without labels: udr, fid,
reconstruction, z_usage, content_tracking. Writes WORKDIR/evaluate.json, .csv and .md after every metric. Training may
continue meanwhile. A metric that fails does not stop the others; the exit status is then 1.
"""

import jax
from absl import flags
from etils import epath

from cldis_jax import api, cli
from cldis_jax.evaluation import registry, run, tables
from cldis_jax.metrics.dci import LEARNERS
from cldis_jax.metrics.tad import PROTOCOLS
from cldis_jax.metrics.trackers import TRACKERS
from cldis_jax.runtime import checkpoint
from cldis_jax.runtime.errors import UserError

DEFAULT = registry.Settings()
WORKDIR = cli.define_model()
METRICS = flags.DEFINE_list("metrics", ["factor_vae", "mig", "reconstruction"], ", ".join(registry.METRICS))
LATENT = flags.DEFINE_enum("latent", None, api.LATENTS, "latent to score (default: z_sem, or z_disen for a VAE alone)")
STEP = flags.DEFINE_list(
    "step",
    ["last"],
    "checkpoints: last, a step, or best (the kept checkpoint with the highest first metric). Results of "
    "the first go to evaluate.*, of the others to evaluate_NAME.*, with pictures in evaluate_NAME/",
)
OUT = flags.DEFINE_string("out", None, "folder of the results (default: WORKDIR)")
SEEDS = flags.DEFINE_integer(
    "seeds", DEFAULT.seeds, "seeds of the scores with labels and of z_usage: mean ± std", lower_bound=1
)
FLOOR_SEEDS = flags.DEFINE_integer("floor_seeds", DEFAULT.floor_seeds, "seeds of floors; 0: no floors", lower_bound=0)
POOL = flags.DEFINE_enum(
    "pool",
    DEFAULT.pool,
    registry.POOLS,
    "images that samples come from: all, those held out from training, or those of the held-out combinations of two "
    "factors (data.holdout_pairs); factor_vae and beta_vae choose factors, so "
    "they always take all",
)
NUM_IMAGES = flags.DEFINE_integer(
    "num_images",
    DEFAULT.num_images,
    "number of images, drawn from --pool by a seed, that samples come from; 0: every image",
    lower_bound=0,
)
NUM_TRAIN = flags.DEFINE_integer("num_train", DEFAULT.num_train, "training samples or votes", lower_bound=2)
NUM_TEST = flags.DEFINE_integer("num_test", DEFAULT.num_test, "test samples or votes", lower_bound=1)
NUM_VOTES = flags.DEFINE_integer(
    "num_votes",
    DEFAULT.num_votes,
    "training votes of factor_vae and beta_vae, with half as many for the test; 0: --num_train, --num_test",
    lower_bound=0,
)
NUM_DECODED = flags.DEFINE_integer(
    "num_decoded",
    DEFAULT.num_decoded,
    "images of reconstruction, consistency and z_usage, and errors of composition",
    lower_bound=1,
)
NUM_GENERATED = flags.DEFINE_integer("num_generated", DEFAULT.num_generated, "images of fid", lower_bound=2)
NUM_TRACKED = flags.DEFINE_integer("num_tracked", DEFAULT.num_tracked, "images of content_tracking", lower_bound=1)
DECODE_STEPS = flags.DEFINE_list("decode_steps", list(map(str, DEFAULT.decode_steps)), "DDIM steps of reconstruction")
PROTOCOL = flags.DEFINE_list("protocol", list(DEFAULT.protocol), f"protocols of tad: {', '.join(PROTOCOLS)}")
DIRECTIONS = flags.DEFINE_enum("directions", DEFAULT.directions, ["axes", "navigation"], "for content_tracking")
TRACKER = flags.DEFINE_enum("tracker", DEFAULT.tracker, TRACKERS, "for content_tracking")
TAPIR = flags.DEFINE_string("tapir_checkpoint", "", "content_tracking: weights of TAPIR or BootsTAPIR")
DCI_LEARNER = flags.DEFINE_enum(
    "dci_learner", DEFAULT.dci_learner, LEARNERS, "dci: our boosting, or scikit-learn's, which is seven times slower"
)
WORKDIRS = flags.DEFINE_list("workdirs", [], "udr: other runs to compare with --workdir")
INCEPTION = flags.DEFINE_string("inception_weights", "", "fid: file of the Inception network")
LPIPS = flags.DEFINE_list("lpips_weights", [], "reconstruction: files of AlexNet and of LPIPS")


def settings_of(bundle: api.Bundle) -> registry.Settings:
    """The settings that the flags give; raises UserError for a number of DDIM steps out of range."""
    limit = bundle.config.diffusion.num_steps
    for text in DECODE_STEPS.value:
        if not text.isdigit() or not 1 <= int(text) <= limit:
            raise UserError(f"--decode_steps: {text!r} is not a number of steps in 1..{limit}")
    numbers = (SEEDS, FLOOR_SEEDS, NUM_IMAGES, NUM_TRAIN, NUM_TEST, NUM_VOTES, NUM_DECODED, NUM_GENERATED, NUM_TRACKED)
    return registry.Settings(
        workdir=WORKDIR.value,
        data_path=flags.FLAGS.data_path,
        data_dir=flags.FLAGS.data_dir,
        out=OUT.value or "",
        tapir_checkpoint=TAPIR.value,
        workdirs=tuple(WORKDIRS.value),
        latent=LATENT.value or bundle.main_latent,
        decode_steps=tuple(int(text) for text in DECODE_STEPS.value),
        inception_weights=INCEPTION.value,
        lpips_weights=tuple(LPIPS.value),
        protocol=tuple(PROTOCOL.value),
        **{flag.name: flag.value for flag in (*numbers, POOL, DIRECTIONS, TRACKER, DCI_LEARNER)},
    )


def check_flags() -> None:
    """Raise UserError, before a model is loaded, for unknown metrics and for checkpoints that are not kept."""
    cli.require(WORKDIR)
    registry.check_names(METRICS.value)
    for name in PROTOCOL.value or [""]:
        if name not in PROTOCOLS:
            raise UserError(f"--protocol: {name!r} is unknown; choose from {', '.join(PROTOCOLS)}")
    kept = checkpoint.kept_steps(WORKDIR.value)
    for name in STEP.value or [""]:
        if name == "best":
            run.check_rank(METRICS.value[0])
        elif name != "last" and not (name.isdigit() and int(name) in kept):
            raise UserError(f"--step: {name!r} is not last, best or one of the checkpoints kept: {kept}")


def main() -> None:
    check_flags()
    first = STEP.value[0]
    loaded = cli.load(int(first) if first.isdigit() else None)
    settings = settings_of(loaded)
    failed, measured = [], {}
    for i, name in enumerate(dict.fromkeys(STEP.value)):
        if name == "best":
            bundle = run.best(loaded, METRICS.value[0], settings)
        else:
            bundle = loaded if i == 0 else loaded.at(None if name == "last" else int(name))
        stem, where = "evaluate" if i == 0 else f"evaluate_{name}", epath.Path(OUT.value or WORKDIR.value)
        if bundle.step in measured:
            if jax.process_index() == 0:
                run.copy(where / measured[bundle.step], where / stem)
                print(
                    f"\nstep {bundle.step} was measured as {measured[bundle.step]}; {stem} is a copy without pictures"
                )
            continue
        measured[bundle.step] = stem
        results = run.evaluate(bundle, METRICS.value, settings, stem)
        if jax.process_index() == 0:
            print(
                f"\n{settings.latent} of step {bundle.step}\n{run.text(results)}\n"
                f"results: {where / stem}.json, .csv, .md"
            )
        failed += [f"{metric} of step {bundle.step}: {error}" for metric, error in tables.errors(results).items()]
    if failed:
        raise UserError(f"{len(failed)} of the metrics failed: {'; '.join(failed)}")


if __name__ == "__main__":
    cli.run(main)
