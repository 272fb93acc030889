"""Train: python -m cldis_jax.main --config=configs/scenes.py --workdir=runs/scenes [--config.any.field=value]."""

from cldis_jax import cli

CONFIG = cli.define_config()
WORKDIR = cli.define_workdir()


def main() -> None:
    cli.require(CONFIG)
    cli.require(WORKDIR)
    from cldis_jax.training import train  # takes seconds to import; a wrong flag is reported before

    train.train(CONFIG.value, WORKDIR.value)


if __name__ == "__main__":
    cli.run(main)
