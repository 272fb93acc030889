"""Frechet distance in closed form, statistics over batches, resizing by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from etils import epath
from PIL import Image

from cldis_jax.metrics import fid


def test_distance_of_diagonal_gaussians():
    draws = np.random.RandomState(0)
    mean1, mean2, std1, std2 = draws.randn(2, 20).tolist() + np.abs(draws.randn(2, 20)).tolist()
    mean1, mean2, std1, std2 = map(np.array, (mean1, mean2, std1, std2))
    expected = np.sum((mean1 - mean2) ** 2) + np.sum((std1 - std2) ** 2)
    distance = fid.frechet_distance(mean1, np.diag(std1**2), mean2, np.diag(std2**2))
    assert distance == pytest.approx(expected, rel=1e-9)


def test_distance_is_that_of_the_rotated_gaussians():
    draws = np.random.RandomState(0)
    rotation = np.linalg.qr(draws.randn(10, 10))[0]
    std1, std2 = np.abs(draws.randn(2, 10)) + 0.1
    cov1, cov2 = (rotation @ np.diag(std**2) @ rotation.T for std in (std1, std2))
    distance = fid.frechet_distance(np.zeros(10), cov1, np.ones(10), cov2)
    assert distance == pytest.approx(10 + np.sum((std1 - std2) ** 2), rel=1e-8)


def test_distance_in_two_dimensions_that_do_not_commute():
    # tr (AB)^(1/2) of positive 2x2 matrices is sqrt(tr AB + 2 sqrt(det AB)).
    a, b = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.3], [-0.3, 3.0]])
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))
    assert fid.frechet_distance([0, 0], a, [3, 4], b) == pytest.approx(25 + np.trace(a + b) - 2 * root)


def test_singular_covariances_have_distance_zero_from_themselves():
    features = np.random.RandomState(0).randn(5, 30)  # rank 4
    statistics = fid.running_statistics([features])
    assert fid.fid(statistics, statistics) == pytest.approx(0, abs=1e-5)


def test_distance_equals_that_of_the_matrix_root():
    draws = np.random.RandomState(0)
    a, b = (np.cov(draws.randn(40, 12), rowvar=False) for _ in range(2))
    expected = np.trace(a) + np.trace(b) - 2 * np.trace(scipy.linalg.sqrtm(a @ b)).real
    assert fid.frechet_distance(np.zeros(12), a, np.zeros(12), b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("cosine", [0.0, 0.6, 1.0])
def test_distance_of_covariances_of_rank_one(cosine):
    """tr (u u^T v v^T)^(1/2) is |u . v|, also if the product is nilpotent and has no root."""
    basis = np.linalg.qr(np.random.RandomState(0).randn(50, 2))[0]
    u, v = 3 * basis[:, 0], 2 * (cosine * basis[:, 0] + np.sqrt(1 - cosine**2) * basis[:, 1])
    distance = fid.frechet_distance(np.zeros(50), np.outer(u, u), np.zeros(50), np.outer(v, v))
    assert distance == pytest.approx(9 + 4 - 2 * 6 * cosine, abs=1e-6)


def test_distance_of_fewer_images_than_features():
    """Covariances of rank 9 in planes turned by one angle, in 60 dimensions."""
    draws = np.random.RandomState(0)
    basis, angle = np.linalg.qr(draws.randn(60, 18))[0], 0.4
    first, second = basis[:, :9], np.cos(angle) * basis[:, :9] + np.sin(angle) * basis[:, 9:]
    std1, std2 = np.abs(draws.randn(2, 9)) + 0.1
    a, b = first * std1**2 @ first.T, second * std2**2 @ second.T
    expected = np.sum(std1**2 + std2**2) - 2 * np.cos(angle) * np.sum(std1 * std2)
    assert fid.frechet_distance(np.zeros(60), a, np.zeros(60), b) == pytest.approx(expected, abs=1e-9)
    assert fid.frechet_distance(np.zeros(60), a, np.zeros(60), 0 * b) == pytest.approx(np.sum(std1**2))


def test_shapes_must_fit():
    with pytest.raises(ValueError, match="two means"):
        fid.frechet_distance(np.zeros(2), np.eye(2), np.zeros(3), np.eye(3))


def test_running_statistics_are_those_of_the_whole():
    features = 1e3 + np.random.RandomState(0).randn(50, 4).astype(np.float32)
    statistics = fid.running_statistics(np.split(features, [7, 8, 30]))
    np.testing.assert_allclose(statistics.mean, features.astype(np.float64).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(statistics.covariance, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-9)
    assert statistics.count == 50
    with pytest.raises(ValueError, match="at least two images, got 1"):
        fid.running_statistics([features[:1]])


def test_statistics_are_computed_once(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return fid.running_statistics([np.eye(3)])

    first, second = (fid.cached_statistics(tmp_path / "cache" / "shapes.npz", compute) for _ in range(2))
    assert len(calls) == 1
    np.testing.assert_array_equal(first.covariance, second.covariance)
    assert second.count == 3
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["shapes.npz"]
    fid.cached_statistics(tmp_path / "elsewhere" / "shapes.npz", compute, write=False)
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "broken.npz").write_bytes(b"no")
    with pytest.raises(ValueError, match="holds no FID statistics"):
        fid.cached_statistics(tmp_path / "broken.npz", compute)


def test_statistics_are_saved_through_epath(tmp_path):
    """Statistics can be in a bucket; here a missing folder replaces the bucket."""

    def local(function, *paths, **options):
        return function(*(str(path).replace("/bucket", str(tmp_path)) for path in paths), **options)

    names = ("open", "exists", "mkdir", "makedirs", "replace", "rename")
    with epath.testing.mock_epath(**dict.fromkeys(names, local)):
        path = "/bucket/fid_statistics/shapes.npz"
        first = fid.cached_statistics(path, lambda: fid.running_statistics([np.eye(3)]))
        second = fid.cached_statistics(path, lambda: pytest.fail("computed again"))
    np.testing.assert_array_equal(first.covariance, second.covariance)
    assert [path.name for path in tmp_path.rglob("*.npz")] == ["shapes.npz"]


@pytest.mark.parametrize("resize", fid.RESIZES)
def test_network_inputs_are_between_minus_one_and_one(monkeypatch, resize):
    """The input is (x - 128) / 128 for x in 0 to 255, as in clean-fid and the original FID."""
    monkeypatch.setattr(fid.inception.InceptionV3, "apply", lambda self, variables, x: x.mean(axis=(1, 2)))
    features = fid.make_features({}, resize)
    levels = np.array([-1, 1, 0.5])
    found = features(np.broadcast_to(levels, (1, 32, 32, 3)).astype(np.float32))
    np.testing.assert_allclose(found[0], (np.rint((levels + 1) * 127.5) - 128) / 128, atol=1e-5)


def test_clean_resize_filters_before_it_drops_pixels():
    """A checkerboard shrinks to its mean. A filter without antialiasing would keep black or white."""
    board = 255.0 * np.indices((64, 64)).sum(axis=0)[..., None].repeat(3, axis=-1) % 510
    small = fid.clean_resize(board, 8)
    assert small.dtype == np.float32
    np.testing.assert_allclose(small[2:-2, 2:-2], 127.5, atol=1.5)


def test_clean_resize_keeps_fractions_and_the_range():
    ramp = np.linspace(0, 255, 8, dtype=np.float32)[None, :, None].repeat(8, axis=0)
    large = fid.clean_resize(ramp, 20)
    assert large.shape == (20, 20, 1)
    assert large.min() >= 0
    assert large.max() <= 255
    rounded = Image.fromarray(np.rint(ramp[..., 0]).astype(np.uint8)).resize((20, 20), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(large[..., 0], np.asarray(rounded), atol=1.5)
    assert np.abs(large - np.rint(large)).max() > 0.2
    np.testing.assert_array_equal(fid.clean_resize(ramp, 8), ramp)


def test_tensorflow_resize_by_hand():
    image = np.random.RandomState(0).rand(3, 5)
    expected = np.zeros((7, 7))
    for i in range(7):
        for j in range(7):
            y, x = i * 3 / 7, j * 5 / 7
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, 2), min(x0 + 1, 4)
            top = image[y0, x0] * (1 - (x - x0)) + image[y0, x1] * (x - x0)
            bottom = image[y1, x0] * (1 - (x - x0)) + image[y1, x1] * (x - x0)
            expected[i, j] = top * (1 - (y - y0)) + bottom * (y - y0)
    resized = fid.tensorflow_resize(jnp.asarray(image[None, :, :, None], jnp.float32), 7)
    np.testing.assert_allclose(resized[0, :, :, 0], expected, atol=1e-6)


def test_bad_images_and_resizes_are_refused():
    with pytest.raises(ValueError, match="clean, tensorflow"):
        fid.make_features({}, "nearest")
    with pytest.raises(ValueError, match="colour images"):
        fid.make_features({})(np.zeros((1, 8, 8, 1)))
