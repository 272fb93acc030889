"""The distances of the probe against independent formulas, the factor share by hand, and the training of the probe."""

from unittest import mock

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from cldis_jax.data import Source
from cldis_jax.data.published import Mpi3D
from cldis_jax.data.scenes import Scenes
from cldis_jax.data.sprites import Sprites
from cldis_jax.navigation import factor_probe


def distributions(n, num=5):
    return np.random.default_rng(0).dirichlet(np.full(n, 0.5), size=(2, num))


def test_distance_on_a_line_is_scipys_over_the_range():
    p, q = distributions(8)
    expected = [scipy.stats.wasserstein_distance(range(8), range(8), a, b) / 7 for a, b in zip(p, q)]
    np.testing.assert_allclose(factor_probe.wasserstein("line", p, q), expected, rtol=1e-9)


def test_distance_on_a_circle_is_the_cheapest_transport():
    p, q = distributions(6)
    places = np.arange(6)
    hops = np.abs(places[:, None] - places[None])
    hops = np.minimum(hops, 6 - hops)
    sums = np.concatenate([np.kron(np.eye(6), np.ones(6)), np.kron(np.ones(6), np.eye(6))])
    for a, b, found in zip(p, q, factor_probe.wasserstein("circle", p, q)):
        plan = scipy.optimize.linprog(hops.ravel(), A_eq=sums, b_eq=np.concatenate([a, b]))
        np.testing.assert_allclose(found, plan.fun / 3, atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "start", "end", "expected"),
    [("line", 0, 9, 1), ("circle", 0, 9, 1 / 5), ("circle", 2, 7, 1), ("category", 1, 2, 1), ("line", 3, 3, 0)],
)
def test_distance_between_certain_values(kind, start, end, expected):
    p, q = np.eye(10)[[start]], np.eye(10)[[end]]
    np.testing.assert_allclose(factor_probe.wasserstein(kind, p, q), [expected], atol=1e-12)


def test_a_factor_of_one_value_never_changes():
    np.testing.assert_array_equal(factor_probe.wasserstein("line", np.ones((3, 1)), np.ones((3, 1))), 0)


def test_factor_share():
    assert factor_probe.factor_share(np.eye(4)) == 1
    assert factor_probe.factor_share(np.ones((3, 4))) == pytest.approx(1 / 4)
    assert factor_probe.factor_share(np.array([[3.0, 1.0], [0.0, 0.0]])) == pytest.approx((0.75 + 0.5) / 2)


def test_geometry():
    assert factor_probe.geometry(Scenes(16)) == ("circle", "circle", "circle", "line", "category", "line")
    assert factor_probe.geometry(Sprites(16)) == ("category", "line", "circle", "line", "line")
    mpi3d = mock.Mock(factor_names=Mpi3D.factor_names)
    mpi3d.name = "mpi3d_toy"
    assert factor_probe.geometry(mpi3d) == ("category", "category", "line", "line", "category", "line", "line")
    smallnorb = mock.Mock(factor_names=("category", "elevation", "azimuth", "lighting"))
    smallnorb.name = "smallnorb"
    assert factor_probe.geometry(smallnorb) == ("category", "line", "circle", "category")


class Bars(Source):
    """A bright column in one of four places, on one of three greys."""

    name, factor_names, factor_sizes = "bars", ("place", "grey"), (4, 3)

    def fetch(self, indices):
        place, grey = self.factors(indices).T
        images = np.broadcast_to((40 * grey)[:, None, None, None], (len(indices), 8, 8, 1)).astype(np.uint8)
        images[np.arange(len(indices)), :, 2 * place] = 255
        return images


def test_probe_learns_is_reused_and_detects_changes(tmp_path):
    source = Bars()
    probe = factor_probe.load_or_train(tmp_path / "probe", source, np.arange(12), steps=120)
    np.testing.assert_array_equal(factor_probe.tested(probe, source, np.arange(12)), [1, 1])

    before = (tmp_path / "probe").stat().st_mtime_ns
    kept = factor_probe.load_or_train(tmp_path / "probe", source, np.arange(12), steps=120)
    assert (tmp_path / "probe").stat().st_mtime_ns == before
    images = source.fetch(np.arange(12)).astype(np.float32) / 127.5 - 1
    for a, b in zip(probe.read(images), kept.read(images)):
        np.testing.assert_array_equal(a, b)

    moved = source.fetch(source.index_of(np.array([[3, 0]]))) / 127.5 - 1
    place, grey = kept.changes(images[:1].astype(np.float32), moved.astype(np.float32))
    assert place > 0.8
    assert grey < 0.1


