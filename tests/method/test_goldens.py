"""The method against stored values: every variant of the ablation, with stand-in networks.

`goldens.json` has the config of each variant, as its differences from the default config, and the values of the code at
commit 5a9559b (jax 0.10, one CPU). The gains are of a later commit, which measures them in x_0. Other machines give the
values up to float32 rounding. The values change only if the method changes; then CHANGELOG.md must say why.
"""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cldis_jax.configs import default
from cldis_jax.method import baselines, feedback, train_step
from tests.method.stand_ins import KEY, NETWORKS, PARAMS, X0

GOLDENS = json.loads(pathlib.Path(__file__).with_name("goldens.json").read_text())
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1)).astype(np.uint8)


def config_of(name):
    config = default.get_config()
    changes = GOLDENS[name]["config"].items()
    config.update_from_flattened_dict({k: tuple(v) if isinstance(v, list) else v for k, v in changes})
    return config


def branches(config):
    """The stand-in networks and parameters that a config trains."""
    networks, params = NETWORKS, dict(PARAMS)
    if config.vae.weight == 0:
        networks = networks.replace(beta_vae=None)
        del params["beta_vae"]
    if config.diffusion.weight == 0:
        networks = networks.replace(unet=None, semantic_encoder=None)
        del params["unet"], params["semantic_encoder"]
    return networks, params


def check(tree, golden):
    found = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    assert golden.keys() <= found.keys()
    for name, value in golden.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", GOLDENS)
def test_loss_and_gradient(name):
    config = config_of(name)
    networks, params = branches(config)
    loop = feedback.initial_feedback(config).replace(capacity=jnp.float32(5.0))
    objective = baselines.objective(config)

    @jax.jit
    def run(params, step):
        def loss(params):
            return objective(params, networks, config, X0, loop, step, KEY)

        return jax.value_and_grad(loss, has_aux=True)(params)

    for step in (0, 3, 5000):
        (_, output), gradient = run(params, jnp.array(step))
        golden = GOLDENS[name][f"at step {step}"]
        check(gradient, golden["gradient"])
        check(output.scalars, golden["scalars"])
        check({f.name: getattr(output.signals, f.name) for f in dataclasses.fields(output.signals)}, golden["signals"])


@pytest.mark.parametrize("name", GOLDENS)
def test_three_steps(name):
    config = config_of(name)
    networks, params = branches(config)
    train_state = train_step.create_state(networks, config, params)
    step = jax.jit(lambda s: train_step.train_step(networks, config, s, IMAGES))
    for _ in range(3):
        train_state, scalars = step(train_state)
    golden = GOLDENS[name]["after three steps"]
    check(train_state.params, golden["params"])
    check(train_state.ema.params, golden["ema"])
    check(train_state.feedback, golden["feedback"])
    check(scalars, golden["scalars"])
