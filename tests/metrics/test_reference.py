"""Every metric against disentanglement_lib 1.5 on the same arrays.

The numbers were computed once with the published wheel (numpy 2.4, scikit-learn 1.9) from `reference_arrays`. Those of
DCI are means over three runs, because its boosting has no seed there; the runs differ by up to 0.002.
"""

import numpy as np
import pytest

from cldis_jax import metrics

SIZES = (4, 6, 3)
UNIT = np.array(SIZES)

REFERENCE = {
    "mix": {
        "mig": 0.2512186,
        "sap": 0.033,
        "modularity": 0.6485035,
        "explicitness": 1.0,
        "irs": 0.5039057,
        "informativeness_train": 1.0,
        "informativeness_test": 1.0,
        "disentanglement": 0.4474777,
        "completeness": 0.4652313,
    },
    "noisy": {
        "mig": 0.0637009,
        "sap": 0.0346667,
        "modularity": 0.8684056,
        "explicitness": 0.9869824,
        "irs": 0.4782122,
        "informativeness_train": 0.9750556,
        "informativeness_test": 0.851,
        "disentanglement": 0.3549149,
        "completeness": 0.2358371,
    },
    "aligned": {
        "mig": 0.6964018,
        "sap": 0.2876667,
        "modularity": 0.8237823,
        "explicitness": 0.9630952,
        "irs": 0.537326,
        "informativeness_train": 0.9273333,
        "informativeness_test": 0.7967778,
        "disentanglement": 0.796138,
        "completeness": 0.7647087,
    },
    "rounded": {
        "mig": 0.0597761,
        "sap": 0.0373333,
        "modularity": 0.869803,
        "explicitness": 0.9843194,
        "irs": 0.4810388,
        "informativeness_train": 0.9353333,
        "informativeness_test": 0.8467778,
        "disentanglement": 0.3547004,
        "completeness": 0.2386484,
    },
}


def reference_arrays(kind, num_train=2000, num_test=1000, num_codes=6):
    """(train codes, train factors, test codes, test factors)."""
    draws = np.random.RandomState(0)
    num = num_train + num_test
    factors = np.stack([draws.randint(size, size=num) for size in SIZES], axis=1)
    mix = draws.randn(len(SIZES), num_codes)
    noise = 0.1 * draws.randn(num, num_codes)
    unit = factors / UNIT
    codes = {
        "mix": unit @ mix,
        "noisy": unit @ mix + noise,
        "aligned": np.pad(unit, ((0, 0), (0, num_codes - len(SIZES)))) + noise,
        "rounded": np.round(unit @ mix + noise, 1),
    }[kind]
    return codes[:num_train], factors[:num_train], codes[num_train:], factors[num_train:]


@pytest.fixture(params=REFERENCE)
def case(request):
    return reference_arrays(request.param), REFERENCE[request.param]


def test_mig_modularity_and_irs_are_equal(case):
    arrays, reference = case
    ours = metrics.mig(*arrays[:2]) | metrics.irs(*arrays[:2]) | metrics.modularity_explicitness(*arrays)
    for name in ("mig", "irs", "modularity"):
        assert ours[name] == pytest.approx(reference[name], abs=1e-6), name
    assert ours["explicitness"] == pytest.approx(reference["explicitness"], abs=1e-3)


def test_sap_is_equal(case):
    arrays, reference = case
    assert metrics.sap(*arrays)["sap"] == pytest.approx(reference["sap"], abs=1e-3)


def test_dci_agrees_to_the_spread_of_its_seeds(case):
    arrays, reference = case
    for name, value in metrics.dci(*arrays, seed=0).items():
        assert value == pytest.approx(reference[name], abs=0.01), name


def mixed(factors):
    return factors / UNIT @ np.random.RandomState(0).randn(3, 6)


# Means over five seeds of disentanglement_lib on `mixed`; the seeds differ by 0.001.
def test_factor_vae_and_beta_vae_agree_over_seeds():
    sizes = {"num_train": 3000, "num_eval": 1500}
    vote = [
        metrics.factor_vae(mixed, SIZES, seed=s, num_variance_estimate=3000, **sizes)["factor_vae"] for s in range(3)
    ]
    assert np.mean(vote) == pytest.approx(0.9968, abs=0.005)
    linear = [metrics.beta_vae(mixed, SIZES, seed=s, **sizes)["beta_vae"] for s in range(3)]
    assert np.mean(linear) == pytest.approx(1.0, abs=0.005)


# (sizes, seed of the mix) -> FactorVAE and BetaVAE scores of disentanglement_lib, RandomState(seed), study settings.
FLOORS = {
    ((10, 10, 10, 8, 4, 15), 0): (0.7566, 0.9728),
    ((10, 10, 10, 8, 4, 15), 1): (0.8836, 0.9736),
    ((10, 10, 10, 8, 4, 15), 2): (0.8102, 0.9776),
    ((4, 24, 183), 0): (1.0, 1.0),
}


def study_samples(sizes, seed):
    """10,000 and 5,000 samples, as in the study, of ten codes that mix the factors."""
    mix, draws = np.random.RandomState(seed).randn(len(sizes), 10), np.random.RandomState(0)
    factors = np.stack([draws.randint(size, size=15_000) for size in sizes], axis=1)
    codes = factors / np.array(sizes) @ mix
    return codes[:10_000], factors[:10_000], codes[10_000:], factors[10_000:]


# Scores of disentanglement_lib for the second mix above, with its own samples.
def test_a_random_mix_gives_the_floors_of_mig_and_sap():
    arrays = study_samples((10, 10, 10, 8, 4, 15), seed=1)
    assert metrics.mig(*arrays[:2])["mig"] == pytest.approx(0.107, abs=0.003)
    assert metrics.sap(*arrays)["sap"] == pytest.approx(0.040, abs=0.005)


@pytest.mark.slow
def test_a_random_mix_gives_the_floors_of_modularity_and_dci():
    arrays = study_samples((10, 10, 10, 8, 4, 15), seed=1)
    found = metrics.dci(*arrays, seed=0) | metrics.modularity_explicitness(*arrays)
    assert found["modularity"] == pytest.approx(0.926, abs=0.005)
    assert found["disentanglement"] == pytest.approx(0.404, abs=0.01)
    assert found["completeness"] == pytest.approx(0.340, abs=0.01)


@pytest.mark.parametrize(("sizes", "seed"), FLOORS)
def test_random_mixes_give_the_floors(sizes, seed):
    mix = np.random.RandomState(seed).randn(len(sizes), 10)
    floor, linear_floor = FLOORS[sizes, seed]

    def represent(factors):
        return factors / np.array(sizes) @ mix

    # 5,000 votes: the standard error of both scores is 0.006, plus that of the majority classifier.
    assert metrics.factor_vae(represent, sizes, seed=seed)["factor_vae"] == pytest.approx(floor, abs=0.02)
    assert metrics.beta_vae(represent, sizes, seed=seed)["beta_vae"] == pytest.approx(linear_floor, abs=0.015)
