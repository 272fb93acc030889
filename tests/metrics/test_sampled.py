"""The metrics that sample factors themselves: FactorVAE and BetaVAE."""

import numpy as np
import pytest

from cldis_jax import metrics
from cldis_jax.metrics import sampling

SIZES = (4, 6, 3)
SMALL = {"num_train": 300, "num_eval": 300, "batch_size": 16}


def identity(factors):
    return factors.astype(float)


def test_identity_codes_are_perfect():
    assert metrics.factor_vae(identity, SIZES, seed=0, **SMALL)["factor_vae"] == 1
    # 300 points are too few to train the classifier fully.
    assert metrics.beta_vae(identity, SIZES, seed=0, **SMALL)["beta_vae"] > 0.98


def test_codes_without_factors_score_at_chance():
    draws = np.random.RandomState(0)
    score = metrics.factor_vae(lambda f: draws.randn(len(f), 8), SIZES, seed=0, num_train=3000, num_eval=3000)
    assert score["factor_vae"] == pytest.approx(1 / 3, abs=0.04)
    score = metrics.beta_vae(lambda f: draws.randn(len(f), 8), SIZES, seed=0, num_train=1000, num_eval=3000)
    assert score["beta_vae"] == pytest.approx(1 / 3, abs=0.05)


def test_constant_and_faint_codes_are_pruned():
    def represent(factors):
        faint = 0.01 * factors[:, :1] / 3  # standard deviation below 0.05, the smallest of all
        return np.concatenate([factors, np.ones((len(factors), 2)), faint], axis=1)

    score = metrics.factor_vae(represent, SIZES, seed=0, **SMALL)
    assert score["factor_vae"] == 1
    assert score["num_active"] == 3
    assert metrics.factor_vae(represent, SIZES, seed=0, prune_std=0.0, **SMALL)["num_active"] == 4
    dead = metrics.factor_vae(lambda f: np.zeros((len(f), 2)), SIZES, seed=0, **SMALL)
    assert dead == {"factor_vae": 0.0, "factor_vae_train": 0.0, "num_active": 0.0}


def test_factor_vae_of_a_rotation_is_one_half():
    """Two binary factors, rotated by 45 degrees: a fixed factor halves the variance of both codes."""

    def rotated(factors):
        return np.stack([factors[:, 0] + factors[:, 1], factors[:, 0] - factors[:, 1]], axis=1)

    score = metrics.factor_vae(rotated, (2, 2), seed=0, num_train=2000, num_eval=2000)
    assert score["factor_vae"] == pytest.approx(0.5, abs=0.05)


def test_batches_share_one_factor():
    """FactorVAE fixes one factor in a batch. In BetaVAE a pair shares one factor, whose value varies between pairs."""
    batches = []

    def record(factors):
        batches.append(factors)
        return identity(factors)

    metrics.factor_vae(record, SIZES, seed=0, num_variance_estimate=50, num_train=40, num_eval=10, batch_size=32)
    assert [len(batch) for batch in batches] == [50, 40 * 32, 10 * 32]
    for batch in batches[1].reshape(40, 32, 3):
        assert ((batch == batch[0]).all(axis=0)).sum() == 1
    batches.clear()
    metrics.beta_vae(record, SIZES, seed=0, num_train=40, num_eval=10, batch_size=32)
    for batch in batches[0].reshape(40, 2, 32, 3):
        (shared,) = np.flatnonzero((batch[0] == batch[1]).all(axis=0))
        assert len(set(batch[0, :, shared])) > 1


def test_factors_are_uniform_over_all_values():
    factors = sampling.sample_factors(np.random.default_rng(0), np.array(SIZES), 30_000)
    for column, size in zip(factors.T, SIZES):
        np.testing.assert_allclose(np.bincount(column, minlength=size) / 30_000, 1 / size, atol=0.01)


def test_seeds_repeat_and_differ():
    noise = np.random.RandomState(0).randn(4, 6, 3, 5)

    def represent(factors):
        return noise[tuple(factors.T)]

    scores = [metrics.factor_vae(represent, SIZES, seed=seed, **SMALL)["factor_vae"] for seed in (0, 0, 1)]
    assert scores[0] == scores[1] != scores[2]


def test_order_of_codes_and_of_factors_does_not_matter():
    mix, noise = np.random.RandomState(0).randn(3, 5), np.random.RandomState(1).randn(*SIZES, 5)
    codes, factors = [3, 0, 4, 1, 2], [1, 2, 0]

    def represent(f):
        return f @ mix + noise[tuple(f.T)]

    def shuffled(f):  # takes its factors in another order, gives its codes in another
        return represent(f[:, np.argsort(factors)])[:, codes]

    sizes = {"num_train": 2000, "num_eval": 2000, "batch_size": 16}
    for metric in (metrics.factor_vae, metrics.beta_vae):
        name = metric.__name__
        expected = metric(represent, SIZES, seed=0, **sizes)[name]
        same_draws = metric(lambda f: represent(f)[:, codes], SIZES, seed=0, **sizes)[name]
        assert same_draws == pytest.approx(expected, abs=2e-3)
        other_draws = metric(shuffled, [SIZES[i] for i in factors], seed=0, **sizes)[name]
        assert other_draws == pytest.approx(expected, abs=0.04)  # three standard errors of 2,000 votes


@pytest.mark.parametrize("sizes", [(), (3, 0), ((3, 4),)])
def test_bad_sizes_are_refused(sizes):
    with pytest.raises(ValueError, match="factor_sizes must be"):
        metrics.factor_vae(identity, sizes, seed=0)


def test_bad_codes_are_refused():
    with pytest.raises(ValueError, match=r"represent must give \[N, C\]"):
        metrics.factor_vae(lambda f: f[:, 0], SIZES, seed=0)
    with pytest.raises(ValueError, match="NaN"):
        metrics.beta_vae(lambda f: f * np.nan, SIZES, seed=0, **SMALL)
    with pytest.raises(ValueError, match="at least two factors"):
        metrics.beta_vae(identity, (3,), seed=0)
