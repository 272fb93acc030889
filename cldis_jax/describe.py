"""What a config stands for, before it costs anything: python -m cldis_jax.describe --config=configs/celeba.py [--json].

Parameters by network, FLOPs an image, bytes of state, batch, steps and epochs; touches neither data nor accelerator.
"""

import functools
import json
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from cldis_jax import cli, data, models
from cldis_jax.config import validate
from cldis_jax.method import train_step
from cldis_jax.planning import cost
from cldis_jax.runtime import report

CONFIG = cli.define_config()
JSON = flags.DEFINE_bool("json", False, "print JSON in place of a table")
DEVICES = flags.DEFINE_integer("devices", 1, "devices that the global batch is divided by", lower_bound=1)

NETWORKS = ("unet", "semantic_encoder", "beta_vae")


def describe(config: ConfigDict, num_devices: int) -> dict[str, Any]:
    """The facts of a config; raises ConfigError for one that can't be run."""
    validate(config)
    if config.data.batch_size % (num_devices * config.train.accumulate):
        raise ValueError(f"data.batch_size={config.data.batch_size} is not divisible by {num_devices} devices")
    networks = models.make_networks(config)
    abstract = jax.eval_shape(functools.partial(train_step.create_state, networks, config))
    parameters = {name: cost.count(abstract.params.get(name, {})) for name in NETWORKS}
    num_images = data.known_size(config.data)
    if num_images is not None:
        num_images -= round(num_images * config.data.holdout)
    return {
        "parameters": parameters | {"total": sum(parameters.values())},
        "flops_per_image": cost.training_flops_per_image(config),
        "state_bytes": cost.num_bytes(abstract),
        "global_batch": config.data.batch_size,
        "local_batch": config.data.batch_size // num_devices,
        "devices": num_devices,
        "steps": config.train.steps,
        "images_seen": config.train.steps * config.data.batch_size,
        "epochs": None if num_images is None else config.train.steps * config.data.batch_size / num_images,
    }


def main() -> None:
    cli.require(CONFIG)
    jax.config.update("jax_platforms", "cpu")
    facts = describe(CONFIG.value, DEVICES.value)
    if JSON.value:
        print(json.dumps(facts))
        return
    rows = [(f"parameters: {name}", f"{number:,}") for name, number in facts.pop("parameters").items()]
    rows += [
        ("training GFLOP an image", f"{facts['flops_per_image'] / 1e9:,.4g}"),
        ("state (parameters, EMA, Adam)", f"{facts['state_bytes'] / 2**20:,.1f} MiB"),
        ("batch, global / a device", f"{facts['global_batch']} / {facts['local_batch']} on {facts['devices']} devices"),
        ("steps", f"{facts['steps']:,}"),
        ("images seen", f"{facts['images_seen']:,}"),
        ("epochs", "unknown before the data is read" if facts["epochs"] is None else f"{facts['epochs']:,.2f}"),
    ]
    print(report.table(rows, ("what", "value")))


if __name__ == "__main__":
    cli.run(main)