class Marked(Bars):
    """Two attributes in place of factors: a bright column on the right, a light grey."""

    name, factor_names, factor_sizes = "marked", (), ()
    attribute_names = ("right", "light")

    def __len__(self):
        return 12

    def attributes(self, indices):
        place, grey = np.unravel_index(indices, Bars.factor_sizes)
        return np.stack([place > 1, grey == 2], axis=-1).astype(np.int64)

    def fetch(self, indices):
        return Bars().fetch(indices)


def test_probe_of_attributes():
    source = Marked()
    labels = factor_probe.labels_of(source)
    assert (labels.names, labels.sizes, labels.measure) == (("right", "light"), (2, 2), "auroc")
    probe = factor_probe.train_probe(source, np.arange(12), steps=120)
    np.testing.assert_array_equal(factor_probe.tested(probe, source, np.arange(12)), [1, 1])
    images = source.fetch(np.arange(12)).astype(np.float32) / 127.5 - 1
    wrong = 1 - source.attributes(np.arange(12))
    np.testing.assert_array_equal(probe.score(images, wrong), [0, 0])  # an area has a direction
    one_value = np.stack([wrong[:, 0], np.ones(12, int)], axis=1)
    np.testing.assert_array_equal(probe.score(images, one_value), [0, np.nan])
    right, light = probe.changes(images[:1], images[9:10])  # to the last place, on the same grey
    assert right > 0.8
    assert light < 0.1


def test_accuracy_of_factors_is_a_share():
    source, half = Bars(), np.arange(12)
    probe = factor_probe.train_probe(source, half, steps=120)
    images = source.fetch(half).astype(np.float32) / 127.5 - 1
    values = source.factors(half)
    values[:3, 0] = (values[:3, 0] + 1) % 4
    np.testing.assert_allclose(probe.score(images, values), [0.75, 1])


def test_a_probe_of_other_settings_is_not_used(tmp_path, monkeypatch):
    trained = []

    def train(source, indices, *, steps, seed):
        trained.append((len(indices), steps, seed))
        return factor_probe.Probe({"w": np.zeros(1)}, source.factor_sizes, ("line", "line"))

    monkeypatch.setattr(factor_probe, "train_probe", train)
    asked = [(12, 5, 0), (12, 5, 0), (12, 7, 0), (12, 7, 1), (11, 7, 1), (11, 7, 1)]
    for num, steps, seed in asked:
        factor_probe.load_or_train(tmp_path / "probe", Bars(), np.arange(num), steps=steps, seed=seed)
    assert trained == [(12, 5, 0), (12, 7, 0), (12, 7, 1), (11, 7, 1)]


def test_a_probe_of_other_labels_or_images_is_not_used(tmp_path, monkeypatch):
    trained = []
    blank = factor_probe.Probe({"w": np.zeros(1)}, (2, 2), ("line", "line"))
    monkeypatch.setattr(factor_probe, "train_probe", lambda source, *_, **__: trained.append(source) or blank)
    source, corrected, other = Marked(), Marked(), Marked()
    corrected.attributes = lambda indices: 1 - source.attributes(indices)
    monkeypatch.setattr(Marked, "digest", property(lambda self: "other" if self is other else "same"))
    for asked in (source, source, corrected, corrected, other):
        factor_probe.load_or_train(tmp_path / "probe", asked, np.arange(12), steps=5)
    assert trained == [source, corrected, other]


@pytest.mark.slow
def test_probe_reads_scenes():
    source = Scenes(32)
    order = np.random.default_rng(0).permutation(len(source))
    probe = factor_probe.train_probe(source, order[2000:])
    assert factor_probe.tested(probe, source, order[:1000]).min() > 0.8
