"""Batches of one size, and what the pictures of a run are made of."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from cldis_jax.api import pictures
from cldis_jax.method import train_step
from tests import random_params


@pytest.mark.parametrize("num", [1, 3, 4, 9])
def test_chunks_are_of_one_size_and_change_nothing(num):
    shapes = []

    def double(x, y):
        shapes.append(x.shape)
        return 2 * x + y

    x, y = np.arange(2 * num, dtype=np.float32).reshape(num, 2), np.ones((num, 2), np.float32)
    np.testing.assert_array_equal(pictures.in_chunks(double, x, y, size=4), 2 * x + y)
    assert set(shapes) == {(4, 2)}
    assert len(shapes) == -(-num // 4)


@pytest.fixture
def bundle(tiny):
    std = jnp.array([0.1, 3.0, *[0.2] * 8])
    moments = train_step.Moments(weight=jnp.ones(()), first=jnp.zeros(10), second=jnp.square(std))
    return random_params.bundle(tiny, step=5, z_sem=moments, z_disen=moments)


def images_of(bundle, num):
    return np.random.default_rng(0).uniform(-1, 1, (num, *bundle.image_shape)).astype(np.float32)


def test_own_noise_is_the_inversion(bundle):
    images = images_of(bundle, 3)
    expected = bundle.encode_noise(images, bundle.encode(images), 4)
    np.testing.assert_allclose(pictures.own_noise(bundle, images, 4), expected, atol=1e-4)


def test_of_many_latents_a_few_are_drawn(bundle, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_TRAVERSED", 2)
    shapes = {}

    def grid(tiles, rows, *_, **__):
        shapes[rows[0].partition("[")[0]] = len(rows), len(tiles)
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(pictures, "visualize", types.SimpleNamespace(grid=grid))
    list(pictures.training_pictures(bundle, images_of(bundle, 1)))
    assert bundle.config.model.latent_dim > 2
    assert shapes["z_sem"] == shapes["z_disen"] == (2, 2)


def test_the_latents_that_say_most_come_first(bundle, monkeypatch):
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
