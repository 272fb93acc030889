"""Train a diffusion prior of z_sem: python -m cldis_jax.latent_prior --workdir=runs/quickstart [--steps=... ...].

Encodes the training images once with the moving-average encoder and trains Diff-AE's latent MLP on the codes, in
WORKDIR/latent_prior/. A second run continues where the first stopped. `cldis_jax.sample --prior=latent` draws from it.
"""

from absl import flags

from cldis_jax import cli
from cldis_jax.prior.training import train_prior
from cldis_jax.runtime import report

WORKDIR = cli.define_model()
NUM_IMAGES = flags.DEFINE_integer("num_images", None, "images to encode (default 20,000; for z of 128 or more: all)")
NUM_LAYERS = flags.DEFINE_integer("num_layers", None, "layers of the MLP (default 4; for z of 128 or more: 10)")
HIDDEN = flags.DEFINE_integer("hidden", None, "width of the MLP (default 256; for z of 128 or more: 2048)")
STEPS = flags.DEFINE_integer("steps", None, "optimiser steps (default 3,000; for z of 128 or more: 400,000)")
BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "codes a step (default 256)")
LEARNING_RATE = flags.DEFINE_float("learning_rate", None, "of AdamW (default 1e-3; for z of 128 or more: 1e-4)")
SEED = flags.DEFINE_integer(
    "seed", 0, "seed of the choice of images, the initial weights and the training", lower_bound=0
)


def main() -> None:
    cli.require(WORKDIR)
    results = train_prior(
        cli.load(),
        num_images=NUM_IMAGES.value,
        num_layers=NUM_LAYERS.value,
        hidden_dim=HIDDEN.value,
        steps=STEPS.value,
        batch_size=BATCH_SIZE.value,
        learning_rate=LEARNING_RATE.value,
        seed=SEED.value,
    )
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
