"""The pictures that are drawn while a model trains."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from cldis_jax.api import pictures
from cldis_jax.method import train_step
from tests import random_params


@pytest.fixture
def bundle(tiny):
    std = jnp.array([0.1, 3.0, *[0.2] * 8])
    moments = train_step.Moments(weight=jnp.ones(()), first=jnp.zeros(10), second=jnp.square(std))
    return random_params.bundle(tiny, step=5, z_sem=moments, z_disen=moments)


def images_of(bundle, num):
    return np.random.default_rng(0).uniform(-1, 1, (num, *bundle.image_shape)).astype(np.float32)


def test_reconstructions_are_decoded_from_inferred_and_random_noise(bundle):
    images = images_of(bundle, 3)
    z, mean = bundle.encode(images), bundle.encode_posterior(images)[0]
    random_x_T = np.random.default_rng(0).standard_normal(images.shape, np.float32)
    rows = pictures.reconstructions(bundle, images, 4)
    np.testing.assert_array_equal(rows["original"], images)
    inferred = bundle.decode(bundle.encode_noise(images, z, 4), z, 4)
    np.testing.assert_allclose(rows["z_sem, inferred x_T"], inferred, atol=1e-4)
    np.testing.assert_allclose(rows["z_sem, random x_T"], bundle.decode(random_x_T, z, 4), atol=1e-4)
    np.testing.assert_allclose(rows["VAE"], bundle.decode_vae(mean), atol=1e-4)


def test_a_traversal_moves_one_latent_by_its_deviations(bundle, monkeypatch):
    drawn = {}

    def grid(tiles, rows, *_, **__):
        drawn[rows[0].partition("[")[0]] = tiles
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(pictures, "visualize", types.SimpleNamespace(grid=grid))
    images, num_steps = images_of(bundle, 1), bundle.config.diffusion.decode_steps
    list(pictures.training_pictures(bundle, images))
    z = np.asarray(bundle.encode(images))
    x_T, moved = bundle.encode_noise(images, z, num_steps), z + 2.5 * np.array([0, 3.0, *[0] * 8], np.float32)
    np.testing.assert_allclose(drawn["z_sem"][0, -1], bundle.decode(x_T, moved, num_steps)[0], atol=1e-4)
    np.testing.assert_allclose(drawn["z_sem"][3, 3], bundle.decode(x_T, z, num_steps)[0], atol=1e-4)


def test_a_few_of_many_latents_are_drawn(bundle, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_TRAVERSED", 2)
    shapes = {}

    def grid(tiles, rows, *_, **__):
        shapes[rows[0].partition("[")[0]] = len(rows), len(tiles)
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(pictures, "visualize", types.SimpleNamespace(grid=grid))
    list(pictures.training_pictures(bundle, images_of(bundle, 1)))
    assert bundle.config.model.latent_dim > 2
    assert shapes["z_sem"] == shapes["z_disen"] == (2, 2)


def test_the_latents_with_most_information_come_first(bundle, monkeypatch):
    labels = {}

    def grid(tiles, rows, *_, **__):
        labels[rows[0].partition("[")[0]] = rows
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(pictures, "visualize", types.SimpleNamespace(grid=grid))
    names = [name for name, _ in pictures.training_pictures(bundle, images_of(bundle, 2))]
    assert names == ["reconstructions", "traversals_z_sem", "traversals_z_disen"]
    assert labels["z_sem"][0] == "z_sem[1]"
    assert labels["z_sem"][-1] == "z_sem[0]"
    assert labels["original"] == ["original", "z_sem, random x_T", "z_sem, inferred x_T", "VAE"]
