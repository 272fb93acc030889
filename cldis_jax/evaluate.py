"""Score a trained model: python -m cldis_jax.evaluate --workdir=DIR --metrics=factor_vae,dci,mig,z_usage.

Disentanglement of a latent against the data's factors, each score beside its floors (a random linear mix of the
factors, an untrained encoder), and what needs no labels: udr, fid, reconstruction, z_usage, content_tracking. Writes
WORKDIR/evaluate.json, .csv and .md; may run while training goes on.
"""

import dataclasses

from absl import flags
from etils import epath

from cldis_jax import api, cli, evaluation, report
from cldis_jax.evaluation import tables
from cldis_jax.metrics.tad import PROTOCOLS

DEFAULT = evaluation.Settings(workdir="")
WORKDIR = cli.define_workdir()
METRICS = flags.DEFINE_list("metrics", ["factor_vae", "mig", "reconstruction"], ", ".join(evaluation.METRICS))
LATENT = flags.DEFINE_enum("latent", None, api.LATENTS, "what is scored (default: z_sem; z_disen of a VAE alone)")
STEP = flags.DEFINE_integer("step", None, "checkpoint (default: the newest)")
OUT = flags.DEFINE_string("out", None, "folder of the results (default: WORKDIR)")
SEEDS = flags.DEFINE_integer("seeds", DEFAULT.seeds, "of every score: mean ± std", lower_bound=1)
FLOOR_SEEDS = flags.DEFINE_integer("floor_seeds", DEFAULT.floor_seeds, "of every floor: mean", lower_bound=1)
NUM_IMAGES = flags.DEFINE_integer(
    "num_images",
    DEFAULT.num_images,
    "images, drawn by a seed, that samples come from; 0: the whole set (factor_vae, beta_vae: always the whole)",
    lower_bound=0,
)
NUM_TRAIN = flags.DEFINE_integer("num_train", DEFAULT.num_train, "training samples or votes", lower_bound=2)
NUM_TEST = flags.DEFINE_integer("num_test", DEFAULT.num_test, "test samples or votes", lower_bound=1)
NUM_DECODED = flags.DEFINE_integer("num_decoded", DEFAULT.num_decoded, "images of reconstruction", lower_bound=1)
NUM_GENERATED = flags.DEFINE_integer("num_generated", DEFAULT.num_generated, "images of fid", lower_bound=2)
NUM_TRACKED = flags.DEFINE_integer("num_tracked", DEFAULT.num_tracked, "images of content_tracking", lower_bound=1)
DECODE_STEPS = flags.DEFINE_list("decode_steps", list(map(str, DEFAULT.decode_steps)), "reconstruction: values of T")
PROTOCOL = flags.DEFINE_enum("protocol", DEFAULT.protocol, PROTOCOLS, "of tad")
DIRECTIONS = flags.DEFINE_enum("directions", DEFAULT.directions, ["axes", "navigation"], "of content_tracking")
WORKDIRS = flags.DEFINE_list("workdirs", [], "other runs, which udr compares with --workdir")
INCEPTION = flags.DEFINE_string("inception_weights", "", "fid: file of the Inception network")
LPIPS = flags.DEFINE_list("lpips_weights", [], "reconstruction: files of AlexNet and of LPIPS")


def settings_of(bundle: api.Bundle) -> evaluation.Settings:
    """What the flags ask of a model; raises ValueError for numbers of steps that it can't walk."""
    limit = bundle.config.diffusion.num_steps
    for text in DECODE_STEPS.value:
        if not text.isdigit() or not 1 <= int(text) <= limit:
            raise ValueError(f"--decode_steps: {text!r} is not a number of steps in 1..{limit}")
    simple = (SEEDS, FLOOR_SEEDS, NUM_IMAGES, NUM_TRAIN, NUM_TEST, NUM_DECODED, NUM_GENERATED, NUM_TRACKED)
    return evaluation.Settings(
        workdir=WORKDIR.value,
        workdirs=tuple(WORKDIRS.value),
        latent=LATENT.value or bundle.main_latent,
        decode_steps=tuple(int(text) for text in DECODE_STEPS.value),
        inception_weights=INCEPTION.value,
        lpips_weights=tuple(LPIPS.value),
        **{flag.name: flag.value for flag in (*simple, PROTOCOL, DIRECTIONS)},
    )


def main() -> None:
    cli.require(WORKDIR)
    bundle = api.load(WORKDIR.value, STEP.value)
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
    report.write_json(folder / "evaluate.json", results | {"settings": settings})
    (folder / "evaluate.csv").write_text(tables.to_csv(results))
    (folder / "evaluate.md").write_text(tables.to_markdown(results, settings))

    header, lines = tables.cells(results)
    print(report.table(lines, header))
    if "reconstruction" in results:
        header, lines = tables.table_2(results["reconstruction"])
        print("\n" + report.table(lines, header))
    print("\n" + "\n".join([*tables.notes(results), f"results: {folder / 'evaluate.json'}, .csv, .md"]))


if __name__ == "__main__":
    cli.run(main)
