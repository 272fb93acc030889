"""Boosting on presorted features against scikit-learn's GradientBoostingClassifier."""

import sys

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier

from cldis_jax.metrics import boosting, dci


def problem(num_classes, num=300, seed=0, decimals=None):
    draws = np.random.RandomState(seed)
    labels = draws.randint(num_classes, size=num)
    codes = draws.randn(num, 4) + labels[:, None] * draws.randn(4)
    codes = codes if decimals is None else np.round(codes, decimals)
    return codes, labels


@pytest.mark.parametrize("num_classes", [2, 3, 5])
@pytest.mark.parametrize("decimals", [None, 1])
def test_importances_and_accuracy_match_scikit_learn(num_classes, decimals):
    codes, labels = problem(num_classes, decimals=decimals)
    fresh, _ = problem(num_classes, seed=1, decimals=decimals)
    theirs = GradientBoostingClassifier(random_state=0).fit(codes, labels)
    other_seed = GradientBoostingClassifier(random_state=1).fit(codes, labels)
    ours = boosting.fit(codes, labels, seed=0)
    # Both choose at random between equally good splits: the importances may differ like those of scikit-learn's seeds.
    spread = np.abs(theirs.feature_importances_ - other_seed.feature_importances_).max()
    np.testing.assert_allclose(ours.importances, theirs.feature_importances_, atol=0.01 + spread)
    assert np.mean(boosting.predict(ours, codes) == theirs.predict(codes)) > 0.97
    assert np.mean(boosting.predict(ours, fresh) == theirs.predict(fresh)) > 0.8


def test_the_first_stage_is_scikit_learns_tree_for_tree(monkeypatch):
    """A few stages on continuous codes have no ties: all thresholds and leaves are equal."""
    monkeypatch.setattr(boosting, "NUM_STAGES", 3)
    codes, labels = problem(3, num=2000)
    theirs = GradientBoostingClassifier(n_estimators=3, random_state=0).fit(codes, labels)
    ours = boosting.fit(codes, labels, seed=0)
    for stage, stage_theirs in zip(ours.stages, theirs.estimators_):
        for tree, tree_theirs in zip(stage, stage_theirs):
            split = tree_theirs.tree_.threshold[tree_theirs.tree_.feature >= 0]
            np.testing.assert_allclose(np.sort(tree.threshold[np.isfinite(tree.threshold)]), np.sort(split), rtol=1e-12)
            leaves = tree_theirs.tree_.value[tree_theirs.tree_.children_left == -1].ravel()
            np.testing.assert_allclose(np.sort(tree.value), np.sort(boosting.LEARNING_RATE * leaves), rtol=1e-9)
    np.testing.assert_allclose(ours.importances, theirs.feature_importances_, rtol=1e-9)


def test_labels_keep_their_values_and_seeds_repeat():
    codes, labels = problem(3)
    ensemble = boosting.fit(codes, 10 * labels - 7, seed=3)
    assert set(boosting.predict(ensemble, codes)) == {-7, 3, 13}
    np.testing.assert_array_equal(ensemble.importances, boosting.fit(codes, 10 * labels - 7, seed=3).importances)


def test_equal_codes_share_the_importance():
    """Each split chooses at random between two copies of a code, as in scikit-learn."""
    labels = np.random.RandomState(0).randint(6, size=600)
    noise = labels + 0.5 * np.random.RandomState(1).randn(600)
    importances = boosting.fit(np.stack([noise, noise], axis=1), labels, seed=0).importances
    assert importances.sum() == pytest.approx(1)
    assert importances.min() > 0.4


def test_a_single_class_is_refused():
    with pytest.raises(ValueError, match="every label is 4"):
        boosting.fit(np.zeros((3, 2)), np.full(3, 4), seed=0)


def test_codes_without_information_have_no_importance():
    ensemble = boosting.fit(np.zeros((10, 3)), np.arange(10) % 2, seed=0)
    np.testing.assert_array_equal(ensemble.importances, 0)


def test_progress_and_the_sklearn_learner(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # without a terminal there is no bar
    codes, labels = problem(2, num=100)
    factors = np.stack([labels, np.arange(100) % 3], axis=1)
    ours = dci(codes, factors, codes, factors, seed=0, progress=True)
    assert "400/400" in capsys.readouterr().err  # 100 trees for two classes, 300 for three
    theirs = dci(codes, factors, codes, factors, seed=0, learner="sklearn", progress=True)
    assert "400/400" in capsys.readouterr().err
    assert ours == pytest.approx(theirs, abs=0.02)
