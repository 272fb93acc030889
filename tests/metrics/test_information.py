"""InfoMEC and DCI-ES on codes with known scores, and against simple loops."""

import numpy as np
import pytest
from sklearn.feature_selection import mutual_info_classif

from cldis_jax import metrics
from cldis_jax.metrics import boosting, loss_capacity
from cldis_jax.metrics.infomec import _concentration

SIZES = (5, 4, 3)


def sample(seed, num=600):
    draws = np.random.RandomState(seed)
    factors = np.stack([draws.randint(size, size=num) for size in SIZES], axis=1)
    return factors / (np.array(SIZES) - 1), factors


def turned(codes):
    return codes @ np.linalg.qr(np.random.RandomState(3).randn(3, 3))[0]


def test_identity_codes_have_infomec_one_and_dead_codes_do_not_count():
    codes, factors = sample(0)
    scores = metrics.infomec(codes, factors)
    assert scores["infom"] == pytest.approx(1, abs=0.03)
    assert scores["infoc"] == pytest.approx(1, abs=0.03)
    assert scores["infoe"] == pytest.approx(1, abs=0.01)
    assert scores["active"] == 3
    weak = 0.04 * np.random.RandomState(1).rand(len(codes), 2)  # below a twentieth of the largest range, which is 1
    padded = metrics.infomec(np.hstack([codes, weak]), factors)
    assert padded == pytest.approx(scores, abs=1e-3)


def test_random_codes_explain_nothing():
    scores = metrics.infomec(np.random.RandomState(1).randn(600, 4), sample(0)[1])
    assert scores["infoe"] == pytest.approx(0, abs=0.03)
    assert scores["active"] == 4


def test_a_rotation_lowers_modularity_and_compactness_but_not_explicitness():
    codes, factors = sample(0)
    straight, mixed = metrics.infomec(codes, factors), metrics.infomec(turned(codes), factors)
    assert mixed["infom"] < straight["infom"] - 0.3
    assert mixed["infoc"] < straight["infoc"] - 0.3
    assert mixed["infoe"] == pytest.approx(straight["infoe"], abs=0.01)


def test_infomec_by_hand():
    """Shares of a known table, rescaled: 1/3 is chance for three factors."""
    nmi = np.array([[0.6, 0.2, 0.2], [0.0, 0.5, 0.0], [0.0, 0.0, 0.0]])
    assert _concentration(nmi) == pytest.approx((np.mean([0.6, 1, 1 / 3]) - 1 / 3) / (2 / 3))
    assert _concentration(nmi[:2].T) == pytest.approx((np.mean([1, 0.5 / 0.7, 1]) - 0.5) / 0.5)
    assert _concentration(nmi[:, :1]) == 0  # chance is 1


def test_infomec_by_loops():
    """The definition, one code and factor at a time, with the entropy by counting."""
    codes, factors = sample(0, 300)
    codes = np.hstack([turned(codes), codes[:, :1]]) + 0.1 * np.random.RandomState(1).randn(300, 4)
    nmi = np.empty((4, 3))
    for c, f in np.ndindex(nmi.shape):
        share = np.bincount(factors[:, f]) / len(factors)
        code = (codes[:, [c]] - codes[:, c].mean()) / codes[:, c].std()
        found = mutual_info_classif(code, factors[:, f], n_neighbors=10, random_state=0)[0]
        nmi[c, f] = found / -(share * np.log(share)).sum()
    scores = metrics.infomec(codes, factors)
    assert scores["infom"] == pytest.approx((np.mean(nmi.max(1) / nmi.sum(1)) - 1 / 3) * 3 / 2, abs=0.02)
    assert scores["infoc"] == pytest.approx((np.mean(nmi.max(0) / nmi.sum(0)) - 1 / 4) * 4 / 3, abs=0.02)


def test_infomec_with_one_active_code_or_none():
    codes, factors = sample(0)
    one = metrics.infomec(codes * [1, 0, 0], factors)
    assert (one["infoc"], one["active"]) == (0, 1)
    assert one["infom"] == pytest.approx(1, abs=0.05)
    assert one["infoe"] == pytest.approx(1 / 3, abs=0.02)  # all of one factor of three
    assert metrics.infomec(codes * 0, factors) == {"infom": 0, "infoe": 0, "infoc": 0, "active": 0}


def test_infomec_refuses_what_has_no_score():
    codes, factors = sample(0, 40)
    with pytest.raises(ValueError, match="at least two factors"):
        metrics.infomec(codes, factors[:, :1])
    with pytest.raises(ValueError, match="factor 1 has another value in every sample"):
        metrics.infomec(codes, np.stack([factors[:, 0], np.arange(40)], axis=1))


def test_explicitness_of_a_known_curve():
    """Capacities 0, 1 and 2, baseline .8: the area between the curve and its minimum, over half of 2 x .8."""

    def explicitness(losses, num=10_000):
        return loss_capacity._explicitness(np.arange(3.0), np.array(losses), 0.8, num)

    assert explicitness([0.0, 0.0, 0.0]) == 1
    assert explicitness([0.8, 0.4, 0.0]) == pytest.approx(0)
    assert explicitness([0.4, 0.6, 0.2]) == pytest.approx(1 - 0.3 / 0.8)
    assert explicitness([0.8, 0.9, 0.0]) == pytest.approx(1 - 1.2 / 0.8)
    assert explicitness([0.8, 0.9, 0.8]) == 0  # no probe reads the factor
    assert explicitness([0.75, 0.75, 0.75]) == 1
    assert explicitness([0.75, 0.75, 0.75], num=200) == 0  # less than two standard errors of .028


def test_explicitness_of_codes_that_a_line_reads_and_of_codes_that_it_does_not(monkeypatch):
    """A rotation costs no explicitness. A factor that is the product of two codes takes a larger probe."""
    monkeypatch.setattr(boosting, "NUM_STAGES", 3)
    monkeypatch.setattr(loss_capacity, "NUM_FEATURES", (0, 16, 64))
    codes, factors = sample(0)
    for z in (codes, turned(codes)):
        scores = metrics.dci_es(z[:400], factors[:400], z[400:], factors[400:], seed=0)
        assert scores["explicitness"] == pytest.approx(1, abs=0.05)
        assert scores["size"] == 1
    assert {"disentanglement", "completeness", "informativeness_test"} <= set(scores)
    signs = np.random.RandomState(4).choice([-1.0, 1.0], (600, 2))
    product = (signs.prod(axis=1, keepdims=True) > 0).astype(int)
    hidden = loss_capacity.explicitness(signs[:400], product[:400], signs[400:], product[400:], seed=0)
    assert hidden["size"] == 0.5
    assert hidden["explicitness"] < 0.6


def test_composition_of_a_code_that_means_something_else_on_new_combinations():
    """The second code has its sign changed there, and one value in five is 0."""
    pairs = np.repeat([(i, j) for i in range(5) for j in range(5)], 8, axis=0)
    new = pairs[:, 0] == pairs[:, 1]
    codes = np.hstack([np.eye(5)[pairs[:, 0]], pairs[:, 1:] - 2.0])
    changed = codes * np.where(new[:, None], [1, 1, 1, 1, 1, -1], 1)
    scores = {}
    for name, z in (("apart", codes), ("changed", changed)):
        scores[name] = metrics.composition((codes, pairs), (z[~new], pairs[~new]), (z[new], pairs[new]))
    assert scores["apart"]["seen"] == scores["apart"]["unseen"] == 1
    assert scores["changed"] == {"seen": 1, "unseen": pytest.approx(0.6)}
