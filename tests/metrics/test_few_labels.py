"""Probes with few labels: codes that say all, something or nothing; and which images are tested."""

import numpy as np
import pytest
from scipy.stats import norm

from cldis_jax import metrics
from cldis_jax.metrics.tad import auroc


def sample(num=4000, shift=1.0, seed=0):
    draws = np.random.default_rng(seed)
    attributes = (draws.random((num, 2)) < [0.5, 0.1]).astype(int)
    codes = draws.normal(size=(num, 3))
    codes[:, :2] += shift * attributes
    return codes, attributes


def test_codes_that_are_the_attributes_need_two_labels():
    _, attributes = sample()
    assert metrics.few_labels(attributes.astype(float), attributes[:, :1], 2)["auroc"] == 1


def test_noise_is_not_learnt():
    codes, attributes = sample(shift=0)
    assert metrics.few_labels(codes, attributes, 100)["auroc"] == pytest.approx(0.5, abs=0.03)


def test_with_many_labels_the_area_is_that_of_the_best_linear_probe():
    """Two normal distributions a distance d apart have the area Phi(d / sqrt(2))."""
    codes, attributes = sample(20_000, shift=1.5)
    found = metrics.few_labels(codes, attributes, 1000)
    assert found["auroc"] == pytest.approx(norm.cdf(1.5 / np.sqrt(2)), abs=0.01)
    assert found["auroc"] > metrics.few_labels(codes, attributes, 4)["auroc"] + 0.03


def test_rare_attributes_are_left_out_and_counted():
    codes, attributes = sample(300)
    assert metrics.few_labels(codes, attributes, 100)["attributes"] == 1
    with pytest.raises(ValueError, match="no attribute has more than 250 images of each value"):
        metrics.few_labels(codes, attributes, 500)


def test_labelled_images_are_no_test_images():
    """Codes that name each image are learnt by heart, and say nothing about other images."""
    attributes = np.random.default_rng(0).integers(0, 2, (60, 1))
    assert metrics.few_labels(np.eye(60), attributes, 40)["auroc"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("num", [0, 3])
def test_the_number_of_labels_is_even(num):
    with pytest.raises(ValueError, match="must be even and at least 2"):
        metrics.few_labels(*sample(), num)


def test_areas_of_normal_distributions():
    codes, attributes = sample(40_000, shift=-1.0)
    expected = np.full((2, 3), 0.5)
    expected[[0, 1], [0, 1]] = norm.cdf(1 / np.sqrt(2))
    np.testing.assert_allclose(auroc(codes, attributes), expected, atol=0.015)
