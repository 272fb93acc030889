"""The latent prior learns a known distribution, resumes exactly, and refuses checkpoints of other configs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cldis_jax import api, data
from cldis_jax.data import scenes
from cldis_jax.models import pixels
from cldis_jax.prior import method as prior_method
from cldis_jax.prior import store
from cldis_jax.prior import training as prior_training
from cldis_jax.runtime import checkpoint, report
from cldis_jax.runtime.errors import UserError

KEY = jax.random.key(0)


def small_config(latent_dim=2, **train):
    config = prior_method.default_config(latent_dim)
    config.model.num_layers, config.model.hidden_dim, config.model.embed_dim = 3, 64, 32
    config.train.update({"batch_size": 256, "steps": 200} | train)
    return config


def test_large_codes_get_the_published_recipe():
    config = prior_method.default_config(512)
    shapes = jax.eval_shape(lambda: prior_method.init_params(config))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 54_109_696
    assert config.train.learning_rate == 1e-4
    assert config.train.ema_decay == 0.9999
    np.testing.assert_allclose(prior_method.schedule_of(config).alpha_bar[-1], 3.25e-4, rtol=2e-3)


def test_loss_of_a_network_with_output_zero_is_the_mean_absolute_normal():
    """E|eps| = sqrt(2 / pi)."""
    config = small_config()
    shapes = jax.eval_shape(lambda: prior_method.init_params(config))
    silent = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    loss = jax.jit(functools.partial(prior_method.latent_loss, config))(silent, jnp.ones((20_000, 2)), KEY)
    np.testing.assert_allclose(loss, np.sqrt(2 / np.pi), rtol=0.02)


def test_a_step_is_clipped_adamw_with_the_mlps_moving_average():
    config = small_config(ema_decay=0.9, clip_norm=1e-3)
    codes = jax.random.normal(KEY, (50, 2)) * 3 + 1
    mean, std = prior_method.code_moments(np.asarray(codes))
    before = jax.jit(lambda: prior_method.create_state(config, mean, std))()
    after, loss = jax.jit(functools.partial(prior_method.train_step, config))(codes, before)
    assert 0 < loss < 5
    assert after.step == 1
    expected = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, before.params, after.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.ema.params, expected)
    # Adam's first step is the learning rate if the gradient is well above epsilon; clipping does not change it.
    moved = jax.tree.map(lambda a, b: jnp.abs(a - b * (1 - 0.01 * 1e-3)).max(), after.params, before.params)
    np.testing.assert_allclose(max(jax.tree.leaves(moved)), 1e-3, rtol=1e-2)
    first_moments = optax.tree_utils.tree_get(after.opt_state, "mu")
    np.testing.assert_allclose(optax.global_norm(first_moments), 0.1 * 1e-3, rtol=1e-4)
    np.testing.assert_array_equal(after.ema.mean, mean)


def test_samples_follow_the_codes():
    """The samples have the moments of two correlated, shifted and scaled dimensions, also outside [-1, 1]."""
    config = small_config(steps=1200, learning_rate=2e-3, ema_decay=0.99)
    mixing = np.array([[3.0, 0.0], [1.0, 0.5]])
    codes = (np.random.default_rng(0).normal(size=(4000, 2)) @ mixing.T + [5, -2]).astype(np.float32)
    mean, std = prior_method.code_moments(codes)
    steps = jax.jit(lambda s: prior_method.train_steps(config, config.train.steps, jnp.asarray(codes), s))
    trained, _ = steps(jax.jit(lambda: prior_method.create_state(config, mean, std))())
    prior = prior_method.LatentPrior(config, trained.ema, config.train.steps)
    z = np.asarray(prior.sample(jax.random.key(1), 4000, 100))
    np.testing.assert_allclose(z.mean(0), codes.mean(0), atol=0.1 * std.max())
    np.testing.assert_allclose(z.std(0), codes.std(0), rtol=0.15)
    np.testing.assert_allclose(np.corrcoef(z.T)[0, 1], np.corrcoef(codes.T)[0, 1], atol=0.1)
    assert 0.2 < (np.abs((z - mean) / std) > 1).mean() < 0.45  # 0.32 for a normal distribution


def test_moments_are_unbiased_and_never_zero():
    codes = np.array([[1.0, 7.0], [2.0, 7.0], [6.0, 7.0]], np.float32)
    mean, std = prior_method.code_moments(codes)
    np.testing.assert_allclose(mean, [3, 7])
    np.testing.assert_allclose(std, [np.sqrt(7.0), 1])


@pytest.fixture(scope="module")
def bundle(untrained_workdir):
    return api.load(untrained_workdir)


def bundle_config(bundle, steps):
    config = small_config(bundle.config.model.latent_dim, steps=steps, batch_size=16)
    config.codes.num_images, config.codes.model_step = 40, bundle.step
    return config


def test_codes_are_the_encoders_on_training_images(bundle):
    source = data.make_source(bundle.config.data)
    codes = prior_training.training_codes(bundle, source, 70, seed=0)
    assert codes.shape == (70, 10)
    training, _ = data.split(len(source), bundle.config.data.holdout)
    chosen = np.sort(np.random.default_rng(0).choice(training, 70, replace=False))
    images = pixels.to_unit_range(jnp.asarray(source.fetch(chosen[66:])))
    np.testing.assert_allclose(codes[66:], bundle.encode(images), atol=1e-5)
    assert np.abs(codes - prior_training.training_codes(bundle, source, 70, seed=1)).max() > 0


def test_codes_of_other_images_come_with_a_note(bundle, capsys):
    source = data.make_source(bundle.config.data)
    other = dataclasses.replace(bundle, trained_on={"num_images": 480_000, "names_sha256": "another"})
    prior_training.training_codes(other, source, 2, seed=0)
    assert "note: the model was trained on other images: scenes has 480000 images of other" in capsys.readouterr().out
    prior_training.training_codes(bundle, source, 2, seed=0)
    assert capsys.readouterr().out == ""


def test_a_resumed_training_equals_an_uninterrupted_one(bundle, tmp_path):
    whole = prior_training.fit(str(tmp_path / "whole"), bundle, bundle_config(bundle, 200))
    prior_training.fit(str(tmp_path / "halves"), bundle, bundle_config(bundle, 100))
    prior_training.fit(str(tmp_path / "halves"), bundle, bundle_config(bundle, 200))
    priors = [store.load(str(tmp_path / name)) for name in ("whole", "halves")]
    assert [prior.step for prior in priors] == [200, 200]
    store.check_trainable(str(tmp_path / "whole"))
    jax.tree.map(np.testing.assert_array_equal, priors[0].averages, priors[1].averages)
    assert whole["num_codes"] == 40
    assert np.isfinite(whole["loss"])
    again = prior_training.fit(str(tmp_path / "whole"), bundle, bundle_config(bundle, 200))
    assert again["loss"] is None


def test_a_prior_of_another_config_is_refused(bundle, tmp_path):
    prior_training.fit(str(tmp_path), bundle, bundle_config(bundle, 100))
    other = bundle_config(bundle, 100)
    other.model.hidden_dim = 32
    with pytest.raises(checkpoint.CheckpointError, match=r"model\.hidden_dim: 64 in the workdir, 32 asked for"):
        prior_training.fit(str(tmp_path), bundle, other)
    assert store.load(str(tmp_path)).config.model.hidden_dim == 64


def test_a_prior_of_other_images_is_refused(bundle, tmp_path, monkeypatch):
    prior_training.fit(str(tmp_path), bundle, bundle_config(bundle, 100))
    monkeypatch.setattr(scenes.Scenes, "digest", "5e" * 32)
    with pytest.raises(data.DataError, match="holds a prior of other images: scenes has 480000 images of other names"):
        prior_training.fit(str(tmp_path), bundle, bundle_config(bundle, 200))
    assert len(list((tmp_path / "latent_prior").glob("codes_*.npy"))) == 2


def test_a_prior_is_trained_without_flags(bundle, tmp_path):
    small = {"num_images": 20, "num_layers": 2, "hidden_dim": 8, "steps": 3, "batch_size": 4, "learning_rate": 1e-3}
    results = prior_training.train_prior(bundle, str(tmp_path), **small)
    assert results == report.read_json(tmp_path / "latent_prior.json")
    assert (results["num_codes"], results["steps"]) == (20, 3)
    assert store.load(str(tmp_path)).config.model.hidden_dim == 8
    assert results["loss"] > 0
    again = prior_training.train_prior(bundle, str(tmp_path), **small)
    assert again["loss"] == results["loss"]  # no step is left, and the loss is kept
    for wrong, message in (
        ({"num_layers": 1}, "num_layers=1 must be at least 2"),
        ({"learning_rate": 0.0}, "learning_rate=0.0 must be positive"),
        ({"hidden_dim": 9}, r"model\.hidden_dim: 8 in the workdir, 9 asked for"),
    ):
        with pytest.raises(UserError if "hidden_dim" not in wrong else checkpoint.CheckpointError, match=message):
            prior_training.train_prior(bundle, str(tmp_path), **(small | wrong))


def test_a_prior_without_its_optimiser_is_not_trained_further(tmp_path):
    config = small_config()
    averages = prior_method.create_state(config, np.zeros(2, np.float32), np.ones(2, np.float32)).ema
    store.check_trainable(str(tmp_path))
    store.save(str(tmp_path), config, averages, 5)
    with pytest.raises(checkpoint.CheckpointError, match=r"came with an import.*cldis_jax\.sample.*--prior=latent"):
        store.check_trainable(str(tmp_path))


def test_a_training_killed_before_its_first_save_leaves_no_prior(tmp_path):
    with checkpoint.Checkpoints(store.prior_dir(str(tmp_path))):
        pass
    assert not store.exists(str(tmp_path))
    with pytest.raises(checkpoint.CheckpointError, match="no latent prior in"):
        store.load(str(tmp_path))


def test_no_prior(tmp_path):
    with pytest.raises(checkpoint.CheckpointError, match=r"train one with python -m cldis_jax\.latent_prior"):
        store.load(str(tmp_path))
