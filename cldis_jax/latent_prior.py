"""Train a diffusion prior of z_sem: python -m cldis_jax.latent_prior --workdir=runs/quickstart [--steps=... ...].

Encodes the training images once with the moving-average encoder and trains Diff-AE's latent MLP on the codes, in
WORKDIR/latent_prior/; run again, it goes on where it was. Then `cldis_jax.sample --prior=latent` draws from it.
"""

from absl import flags

from cldis_jax import cli
from cldis_jax.prior import method as prior_method
from cldis_jax.prior import training as prior_training
from cldis_jax.runtime import report

WORKDIR = cli.define_model()
NUM_IMAGES = flags.DEFINE_integer("num_images", None, "training images to encode (default 20,000; from z of 128 all)")
NUM_LAYERS = flags.DEFINE_integer("num_layers", None, "of the MLP (default 4; from z of 128: 10)")
HIDDEN = flags.DEFINE_integer("hidden", None, "width of the MLP (default 256; from z of 128: 2048)")
STEPS = flags.DEFINE_integer("steps", None, "optimiser steps (default 3,000; from z of 128: 400,000)")
BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "codes a step (default 256)")
LEARNING_RATE = flags.DEFINE_float("learning_rate", None, "of AdamW (default 1e-3; from z of 128: 1e-4)")
SEED = flags.DEFINE_integer("seed", 0, "of the images' choice, the initial weights and the training")


def main() -> None:
    cli.require(WORKDIR)
    least = ((NUM_IMAGES, 0), (NUM_LAYERS, 2), (HIDDEN, 1), (STEPS, 1), (BATCH_SIZE, 1))
    for flag, smallest in least:
        if flag.value is not None and flag.value < smallest:
            raise ValueError(f"--{flag.name}={flag.value} must be at least {smallest}")
    if LEARNING_RATE.value is not None and not LEARNING_RATE.value > 0:
        raise ValueError(f"--learning_rate={LEARNING_RATE.value} must be positive")
    bundle = cli.load()
    if not bundle.has_diffusion:
        raise ValueError(
            f"{WORKDIR.value} holds a VAE alone, whose prior is N(0, I); there is no z_sem to learn one of"
        )
    prior_method.check_trainable(WORKDIR.value)

    config = prior_method.default_config(bundle.config.model.latent_dim)
    config.codes.model_step = bundle.step
    config.train.seed = SEED.value
    for section, field, flag in (
        ("codes", "num_images", NUM_IMAGES),
        ("model", "num_layers", NUM_LAYERS),
        ("model", "hidden_dim", HIDDEN),
        ("train", "steps", STEPS),
        ("train", "batch_size", BATCH_SIZE),
        ("train", "learning_rate", LEARNING_RATE),
    ):
        if flag.value is not None:
            config[section][field] = flag.value

    results = prior_training.fit(WORKDIR.value, bundle, config)
    report.write_json(f"{WORKDIR.value}/latent_prior.json", results | {"config": config.to_dict()})
    loss = "nothing left to do" if results["loss"] is None else f"{results['loss']:.4f}"
    rows = [
        ("codes", f"{results['num_codes']:,} of the model's step {results['model_step']}"),
        ("parameters", f"{results['parameters']:,}"),
        ("steps", f"{results['steps']:,}"),
        ("L1 in eps, last tenth", loss),
    ]
    print(report.table(rows, ("latent prior", "value")))


if __name__ == "__main__":
    cli.run(main)
