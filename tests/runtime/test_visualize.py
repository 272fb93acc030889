"""The grid writer: the places of labels."""

import numpy as np

from cldis_jax.runtime import visualize


def test_long_labels_stay_in_their_column():
    images = np.ones((1, 3, 64, 64, 3))
    picture = visualize.grid(images, column_labels=["a_long_name_of_a_file", "b", "another_long_name"])
    labels, width = picture[:20], 64 + visualize.MARGIN
    assert (labels < 128).any()
    for edge in (width, 2 * width):
        assert (labels[:, edge - 1 : edge + 1] == 255).all()
