"""Batches of one size, and the codes of a data set."""

import dataclasses

import jax
import numpy as np
import pytest

from cldis_jax.api import codes
from cldis_jax.data.scenes import Scenes
from cldis_jax.runtime.errors import UserError
from tests import random_params


@pytest.mark.parametrize("num", [1, 3, 4, 9])
def test_batches_are_of_one_size_and_change_nothing(num):
    shapes = []

    def double(x, y):
        shapes.append(x.shape)
        return 2 * x + y

    x, y = np.arange(2 * num, dtype=np.float32).reshape(num, 2), np.ones((num, 2), np.float32)
    np.testing.assert_array_equal(codes.in_batches(double, x, y, size=4), 2 * x + y)
    assert set(shapes) == {(4, 2)}
    assert len(shapes) == -(-num // 4)


@pytest.fixture
def bundle(tiny):
    return random_params.bundle(tiny)


@pytest.mark.parametrize("latent", ["z_sem", "z_disen"])
def test_codes_by_index_are_those_of_the_images(bundle, latent):
    source, indices = Scenes(16), np.array([7, 479_999, 7, 12, 100])
    images = source.fetch(indices).astype(np.float32) / 127.5 - 1
    found = codes.encode(bundle, latent, source, indices, size=2)
    np.testing.assert_allclose(found, bundle.represent(images, latent), atol=1e-5)


def test_codes_that_are_not_finite_are_refused(bundle):
    broken = jax.tree.map(lambda leaf: leaf * np.nan, bundle.ema.params)
    bundle = dataclasses.replace(bundle, ema=bundle.ema.replace(params=broken), step=4)
    with pytest.raises(UserError, match=r"\d+ of \d+ codes are not finite at step 4 of the model"):
        codes.encode(bundle, "z_sem", Scenes(16), np.arange(3))
