"""Supervised metrics on codes with known scores, and against simple loops."""

import collections
import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.svm import LinearSVC

from cldis_jax import metrics
from cldis_jax.metrics.mig import information_shares

SIZES = (3, 4, 5)


def sample(seed, num, sizes=SIZES):
    draws = np.random.RandomState(seed)
    return np.stack([draws.randint(size, size=num) for size in sizes], axis=1)


@pytest.fixture
def identity():
    """Codes equal to the factors, and two codes that never vary."""
    train, test = sample(0, 1500), sample(1, 800)
    return tuple(array for f in (train, test) for array in (np.pad(f.astype(float), ((0, 0), (0, 2))), f))


@pytest.fixture
def noisy():
    draws = np.random.RandomState(2)
    mix = draws.randn(3, 4)
    train, test = sample(0, 400), sample(1, 300)
    return tuple(array for f in (train, test) for array in (f @ mix + draws.randn(len(f), 4), f))


def test_identity_codes_are_perfect(identity):
    scores = metrics.dci(*identity, seed=0)
    assert scores["disentanglement"] == pytest.approx(1, abs=1e-6)
    assert scores["completeness"] == pytest.approx(1, abs=1e-6)
    assert scores["informativeness_train"] == scores["informativeness_test"] == 1
    assert metrics.irs(*identity[:2])["irs"] == pytest.approx(1)
    assert metrics.modularity_explicitness(*identity)["explicitness"] == pytest.approx(1, abs=1e-3)


def test_identity_codes_have_the_mig_of_independent_factors(identity):
    # MIG is below 1 because the factors of a sample depend on each other by chance: about (a - 1)(b - 1) / 2N nats.
    assert metrics.mig(*identity[:2])["mig"] == pytest.approx(1, abs=0.02)


def test_modularity_of_dead_codes_is_zero(identity):
    alive = metrics.modularity_explicitness(identity[0][:, :3], identity[1], identity[2][:, :3], identity[3])
    with_dead = metrics.modularity_explicitness(*identity)
    assert alive["modularity"] == pytest.approx(1, abs=1e-3)
    assert with_dead["modularity"] == pytest.approx(alive["modularity"] * 3 / 5)
    assert with_dead["explicitness"] == pytest.approx(alive["explicitness"])


def test_one_code_for_each_of_two_factors_and_both_factors_in_one_code():
    """DCI by hand: a code used equally for two balanced factors has D = 0, and each factor has C = 1."""
    factors = np.stack(np.divmod(np.arange(400) % 4, 2), axis=1)
    code = np.stack([2 * factors[:, 0] + factors[:, 1], np.zeros(400)], axis=1).astype(float)
    scores = metrics.dci(code, factors, code, factors, seed=0)
    assert scores["disentanglement"] == pytest.approx(0, abs=1e-6)
    assert scores["completeness"] == pytest.approx(1, abs=1e-6)


def test_order_of_codes_and_of_factors_does_not_matter(noisy):
    codes, factors = [2, 0, 3, 1], [1, 2, 0]
    shuffled = (noisy[0][:, codes], noisy[1][:, factors], noisy[2][:, codes], noisy[3][:, factors])
    for score in (metrics.sap, metrics.modularity_explicitness, lambda *a: metrics.dci(*a, seed=0)):
        assert score(*shuffled) == pytest.approx(score(*noisy), abs=3e-3)
    for score in (metrics.mig, metrics.irs):
        assert score(*shuffled[:2]) == pytest.approx(score(*noisy[:2]))


def information(a, b):
    """Plug-in mutual information in nats by counting."""
    pairs, left, right = (collections.Counter(values) for values in (zip(a, b), a, b))
    num = len(a)
    return sum(c / num * math.log(c * num / (left[x] * right[y])) for (x, y), c in pairs.items())


def binned(column):
    low, high = min(column), max(column)
    edges = [low + (high - low) * i / 20 for i in range(20)]
    return [sum(value >= edge for edge in edges) for value in column]


