"""Neighbours of known codes."""

import numpy as np

from cldis_jax.api.neighbours import Neighbours

CODES = np.array([[0.0, 0.0], [1.0, 10.0], [2.0, -10.0], [-3.0, 5.0]])
FOUND = Neighbours(CODES, np.array([1.0, 10.0]))


def test_distances_are_in_standard_deviations():
    rows, distances = FOUND.nearest(np.array([0.0, 10.0]), 3)
    assert rows.tolist() == [0, 1, 2]
    np.testing.assert_allclose(distances, [1, 1, np.sqrt(8)])
    rows, distances = FOUND.nearest(np.array([0.0, 10.0]), 2, unit=1)
    assert rows.tolist() == [1, 3]
    np.testing.assert_allclose(distances, [0, 0.5])


def test_extremes_and_a_unit_that_never_varies():
    low, high = FOUND.extremes(0, 2)
    assert low.tolist() == [3, 0]
    assert high.tolist() == [2, 1]
    still = Neighbours(CODES, np.array([1.0, 0.0]))
    assert np.isfinite(still.nearest(np.zeros(2), 4)[1]).all()
