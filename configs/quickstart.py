"""The first run: the closed loop on rendered scenes at 32 px, some minutes on two cores.

python -m cldis_jax.main --config=configs/quickstart.py --workdir=runs/quickstart      what launch/quickstart.sh runs
"""

from ml_collections import ConfigDict

from cldis_jax.configs import scenes


def get_config() -> ConfigDict:
    config = scenes.get_config("cpu")
    config.train.steps = 3_000
    config.distillation.listen_steps = config.feedback.swap_steps = 1_500
    return config
