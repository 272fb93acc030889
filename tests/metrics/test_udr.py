"""UDR on models with known agreement."""

import itertools

import numpy as np
import pytest
from scipy.stats import spearmanr

from cldis_jax import metrics


@pytest.fixture
def codes():
    return np.random.RandomState(0).randn(1000, 4)


def test_permuted_scaled_and_flipped_models_agree(codes):
    other = 3 * codes[:, [2, 0, 3, 1]] * np.array([1, -1, 1, -1]) + 5
    # Lasso shrinks the only coefficient of standardised codes from 1 to 1 - alpha.
    assert metrics.udr([codes, other])["udr"] == pytest.approx(0.9, abs=0.03)
    # Chance correlations of 4 independent codes in 1,000 samples lower the score by a few hundredths.
    assert metrics.udr([codes, other], correlation="spearman")["udr"] == pytest.approx(1, abs=0.12)


def test_rotated_models_agree_less(codes):
    rotation = np.linalg.qr(np.random.RandomState(1).randn(4, 4))[0]
    scores = metrics.udr([codes, codes[:, ::-1], codes @ rotation])
    assert scores["udr_2"] < scores["udr_0"] - 0.1
    assert scores["udr"] == pytest.approx(np.mean([scores[f"udr_{i}"] for i in range(3)]))


def test_spearman_by_plain_loops(codes):
    models = [codes, codes @ np.random.RandomState(1).randn(4, 3), np.exp(codes[:, :2])]
    scores = {}
    for (i, a), (j, b) in itertools.permutations(enumerate(models), 2):
        table = [[abs(spearmanr(x, y).statistic) for y in b.T] for x in a.T]
        rows = np.mean([max(row) ** 2 / sum(row) for row in table])
        columns = np.mean([max(column) ** 2 / sum(column) for column in zip(*table)])
        scores[i, j] = (rows + columns) / 2
    ours = metrics.udr(models, correlation="spearman")
    for i in range(3):
        assert ours[f"udr_{i}"] == pytest.approx(np.median([scores[i, j] for j in range(3) if j != i]))


def test_codes_at_the_prior_are_pruned(codes):
    noise = np.random.RandomState(2).randn(1000, 2)
    widened = np.concatenate([codes, noise], axis=1)
    kl = [np.array([1, 1, 1, 1, 0.01, 0.001])] * 2
    pruned = metrics.udr([widened, widened[:, [3, 2, 1, 0, 4, 5]]], kl)
    assert pruned == pytest.approx(metrics.udr([codes, codes[:, ::-1]]))
    assert metrics.udr([codes, codes], [np.zeros(4), np.ones(4)])["udr"] == 0


def test_bad_input_is_refused(codes):
    with pytest.raises(ValueError, match="at least two models"):
        metrics.udr([codes])
    with pytest.raises(ValueError, match="same images"):
        metrics.udr([codes, codes[:10]])
    with pytest.raises(ValueError, match="kls must be"):
        metrics.udr([codes, codes], [np.zeros(4), np.zeros(3)])
    with pytest.raises(ValueError, match="lasso, spearman"):
        metrics.udr([codes, codes], correlation="pearson")
