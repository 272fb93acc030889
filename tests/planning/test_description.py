"""The output of `describe`: the size and cost of a config, and its differences from a preset."""

import importlib
import subprocess
import sys

import jax
import pytest
from absl import flags

from cldis_jax import models
from cldis_jax.configs import celeba, closed_loop, diffae_celeba64, scenes
from cldis_jax.method import train_step
from cldis_jax.planning import description
from cldis_jax.runtime.errors import UserError


def test_nothing_is_described_for_no_device():
    importlib.import_module("cldis_jax.describe")
    with pytest.raises(flags.IllegalFlagValueError, match="devices=0"):
        flags.FLAGS["devices"].parse("0")


def test_describing_imports_no_large_library():
    libraries = ("tensorflow", "tensorflow_datasets", "orbax", "grain")
    code = f"import sys, cldis_jax.describe; print([name for name in {libraries} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_describe_counts_what_a_state_holds(tiny):
    tiny.data.batch_size = 8
    facts = description.describe(tiny, 4)
    tree = jax.eval_shape(lambda: train_step.create_state(models.make_networks(tiny), tiny))
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
    assert facts["state_bytes"] == pytest.approx(held, rel=1e-3)
    assert facts["parameters"]["total"] == sum(leaf.size for leaf in jax.tree.leaves(tree.params))
    assert facts["local_batch"] == 2
    with pytest.raises(UserError, match="batch_size=8 is not divisible by 3 devices"):
        description.describe(tiny, 3)


@pytest.mark.slow
def test_describe_counts_parameters_bytes_and_flops():
    """Diff-AE's celeba64 has its published counts. State: parameters, EMA, two Adam moments. 6 FLOPs per MAC."""
    facts = description.describe(diffae_celeba64.get_config(), 4)
    assert facts["parameters"] == {
        "unet": 71_518_723,
        "semantic_encoder": 19_320_512,
        "beta_vae": 0,
        "total": 90_839_235,
    }
    assert facts["state_bytes"] == pytest.approx(16 * 90_839_235, rel=1e-3)
    # 89 GFLOP include taps of convolutions on padding, which the function does not count.
    assert facts["flops_per_image"] == pytest.approx(89e9, rel=0.08)
    assert facts["local_batch"] == 32


def test_a_preset_does_not_differ_from_itself():
    assert description.differences(closed_loop.best()) == []
    assert description.differences_table([], "best") == "no field differs from the preset best"


def test_differences_name_both_values_and_the_reason():
    config = scenes.get_config("cpu")
    config.model.latent_dim = 20
    rows = {row["field"]: row for row in description.differences(config, overrides={"model.latent_dim": 20})}
    assert rows["train.learning_rate"]["preset"] == 1e-4
    assert rows["train.learning_rate"]["config"] == 1e-3
    assert rows["train.learning_rate"]["why"] == closed_loop.REASONS["train.learning_rate"]
    assert rows["model.latent_dim"]["why"] == "set on the command line"
    assert "preset" not in rows
    assert "diffusion.prediction" not in rows  # as in the preset


def test_differences_against_the_other_preset():
    rows = {row["field"]: row for row in description.differences(celeba.get_config(), "best")}
    assert (rows["diffusion.prediction"]["preset"], rows["diffusion.prediction"]["config"]) == ("x0", "eps")
    assert rows["vae.weight"]["config"] == 1.0
    assert rows["vae.weight"]["preset"] == pytest.approx(1 / (64 * 64 * 3))
    text = description.differences_table(list(rows.values()), "best")
    assert "data.name" in text
    assert "\n\n" not in text
