"""Three steps of one small closed loop on several mesh shapes, compared with one device; prints JSON.

test_multi_device.py runs this file in a process of its own with eight virtual devices (XLA_FLAGS).
"""

import json
import sys

import jax
import numpy as np

from cldis_jax.configs import scenes
from cldis_jax.runtime import partitioning
from cldis_jax.training.program import make_program

NUM_STEPS = 3


def small_config(precision):
    config = scenes.get_config("tiny")
    config.train.precision = precision
    config.model.channel_multipliers = config.model.encoder_multipliers = (1,)
    config.data.flip = True
    config.train.learning_rate = 1e-4
    config.sharding.fsdp_min_bytes = 256
    return config


def run(shape, precision, start=None):
    """(losses, final parameters on the host, first state on the host, facts about the layout)."""
    config = small_config(precision)
    config.sharding.mesh.data, config.sharding.mesh.fsdp = shape
    program = make_program(config, partitioning.make_mesh(config, jax.devices()[: shape[0] * shape[1]]))
    state = program.create() if start is None else jax.device_put(start, program.shardings)
    start = jax.device_get(state)
    split = sum(any(spec) for spec in (leaf.sharding.spec for leaf in jax.tree.leaves(state.params)))
    shards = {
        len(set(map(str, leaf.sharding.devices_indices_map(leaf.shape).values()))) for leaf in jax.tree.leaves(state)
    }
    images = np.random.default_rng(0).integers(0, 256, (NUM_STEPS, *program.abstract_batch.shape), np.uint8)
    losses = []
    for batch in images:
        given = jax.tree.leaves(state)
        state, scalars = program.update(state, partitioning.to_global(batch, program.batch_sharding))
        losses.append({name: float(value) for name, value in scalars.items()})
    donated = all(leaf.is_deleted() for leaf in given)  # of the last step, because the first state is still used
    facts = {"donated": donated, "traces": program.update._cache_size(), "split": split, "shards": sorted(shards)}
    return losses, jax.device_get(state.params), start, facts


def main():
    precision, *shapes = sys.argv[1:]
    reference_losses, reference_params, reference_start, _ = run((1, 1), precision)
    report = {"created": None}
    for i, text in enumerate(shapes):
        shape = tuple(int(size) for size in text.split("x"))
        losses, params, start, facts = run(shape, precision, None if i == 0 else reference_start)
        if i == 0:
            report["created"] = max(
                float(np.abs(a - b).max()) for a, b in zip(jax.tree.leaves(start), jax.tree.leaves(reference_start))
            )
        relative = [
            abs(ours[name] - theirs[name]) / max(abs(theirs[name]), 1e-3)
            for ours, theirs in zip(losses, reference_losses)
            for name in ("loss", "L_diff", "L_vae", "L_dt", "L_ind")
        ]
        far = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), params, reference_params)
        facts["loss_error"] = max(relative)
        facts["params_error"] = max(jax.tree.leaves(far))
        report[text] = facts
    print(json.dumps(report))


if __name__ == "__main__":
    main()
