"""Write a trained model to a small folder to share: python -m cldis_jax.export --workdir=DIR --out=DIR2.

DIR2 has the moving averages as safetensors, the config, the moments of the codes, directions, scores, the latent prior
and a model card with pictures and the terms of the data. Every command reads it like a workdir, and the Hugging Face
Hub shows it as it is. There is no optimiser state in it: `--config.init_from=DIR2` starts a training from it.
"""

from absl import flags
from etils import epath

from cldis_jax import cli
from cldis_jax.exporting.folder import export
from cldis_jax.runtime import report

WORKDIR = cli.define_model()
OUT = flags.DEFINE_string("out", None, "the new folder")
STEP = flags.DEFINE_integer("step", None, "checkpoint to export (default: the newest)")


def main() -> None:
    for flag in (WORKDIR, OUT):
        cli.require(flag)
    names = export(cli.load(STEP.value), OUT.value)
    sizes = [(epath.Path(OUT.value) / name).stat().length for name in names]
    print(report.table([(name, f"{size:,}") for name, size in zip(names, sizes)], (OUT.value, "bytes")))


if __name__ == "__main__":
    cli.run(main)
