"""Score a trained model: python -m cldis_jax.evaluate --workdir=DIR --metrics=factor_vae,dci,mig,z_usage.

Disentanglement of a latent against the data's factors, each score beside its floors (a random linear mix of the
factors, an untrained encoder), and what needs no labels: udr, fid, reconstruction, z_usage, content_tracking. Writes
WORKDIR/evaluate.json, .csv and .md after every metric; may run while training goes on.
"""

import dataclasses
from typing import Any

from absl import flags
from etils import epath

from cldis_jax import api, cli
from cldis_jax.evaluation import registry, tables
from cldis_jax.metrics.dci import LEARNERS
from cldis_jax.metrics.tad import PROTOCOLS
from cldis_jax.metrics.trackers import TRACKERS
from cldis_jax.runtime import checkpoint, report

DEFAULT = registry.Settings(workdir="")
WORKDIR = cli.define_model()
METRICS = flags.DEFINE_list("metrics", ["factor_vae", "mig", "reconstruction"], ", ".join(registry.METRICS))
LATENT = flags.DEFINE_enum("latent", None, api.LATENTS, "what is scored (default: z_sem; z_disen of a VAE alone)")
STEP = flags.DEFINE_list(
    "step",
    ["last"],
    "checkpoints: last, a step, or best, that of those kept which the first score asked for ranks highest; of several, "
    "the first fills evaluate.*, the others evaluate_NAME.*, with their pictures in evaluate_NAME/",
)
OUT = flags.DEFINE_string("out", None, "folder of the results (default: WORKDIR)")
SEEDS = flags.DEFINE_integer("seeds", DEFAULT.seeds, "of every score: mean ± std", lower_bound=1)
FLOOR_SEEDS = flags.DEFINE_integer("floor_seeds", DEFAULT.floor_seeds, "of every floor: mean; 0: none", lower_bound=0)
POOL = flags.DEFINE_enum(
    "pool",
    DEFAULT.pool,
    registry.POOLS,
    "images that samples come from: all, or those held out from training (factor_vae, beta_vae, which choose factors: "
    "always all)",
)
NUM_IMAGES = flags.DEFINE_integer(
    "num_images",
    DEFAULT.num_images,
    "images of --pool, drawn by a seed, that samples come from; 0: its every image",
    lower_bound=0,
)
NUM_TRAIN = flags.DEFINE_integer("num_train", DEFAULT.num_train, "training samples or votes", lower_bound=2)
NUM_TEST = flags.DEFINE_integer("num_test", DEFAULT.num_test, "test samples or votes", lower_bound=1)
NUM_VOTES = flags.DEFINE_integer(
    "num_votes",
    DEFAULT.num_votes,
    "training votes of factor_vae and beta_vae, half as many to test; 0: --num_train, --num_test",
    lower_bound=0,
)
NUM_DECODED = flags.DEFINE_integer("num_decoded", DEFAULT.num_decoded, "images of reconstruction", lower_bound=1)
NUM_GENERATED = flags.DEFINE_integer("num_generated", DEFAULT.num_generated, "images of fid", lower_bound=2)
NUM_TRACKED = flags.DEFINE_integer("num_tracked", DEFAULT.num_tracked, "images of content_tracking", lower_bound=1)
DECODE_STEPS = flags.DEFINE_list("decode_steps", list(map(str, DEFAULT.decode_steps)), "reconstruction: values of T")
PROTOCOL = flags.DEFINE_enum("protocol", DEFAULT.protocol, PROTOCOLS, "of tad")
DIRECTIONS = flags.DEFINE_enum("directions", DEFAULT.directions, ["axes", "navigation"], "of content_tracking")
TRACKER = flags.DEFINE_enum("tracker", DEFAULT.tracker, TRACKERS, "of content_tracking")
TAPIR = flags.DEFINE_string("tapir_checkpoint", "", "content_tracking: file of the tracker tapir, or of BootsTAPIR")
DCI_LEARNER = flags.DEFINE_enum(
    "dci_learner", DEFAULT.dci_learner, LEARNERS, "of dci: our boosting, or scikit-learn's own, seven times slower"
)
WORKDIRS = flags.DEFINE_list("workdirs", [], "other runs, which udr compares with --workdir")
INCEPTION = flags.DEFINE_string("inception_weights", "", "fid: file of the Inception network")
LPIPS = flags.DEFINE_list("lpips_weights", [], "reconstruction: files of AlexNet and of LPIPS")


