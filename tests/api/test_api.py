"""The bundle of notebooks and commands: shapes, round trips, one compilation, clear errors."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cldis_jax import api
from cldis_jax.method import diffusion
from cldis_jax.runtime import checkpoint
from tests import random_params


@pytest.fixture(scope="module")
def bundle(untrained_workdir):
    return api.load(untrained_workdir)


@pytest.fixture(scope="module")
def images():
    """Smooth images far from -1 and 1, because clipping of x_0 is not invertible."""
    rows, columns = np.mgrid[0:16, 0:16] / 16
    waves = [0.5 * np.sin(2 * np.pi * (rows * k + columns)) for k in range(6)]
    return np.stack(waves).reshape(2, 3, 16, 16).transpose(0, 2, 3, 1).astype(np.float32)


def test_shapes_and_types(bundle, images):
    z = bundle.encode(images)
    x_T = bundle.encode_noise(images, z, 4)
    decoded = bundle.decode(x_T, z, 4)
    eps = bundle.predict(images, jnp.array([0, 999]), z)
    mean, log_var = bundle.encode_posterior(images)
    assert z.shape == mean.shape == log_var.shape == (2, 10)
    assert x_T.shape == decoded.shape == eps.shape == bundle.decode_vae(mean).shape == images.shape
    for array in (z, x_T, decoded, eps, mean):
        assert array.dtype == jnp.float32
        assert jnp.isfinite(array).all()
    assert jnp.abs(decoded).max() <= 1
    assert bundle.step == 3


@pytest.mark.parametrize(
    ("num_steps", "length"), [(1, 32), (32, 32), (33, 128), (128, 128), (129, 256), (257, 1000), (1000, 1000)]
)
def test_few_table_lengths_cover_every_number_of_steps(bundle, num_steps, length):
    tables = bundle.functions.tables(num_steps)
    assert len(tables.t) == length
    assert tables.active.sum() == num_steps


def test_tables_are_never_longer_than_the_diffusion(tiny):
    tiny.diffusion.num_steps = 50
    functions = api.make_functions(tiny)
    assert [len(functions.tables(n).t) for n in (3, 40)] == [32, 50]


def test_moved_data_are_found_by_the_flags(untrained_workdir, monkeypatch):
    from types import SimpleNamespace

    from cldis_jax import cli

    values = SimpleNamespace(workdir=untrained_workdir, data_path="/moved", data_dir=None)
    monkeypatch.setattr(cli.flags, "FLAGS", values)
    assert cli.load().config.data.path == "/moved"
    assert cli.load(3).config.data.data_dir == api.load(untrained_workdir).config.data.data_dir
    assert api.load(untrained_workdir, data_dir="/sets").config.data.data_dir == "/sets"


def test_any_number_of_steps_runs_one_program(bundle, images):
    z = bundle.encode(images)
    outputs = [np.asarray(bundle.decode(bundle.encode_noise(images, z, n), z, n)) for n in (1, 4, 7, 37)]
    before = bundle.functions.ddim_decode._cache_size(), bundle.functions.ddim_encode._cache_size()
    outputs += [np.asarray(bundle.decode(bundle.encode_noise(images, z, n), z, n)) for n in (2, 5, 60)]
    assert (bundle.functions.ddim_decode._cache_size(), bundle.functions.ddim_encode._cache_size()) == before
    assert all(np.abs(a - b).max() > 1e-4 for a, b in itertools.pairwise(outputs))


def test_inferred_noise_decodes_to_the_image(bundle, images):
    z = bundle.encode(images)
    errors = []
    for num_steps in (5, 50, 500):
        x_T = bundle.encode_noise(images, z, num_steps)
        errors.append(float(jnp.abs(bundle.decode(x_T, z, num_steps) - images).mean()))
    random_x_T = jax.random.normal(jax.random.key(0), images.shape)
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.1 * float(jnp.abs(bundle.decode(random_x_T, z, 500) - images).mean())


def test_padded_tables_give_equal_results(bundle, images):
    z = bundle.encode(images)
    x_T = jax.random.normal(jax.random.key(1), images.shape)
    params, prediction = bundle.ema.params, bundle.functions.prediction
    exact = diffusion.ddim_decode(
        lambda x_t, t: bundle.functions.output(params, x_t, t, z),
        prediction,
        diffusion.ddim_tables(bundle.functions.schedule, 5),
        x_T,
    )
    np.testing.assert_allclose(bundle.decode(x_T, z, 5), exact, atol=1e-5)


def test_predict_is_eps_for_every_prediction(bundle, images):
    """The tiny config learns F, where x_0 = c x_t / sqrt(alpha_bar) + (1 - c) F; eps follows from x_0."""
    assert (bundle.config.diffusion.prediction, bundle.config.diffusion.skip_std) == ("x0", 0.1)
    z, t = bundle.encode(images), np.array([3, 800])
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 2e-2, 1000))[t].reshape(-1, 1, 1, 1)
    output = bundle.functions.output(bundle.ema.params, images, jnp.asarray(t), z)
    c = 0.1**2 / (0.1**2 + (1 - alpha_bar) / alpha_bar)
    x0 = c * images / np.sqrt(alpha_bar) + (1 - c) * np.asarray(output)
    expected = (images - np.sqrt(alpha_bar) * x0) / np.sqrt(1 - alpha_bar)
    np.testing.assert_allclose(bundle.predict(images, jnp.asarray(t), z), expected, rtol=1e-4, atol=1e-4)


def test_z_reaches_the_images(bundle, images):
    z = bundle.encode(images)
    x_T = jax.random.normal(jax.random.key(2), images.shape)
    moved = z + jnp.asarray(bundle.z_std)[None]
    assert jnp.abs(bundle.decode(x_T, z, 4) - bundle.decode(x_T, moved, 4)).max() > 1e-3


def test_moments_are_those_of_the_run(bundle):
    np.testing.assert_allclose(bundle.z_mean, 0.25, rtol=1e-6)
    np.testing.assert_allclose(bundle.z_std, np.linspace(0.5, 1.5, 10), rtol=1e-5)


@pytest.mark.parametrize(
    ("switched_off", "calls"),
    [
        ("diffusion.weight", ("encode", "encode_noise", "decode", "predict")),
        ("vae.weight", ("encode_posterior", "decode_vae")),
    ],
)
def test_an_untrained_branch_is_a_clear_error(tiny, switched_off, calls):
    section, field = switched_off.split(".")
    tiny[section][field] = 0.0
    tiny.distillation.weight = 0.0
    tiny.feedback.mode = "fixed"
    bundle = random_params.bundle(tiny)
    assert bundle.main_latent == ("z_disen" if switched_off == "diffusion.weight" else "z_sem")
    arguments = {"encode": 1, "encode_posterior": 1, "decode_vae": 1, "encode_noise": 3, "decode": 3, "predict": 3}
    for name in calls:
        with pytest.raises(ValueError, match=rf"this model has no .*: it was trained with {switched_off}=0"):
            getattr(bundle, name)(*[None] * arguments[name])


def test_no_checkpoint(tmp_path):
    with pytest.raises(checkpoint.CheckpointError, match="no checkpoint in"):
        api.load(str(tmp_path / "absent"))
    assert not (tmp_path / "absent").exists()


def test_numbers_of_steps_out_of_range(bundle, images):
    z = bundle.encode(images)
    for num_steps in (0, 1001):
        with pytest.raises(ValueError, match="between 1 and 1000 steps"):
            bundle.decode(images, z, num_steps)


@pytest.mark.slow
def test_a_ddim_step_costs_one_evaluation_of_the_network(bundle):
    """Within 5 %, for a batch at which the network dominates the loop. Each time is the best of several runs."""
    import time

    images = jax.random.normal(jax.random.key(3), (64, 16, 16, 3))
    z, t = bundle.encode(images), jnp.full(64, 500)
    output = jax.jit(bundle.functions.output)

    def best(function, repetitions=7):
        jax.block_until_ready(function())
        seconds = []
        for _ in range(repetitions):
            start = time.perf_counter()
            jax.block_until_ready(function())
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    def evaluations():
        return [jax.block_until_ready(output(bundle.ema.params, images, t, z)) for _ in range(50)]

    decode = best(lambda: bundle.decode(images, z, 50)) / 50
    evaluation = best(evaluations) / 50
    assert decode < 1.05 * evaluation
