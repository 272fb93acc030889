"""Score a trained model: python -m cldis_jax.evaluate --workdir=DIR --metrics=factor_vae,dci,mig,z_usage.

Disentanglement of a latent against the data's factors, each score beside its floors (a random linear mix of the
factors, an untrained encoder), and what needs no labels: udr, fid, reconstruction, z_usage, content_tracking. Writes
WORKDIR/evaluate.json, .csv and .md; may run while training goes on.
"""

import dataclasses

from absl import flags
from etils import epath

from cldis_jax import api, checkpoint, cli, evaluation, report
from cldis_jax.evaluation import tables
from cldis_jax.metrics.tad import PROTOCOLS
from cldis_jax.metrics.trackers import TRACKERS

DEFAULT = evaluation.Settings(workdir="")
WORKDIR = cli.define_workdir()
METRICS = flags.DEFINE_list("metrics", ["factor_vae", "mig", "reconstruction"], ", ".join(evaluation.METRICS))
LATENT = flags.DEFINE_enum("latent", None, api.LATENTS, "what is scored (default: z_sem; z_disen of a VAE alone)")
STEP = flags.DEFINE_list(
    "step",
    ["last"],
    "checkpoints: last, a step, or best, that of those kept which the first score asked for ranks highest; of several, "
    "the first fills evaluate.*, the others evaluate_NAME.*",
)
OUT = flags.DEFINE_string("out", None, "folder of the results (default: WORKDIR)")
SEEDS = flags.DEFINE_integer("seeds", DEFAULT.seeds, "of every score: mean ± std", lower_bound=1)
FLOOR_SEEDS = flags.DEFINE_integer("floor_seeds", DEFAULT.floor_seeds, "of every floor: mean; 0: none", lower_bound=0)
POOL = flags.DEFINE_enum(
    "pool",
    DEFAULT.pool,
    evaluation.POOLS,
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
TAPIR = flags.DEFINE_string("tapir_checkpoint", "", "content_tracking: file of the tracker tapir")
WORKDIRS = flags.DEFINE_list("workdirs", [], "other runs, which udr compares with --workdir")
INCEPTION = flags.DEFINE_string("inception_weights", "", "fid: file of the Inception network")
LPIPS = flags.DEFINE_list("lpips_weights", [], "reconstruction: files of AlexNet and of LPIPS")


def settings_of(bundle: api.Bundle) -> evaluation.Settings:
    """What the flags ask of a model; raises ValueError for numbers of steps that it can't walk."""
    limit = bundle.config.diffusion.num_steps
    for text in DECODE_STEPS.value:
        if not text.isdigit() or not 1 <= int(text) <= limit:
            raise ValueError(f"--decode_steps: {text!r} is not a number of steps in 1..{limit}")
    numbers = (SEEDS, FLOOR_SEEDS, NUM_IMAGES, NUM_TRAIN, NUM_TEST, NUM_VOTES, NUM_DECODED, NUM_GENERATED, NUM_TRACKED)
    return evaluation.Settings(
        workdir=WORKDIR.value,
        out=OUT.value or "",
        tapir_checkpoint=TAPIR.value,
        workdirs=tuple(WORKDIRS.value),
        latent=LATENT.value or bundle.main_latent,
        decode_steps=tuple(int(text) for text in DECODE_STEPS.value),
        inception_weights=INCEPTION.value,
        lpips_weights=tuple(LPIPS.value),
        **{flag.name: flag.value for flag in (*numbers, POOL, PROTOCOL, DIRECTIONS, TRACKER)},
    )


def checkpoint_steps() -> dict[str, int | None]:
    """The checkpoints that --step asks for, by name; None is the newest that can be read.

    Raises:
      ValueError: there is no such one, or nothing to call one best by.
    """
    kept = checkpoint.kept_steps(WORKDIR.value)
    steps = {}
    for name in STEP.value:
        if name == "last":
            steps[name] = None
        elif name == "best":
            steps[name] = max(kept, key=rank)
        elif name.isdigit() and int(name) in kept:
            steps[name] = int(name)
        else:
            raise ValueError(f"--step: {name!r} is not last, best or one of the checkpoints kept: {kept}")
    return steps


def rank(step: int) -> float:
    """What --step=best goes by: the first score of the first metric, of a higher-is-better kind."""
    name = METRICS.value[0]
    if name not in evaluation.HIGHER_IS_BETTER:
        known = ", ".join(evaluation.HIGHER_IS_BETTER)
        raise ValueError(f"--step=best ranks by the first of --metrics, which must be one of {known}; not {name!r}")
    bundle = api.load(WORKDIR.value, step)
    settings = dataclasses.replace(settings_of(bundle), seeds=1, floor_seeds=0)
    context = evaluation.Context(settings, bundle)
    evaluation.check(context, METRICS.value)
    score = next(tables.rows({name: evaluation.METRICS[name].measure(context)}))[-1]["mean"]
    print(f"step {step}: {name} {score:.4f}", flush=True)
    return score


def main() -> None:
    cli.require(WORKDIR)
    for i, (name, step) in enumerate(checkpoint_steps().items()):
        evaluate(step, "evaluate" if i == 0 else f"evaluate_{name}")


def evaluate(step: int | None, stem: str) -> None:
    """Measure one checkpoint, write `stem`.json, .csv and .md, print them."""
    bundle = api.load(WORKDIR.value, step)
    context = evaluation.Context(settings_of(bundle), bundle)
    evaluation.check(context, METRICS.value)

    results = {name: evaluation.METRICS[name].measure(context) for name in METRICS.value}
    data = bundle.config.data
    settings = dataclasses.asdict(context.settings) | {
        "metrics": METRICS.value,
        "step": bundle.step,
        "data": context.source.name,
        "images": len(context.pool),
        "images_of_the_set": len(context.source),
        "published_set": tables.PUBLISHED_SETS.get((data.source, data.name), ""),
    }
    folder = epath.Path(OUT.value or WORKDIR.value)
    report.write_json(folder / f"{stem}.json", results | {"settings": settings})
    (folder / f"{stem}.csv").write_text(tables.to_csv(results))
    (folder / f"{stem}.md").write_text(tables.to_markdown(results, settings))

    print(f"\n{settings['latent']} of step {bundle.step}")
    header, lines = tables.cells(results)
    print(report.table(lines, header))
    if "reconstruction" in results:
        header, lines = tables.table_2(results["reconstruction"])
        print("\n" + report.table(lines, header))
    print("\n" + "\n".join([*tables.notes(results), f"results: {folder / stem}.json, .csv, .md"]))


if __name__ == "__main__":
    cli.run(main)
