"""The first run: configs/scenes.py:cpu with half the steps, five minutes on two CPU cores.

    python -m cldis_jax.main --config=configs/quickstart.py --workdir=runs/quickstart

launch/quickstart.sh runs this config. The README shows its pictures and scores.
"""

from ml_collections import ConfigDict

from cldis_jax.configs import scenes


def get_config() -> ConfigDict:
    config = scenes.get_config("cpu")
    config.train.steps = 3_000
    config.distillation.listen_steps = config.feedback.swap_steps = 1_500
    config.feedback.reference = 1.5
    config.feedback.max_capacity = 10.0  # enough for the three hues; with more, a hue takes two units in so short a run
    return config
