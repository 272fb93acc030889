"""The rendered scenes: their grid, their geometry and the visibility of every factor."""

import numpy as np
import pytest

from cldis_jax.data import scenes
from cldis_jax.data.scenes import HEIGHT, RADIUS, SHAPES, Scenes


@pytest.fixture(scope="module")
def source():
    return Scenes(32)


def random_factors(source, count, seed=0):
    return np.random.default_rng(seed).integers(0, source.factor_sizes, (count, 6))


def test_indices_and_factors_are_the_grid_of_shapes3d(source):
    assert len(source) == 480_000
    assert source.factor_sizes == (10, 10, 10, 8, 4, 15)
    strides = np.array([48_000, 4_800, 480, 60, 15, 1])  # products of the sizes of later factors
    indices = np.random.default_rng(0).integers(0, len(source), 1000)
    np.testing.assert_array_equal(source.factors(indices) @ strides, indices)
    np.testing.assert_array_equal(source.index_of(source.factors(indices)), indices)
    np.testing.assert_array_equal(
        source.factors([1, 15, 479_999]), [[0] * 5 + [1], [0] * 4 + [1, 0], [9, 9, 9, 7, 3, 14]]
    )


def test_images_are_reproducible_and_do_not_depend_on_the_batch(source):
    indices = np.random.default_rng(1).integers(0, len(source), 20)
    images = source.fetch(indices)
    assert images.shape == (20, 32, 32, 3)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(Scenes(32).fetch(indices[::-1])[::-1], images)
    np.testing.assert_array_equal(source.fetch(indices[3:4])[0], images[3])


@pytest.mark.parametrize("factor", range(6))
def test_one_step_of_every_factor_is_visible_at_32_pixels(source, factor):
    least_share = (0.25, 0.25, 0.05, 0.025, 0.05, 0.015)[factor]  # of the pixels
    before = random_factors(source, 200)
    before[:, :3] = (before[:, :1] + [0, 3, 6]) % 10  # three different hues, so that every border is visible
    before[:, factor] %= source.factor_sizes[factor] - 1
    after = before.copy()
    after[:, factor] += 1
    change = np.abs(source.render(before).astype(int) - source.render(after)).max(-1) > 12
    assert change.mean((1, 2)).min() > least_share


def test_raycast_equals_render_on_the_grid_and_is_smooth_between(source):
    factors = random_factors(source, 12)
    difference = source.render(factors).astype(int) - source.raycast(factors.astype(float))
    assert np.abs(difference).max() <= 1
    base = np.array([0.0, 3, 6, 4, 2, 7])
    path = np.repeat(base[None], 9, 0)
    path[:, 5] += np.linspace(0, 1, 9)
    frames = source.raycast(path).astype(int)
    steps = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    assert steps.min() > 0
    assert steps.max() < 0.5 * np.abs(frames[-1] - frames[0]).mean()


def test_hues_are_continuous_and_periodic(source):
    np.testing.assert_allclose(scenes.hue_to_rgb(np.array(0.0)) / scenes.VALUE, [1, 0.15, 0.15])
    np.testing.assert_allclose(scenes.hue_to_rgb(np.array(10 / 3)) / scenes.VALUE, [0.15, 1, 0.15])
    factors = np.array([[0.0, 5, 5, 3, 1, 4], [10.0, 5, 5, 3, 1, 4], [0.5, 5, 5, 3, 1, 4], [1.0, 5, 5, 3, 1, 4]])
    start, wrapped, between, end = source.render(factors).astype(int)
    np.testing.assert_array_equal(start, wrapped)
    assert np.abs(between - (start + end) / 2).max() <= 1  # red to orange is linear in RGB


def test_the_floor_has_its_hue_under_lambert_shading(source):
    """The lower right corner is floor with Lambert shading. The shadow is on the left."""
    image = source.render(np.array([[2, 7, 4, 0, 0, 7]]))[0]
    light = scenes.AMBIENT + scenes.DIFFUSE * 0.75 / np.sqrt(0.55**2 + 0.75**2 + 0.38**2)
    np.testing.assert_allclose(image[-1, -1], 255 * light * scenes.hue_to_rgb(np.array(2.0)), atol=1)


def distance_to(solid, p):
    """Signed distance of points [N, 3] to a solid of scale 1, by textbook formulas without ray casting."""
    r, h = RADIUS[solid], HEIGHT[solid]
    across = np.linalg.norm(p[:, ::2], axis=-1)
    if solid == "cube":
        q = np.abs(p - [0, h / 2, 0]) - [r, h / 2, r]
    elif solid == "cylinder":
        q = np.stack([across - r, np.abs(p[:, 1] - h / 2) - h / 2], -1)
    else:
        centre = np.clip(p[:, 1], r, h - r)
        return np.hypot(across, p[:, 1] - centre) - r
    return np.linalg.norm(np.maximum(q, 0), axis=-1) + np.minimum(q.max(-1), 0)


@pytest.mark.parametrize("solid", SHAPES)
def test_rays_meet_the_solid_where_sphere_tracing_does(solid):
    rng = np.random.default_rng(0)
    origins = rng.normal(size=(2000, 3))
    origins = 5 * origins / np.linalg.norm(origins, axis=-1, keepdims=True) + [0, 1, 0]
    rays = rng.uniform([-1, -0.5, -1], [1, 2.5, 1], (2000, 3)) - origins
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    travelled, closest = np.zeros(2000), np.full(2000, np.inf)
    for _ in range(200):
        distance = distance_to(solid, origins + travelled[:, None] * rays)
        closest = np.minimum(closest, distance)
        travelled = np.minimum(travelled + distance, 20)

    met, normals = scenes._intersect(solid, 1.0, origins.astype(np.float32), rays.astype(np.float32))
    hit = np.zeros(2000, bool)
    hit[met] = True
    clear = (closest < 1e-6) | (closest > 1e-2)  # the other rays touch the surface tangentially
    assert clear.mean() > 0.95
    assert 0.2 < hit.mean() < 0.8
    np.testing.assert_array_equal(hit[clear], closest[clear] < 1e-6)

    end = (origins + travelled[:, None] * rays)[met]
    gradient = [(distance_to(solid, end + e) - distance_to(solid, end - e)) / 2e-4 for e in np.eye(3) * 1e-4]
    gradient = np.stack(gradient, -1)
    aligned = (gradient * normals).sum(-1)
    assert np.quantile(aligned, 0.03) > 0.99  # except at edges, where the gradient is not continuous


def test_any_size_from_16_pixels():
    assert Scenes(17).raycast(np.zeros((1, 6))).shape == (1, 17, 17, 3)
    with pytest.raises(ValueError, match="16"):
        Scenes(8)
