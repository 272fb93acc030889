r"""Convert published Diff-AE weights to a workdir, for every command here and as a start of training.

    python -m cldis_jax.import_diffae --checkpoint=last.ckpt --config=configs/diffae_ffhq256.py --workdir=runs/ffhq256

Reads a Lightning checkpoint of the reference implementation; only this command needs PyTorch. Lists every key of the
file, as used or unused, in WORKDIR/import_diffae.json.

Then train the closed loop from it. The published z_sem has 512 units, and the closed loop needs the same number.
configs/celeba.py fits celeba64, and configs/{ffhq,horse,bedroom}128.py fit the three models of 128 pixels. For ffhq256,
use configs/diffae_ffhq256.py itself, with the VAE and the distillation switched on.

    python -m cldis_jax.main --config=configs/ffhq128.py --config.model.latent_dim=512 --config.data.path=IMAGES \
        --config.init_from=runs/ffhq128 --workdir=runs/closed_loop
    python -m cldis_jax.main --config=configs/diffae_ffhq256.py --config.data.path=IMAGES --config.vae.weight=1 \
        --config.distillation.weight=1e-3 --config.train.clip_scope=branch --config.init_from=runs/ffhq256 \
        --workdir=runs/closed_loop_256

Commands on the imported workdir that need images (navigate, latent_prior, evaluate) take them from --data_path or
--data_dir.
"""

from absl import flags

from cldis_jax import cli
from cldis_jax.diffae_import import importing
from cldis_jax.runtime import report

CONFIG = cli.define_config()
WORKDIR = cli.define_workdir()
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "the Lightning checkpoint, e.g. last.ckpt")
LATENTS = flags.DEFINE_string("latents", None, "the reference's latent.pkl, for the mean and deviation of z_sem")
NET = flags.DEFINE_enum("net", "ema_model", ["ema_model", "model"], "which copy of the net in the checkpoint")


def main() -> None:
    for flag in (CONFIG, WORKDIR, CHECKPOINT):
        cli.require(flag)
    results = importing.import_checkpoint(CONFIG.value, CHECKPOINT.value, WORKDIR.value, NET.value, LATENTS.value)
    by_reason: dict[str, list[str]] = {}
    for key, reason in results["unused"].items():
        by_reason.setdefault(reason, []).append(key)
    for reason, keys in by_reason.items():
        named = ", ".join(keys) if reason.startswith("unknown") or len(keys) <= 4 else f"{keys[0]} ... {keys[-1]}"
        print(f"unused, {reason}: {named} ({len(keys)})")
    for note in results["notes"]:
        print(f"note: {note}")
    rows = [(f"parameters: {name}", f"{number:,}") for name, number in results["parameters"].items()]
    rows += [
        ("keys used / unused", f"{len(results['used'])} / {len(results['unused'])}"),
        ("mean and deviation of z_sem", results["moments_from"]),
        ("step", str(results["step"])),
    ]
    print(report.table(rows, ("imported", "value")))


if __name__ == "__main__":
    cli.run(main)