def test_mig_and_modularity_by_counting(noisy):
    codes, factors = noisy[:2]
    table = [[information(binned(code), list(factor)) for factor in factors.T] for code in codes.T]
    gaps, shares = [], information_shares(codes, factors)
    assert shares.shape == (len(table), 3)
    for i, factor in enumerate(factors.T):
        entropy = information(list(factor), list(factor))
        assert shares[:, i] == pytest.approx([row[i] / entropy for row in table], abs=1e-9)
        second, best = sorted(row[i] for row in table)[-2:]
        gaps.append((best - second) / entropy)
    assert metrics.mig(codes, factors)["mig"] == pytest.approx(sum(gaps) / 3, abs=1e-9)
    modularity = [1 - sum(mi**2 for mi in row if mi != max(row)) / (max(row) ** 2 * 2) for row in table]
    assert metrics.modularity_explicitness(*noisy)["modularity"] == pytest.approx(np.mean(modularity), abs=1e-9)


def test_sap_by_one_classifier_a_code(noisy):
    train_codes, train_factors, test_codes, test_factors = noisy
    gaps = []
    for i in range(3):
        scores = []
        for c in range(4):
            svm = LinearSVC(C=0.01, class_weight="balanced").fit(train_codes[:, c : c + 1], train_factors[:, i])
            scores.append(np.mean(svm.predict(test_codes[:, c : c + 1]) == test_factors[:, i]))
        scores.sort()
        gaps.append(scores[-1] - scores[-2])
    assert metrics.sap(*noisy)["sap"] == pytest.approx(np.mean(gaps), abs=1e-3)


def test_explicitness_is_the_mean_area_of_one_against_the_rest(noisy):
    train_codes, train_factors, test_codes, test_factors = noisy
    scale = train_codes.mean(axis=0), train_codes.std(axis=0)
    train_codes, test_codes = ((z - scale[0]) / scale[1] for z in (train_codes, test_codes))
    areas = []
    for train, test in zip(train_factors.T, test_factors.T):
        probability = LogisticRegression().fit(train_codes, train).predict_proba(test_codes)
        areas.append(np.mean([roc_auc_score(test == v, probability[:, v]) for v in range(train.max() + 1)]))
    assert metrics.modularity_explicitness(*noisy)["explicitness"] == pytest.approx(np.mean(areas), abs=1e-6)


def test_irs_of_a_code_without_factors_is_low_and_dead_codes_weigh_nothing():
    factors = sample(0, 2000)
    noise = np.random.RandomState(3).rand(2000, 1)
    # Uniform noise: the 99th percentile of its deviation is 0.99 of the greatest, in any group.
    assert metrics.irs(noise, factors)["irs"] == pytest.approx(0.01, abs=0.01)
    assert metrics.irs(np.pad(noise, ((0, 0), (0, 1))), factors) == metrics.irs(noise, factors)
    assert metrics.irs(np.zeros((2000, 2)), factors) == {"irs": 0.0}


@pytest.mark.parametrize(
    ("codes", "factors", "message"),
    [
        (np.zeros((4, 2, 3)), np.zeros((4, 2)), r"codes must be \[N, C\]"),
        (np.full((4, 2), np.nan), np.zeros((4, 2)), "NaN"),
        (np.zeros((4, 2)), np.zeros((3, 2)), r"factors must be \[N, F\] with N = 4"),
        (np.zeros((4, 2)), np.full((4, 2), 0.5), "whole numbers"),
        (np.zeros((4, 1)), np.arange(8).reshape(4, 2), "at least 2 codes"),
        (np.zeros((4, 2)), np.zeros((4, 2)), "factor 0 has a single value"),
    ],
)
def test_bad_arrays_are_named(codes, factors, message):
    with pytest.raises(ValueError, match=message):
        metrics.mig(codes, factors)


def test_train_and_test_must_agree(noisy):
    with pytest.raises(ValueError, match="train and test codes differ in width: 4 and 3"):
        metrics.dci(noisy[0], noisy[1], noisy[2][:, :3], noisy[3], seed=0)
    with pytest.raises(ValueError, match="learner must be one of presorted, sklearn"):
        metrics.dci(*noisy, seed=0, learner="hist")
    with pytest.raises(ValueError, match="factor 0 takes different values"):
        metrics.modularity_explicitness(noisy[0], noisy[1], noisy[2][:2], noisy[3][:2])
