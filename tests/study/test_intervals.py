"""Intervals over seeds, against scipy's t-tests."""

import numpy as np
import pytest
import scipy.stats

from cldis_jax.study import intervals

A, B = (0.7, 0.9, 0.8, 0.75, 0.85), (0.6, 0.85, 0.7, 0.7, 0.7)


def test_the_interval_of_a_mean_is_students():
    low, high = scipy.stats.ttest_1samp(A, 0).confidence_interval(0.95)
    found = intervals.over_seeds(A)
    assert (found.mean, found.low, found.high) == pytest.approx((0.8, low, high))


def test_the_interval_of_a_paired_difference_is_that_of_the_paired_t_test():
    low, high = scipy.stats.ttest_rel(A, B).confidence_interval(0.95)
    found = intervals.paired_difference(A, B)
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(A) - np.mean(B), low, high))


def test_one_seed_has_no_interval_and_equal_values_have_one_of_no_width():
    one = intervals.over_seeds([0.4])
    assert (one.mean, one.low, one.high) == (0.4, None, None)
    same = intervals.over_seeds([0.5, 0.5, 0.5])
    assert (same.low, same.high) == (0.5, 0.5)


def test_seeds_must_agree():
    with pytest.raises(ValueError, match="shapes"):
        intervals.paired_difference(A, B[:3])
