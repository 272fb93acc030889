"""The rendered sprites: the grid of dSprites, binary pixels, and the size and position of every shape."""

import numpy as np
import pytest

from cldis_jax.data import sprites
from cldis_jax.data.sprites import Sprites


def test_the_grid_is_that_of_dsprites():
    source = Sprites(64)
    assert len(source) == 737_280
    assert source.factor_sizes == (3, 6, 40, 32, 32)
    strides = np.array([245_760, 40_960, 1_024, 32, 1])
    indices = np.random.default_rng(0).integers(0, len(source), 1000)
    np.testing.assert_array_equal(source.factors(indices) @ strides, indices)
    np.testing.assert_array_equal(source.index_of(source.factors(indices)), indices)


def test_images_are_binary_reproducible_and_replicated_to_three_channels():
    indices = np.arange(0, 737_280, 40_009)
    images = Sprites(64).fetch(indices)
    assert images.shape == (len(indices), 64, 64, 1)
    assert set(np.unique(images)) == {0, 255}
    np.testing.assert_array_equal(Sprites(64, channels=3).fetch(indices), np.repeat(images, 3, -1))
    np.testing.assert_array_equal(Sprites(64).fetch(indices[5:6])[0], images[5])


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        (0, (2 * sprites.SQUARE) ** 2),
        (1, np.pi * sprites.ELLIPSE[0] * sprites.ELLIPSE[1]),
        (2, 3.6620 * sprites.HEART**2),  # the area inside (x^2 + y^2 - 1)^3 = x^2 y^3
    ],
)
def test_areas_follow_the_closed_forms_at_every_scale_and_angle(shape, area):
    factors = [[shape, scale, angle, 16, 16] for scale in range(6) for angle in (0, 5, 17)]
    covered = (Sprites(256).render(np.array(factors)) > 0).mean((1, 2, 3))
    expected = np.repeat(area * np.linspace(0.5, 1, 6) ** 2, 3)
    np.testing.assert_allclose(covered, expected, rtol=0.04)


@pytest.mark.parametrize("shape", range(2))  # the heart's centre of mass is not its centre
def test_the_centre_of_mass_is_the_position(shape):
    factors = np.array([[shape, 5, 7, x, y] for x in (0, 13, 31) for y in (0, 20, 31)])
    images = Sprites(64).render(factors)[..., 0] / 255
    pixel = (np.arange(64) + 0.5) / 64
    mass = images.sum((1, 2))
    np.testing.assert_allclose((images.sum(1) @ pixel) / mass, 0.25 + factors[:, 3] / 62, atol=0.01)
    np.testing.assert_allclose((images.sum(2) @ pixel) / mass, 0.25 + factors[:, 4] / 62, atol=0.01)


def test_no_shape_is_cut_by_the_frame():
    corners = [[s, 5, a, x, y] for s in range(3) for a in range(40) for x in (0, 31) for y in (0, 31)]
    images = Sprites(64).render(np.array(corners))
    assert not images[:, [0, -1]].any()
    assert not images[:, :, [0, -1]].any()


@pytest.mark.parametrize("factor", range(5))
def test_every_factor_is_visible_at_32_pixels(factor):
    source = Sprites(32)
    before = np.random.default_rng(0).integers(0, source.factor_sizes, (200, 5))
    before[:, 1] = 5
    before[:, factor] = 0
    after = before.copy()
    after[:, factor] = {0: 2, 1: 5, 2: 5, 3: 8, 4: 8}[factor]
    changed = source.render(before) != source.render(after)
    assert changed.mean((1, 2, 3)).min() > 0.01