def settings_of(bundle: api.Bundle) -> registry.Settings:
    """What the flags ask of a model; raises ValueError for numbers of steps that it can't walk."""
    limit = bundle.config.diffusion.num_steps
    for text in DECODE_STEPS.value:
        if not text.isdigit() or not 1 <= int(text) <= limit:
            raise ValueError(f"--decode_steps: {text!r} is not a number of steps in 1..{limit}")
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
        **{flag.name: flag.value for flag in (*numbers, POOL, PROTOCOL, DIRECTIONS, TRACKER, DCI_LEARNER)},
    )


def check_steps() -> None:
    """Raises ValueError where --step asks for a checkpoint that isn't kept, or there is nothing to call one best by."""
    kept, first = checkpoint.kept_steps(WORKDIR.value), METRICS.value[0]
    for name in STEP.value:
        if name == "best" and first not in registry.HIGHER_IS_BETTER:
            known = ", ".join(registry.HIGHER_IS_BETTER)
            raise ValueError(
                f"--step=best ranks by the first of --metrics, which must be one of {known}; not {first!r}"
            )
        if name not in ("last", "best") and not (name.isdigit() and int(name) in kept):
            raise ValueError(f"--step: {name!r} is not last, best or one of the checkpoints kept: {kept}")


def best() -> api.Bundle:
    """The checkpoint, of those kept, that the first score of the first metric ranks highest.

    Training may go on and remove some meanwhile: these are passed over, and the best so far stays in memory.

    Raises:
      checkpoint.CheckpointError: none could be read.
    """
    name = METRICS.value[0]
    found, highest = None, 0.0
    for step in checkpoint.kept_steps(WORKDIR.value):
        try:
            bundle = cli.load(step)
        except checkpoint.CheckpointError as error:
            print(f"step {step}: passed over, {error}", flush=True)
            continue
        settings = dataclasses.replace(settings_of(bundle), seeds=1, floor_seeds=0, pictures=False)
        context = registry.Context(settings, bundle)
        if found is None:
            registry.check(context, METRICS.value)
        score = next(tables.rows({name: registry.METRICS[name].measure(context)}))[-1]["mean"]
        print(f"step {step}: {name} {score:.4f}", flush=True)
        if found is None or score > highest:
            found, highest = bundle, score
    if found is None:
        raise checkpoint.CheckpointError(f"--step=best: no checkpoint of {WORKDIR.value} can be read")
    return found


def main() -> None:
    cli.require(WORKDIR)
    check_steps()
    for i, name in enumerate(dict.fromkeys(STEP.value)):
        bundle = best() if name == "best" else cli.load(None if name == "last" else int(name))
        evaluate(bundle, "evaluate" if i == 0 else f"evaluate_{name}")


def evaluate(bundle: api.Bundle, stem: str) -> None:
    """Measure one checkpoint; write `stem`.json, .csv and .md after every metric, and print them at the end."""
    folder = epath.Path(OUT.value or WORKDIR.value)
    settings = settings_of(bundle)
    if stem != "evaluate":  # lest pictures overwrite those of the first checkpoint
        settings = dataclasses.replace(settings, out=str(folder / stem))
    context = registry.Context(settings, bundle)
    registry.check(context, METRICS.value)

    results = {}
    for name in METRICS.value:
        results[name] = registry.METRICS[name].measure(context)
        if context.writes:
            write(folder, stem, results, context)
    if context.writes:
        show(results, f"{settings.latent} of step {bundle.step}", f"results: {folder / stem}.json, .csv, .md")


def write(folder: epath.Path, stem: str, results: dict[str, Any], context: registry.Context) -> None:
    """The results so far as `stem`.json, .csv and .md."""
    data = context.bundle.config.data
    settings = dataclasses.asdict(context.settings) | {
        "metrics": list(results),
        "step": context.bundle.step,
        "data": context.source.name,
        "images": len(context.pool),
        "images_of_the_set": len(context.source),
        "published_set": tables.PUBLISHED_SETS.get((data.source, data.name), ""),
    }
    report.write_json(folder / f"{stem}.json", results | {"settings": settings})
    (folder / f"{stem}.csv").write_text(tables.to_csv(results))
    (folder / f"{stem}.md").write_text(tables.to_markdown(results, settings))


def show(results: dict[str, Any], title: str, where: str) -> None:
    print(f"\n{title}")
    header, lines = tables.cells(results)
    print(report.table(lines, header))
    if "reconstruction" in results:
        header, lines = tables.table_2(results["reconstruction"])
        print("\n" + report.table(lines, header))
    print("\n" + "\n".join([*tables.notes(results), where]))


if __name__ == "__main__":
    cli.run(main)
