"""TAD in its four protocols: known cases, simple loops and the bias of the coarse curves."""

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score, roc_auc_score
from sklearn.model_selection import KFold

from cldis_jax import metrics
from cldis_jax.metrics.tad import PROTOCOLS, _areas


def sample(num=500, seed=0, shift=3.0):
    """Three independent attributes. The first two shift one code each; the third shifts none."""
    draws = np.random.RandomState(seed)
    attributes = (draws.rand(num, 3) < 0.4).astype(int)
    codes = draws.randn(num, 4)
    codes[:, 1] += shift * attributes[:, 0]
    codes[:, 2] -= shift * attributes[:, 1]
    return codes, attributes


def by_loops(codes, attributes, area):
    table = np.array([[area(code, attribute) for code in codes.T] for attribute in attributes.T])
    total, captured = 0.0, 0
    for a, row in enumerate(table):
        second, best = sorted(row)[-2:]
        own = mutual_info_score(attributes[:, a], attributes[:, a])
        others = [mutual_info_score(attributes[:, a], b) for i, b in enumerate(attributes.T) if i != a]
        if best >= 0.75 and max(others) / own <= 0.2:
            total, captured = total + best - second, captured + 1
    return {"tad": pytest.approx(total, abs=1e-9), "captured": captured}


def exact(code, attribute):
    area = roc_auc_score(attribute, code)
    return max(area, 1 - area)


def coarse(step):
    def area(code, attribute):
        low, span = code.min(), code.max() - code.min()
        if span <= 0.2:
            return 0.5
        areas = []
        for sign in (1, -1):
            rates = []
            for t in np.arange(round(1 / step) + 1) * step:
                above = code >= low + t * span
                predicted = above if sign == 1 else ~above
                rates.append((predicted[attribute == 0].mean(), predicted[attribute == 1].mean()))
            false, true = (sorted(rate) for rate in zip(*rates))
            areas.append(sum((false[i + 1] - false[i]) * true[i + 1] for i in range(len(false) - 1)))
        return max(areas)

    return area


@pytest.mark.parametrize(("protocol", "area"), [("exact", exact), ("nashae", coarse(0.01)), ("disdiff", coarse(0.1))])
def test_protocols_by_plain_loops(protocol, area):
    codes, attributes = sample()
    codes[:, 3] *= 0.01  # below the least range of the coarse protocols
    codes[:, 2] = np.round(codes[:, 2])  # ties
    ours = metrics.tad(codes, attributes, protocol)
    assert ours == by_loops(codes, attributes, area)
    assert ours["captured"] == 2


def test_infodiffusion_averages_the_training_parts_of_five_folds():
    codes, attributes = sample(200)
    parts = [
        metrics.tad(codes[train], attributes[train]) for train, _ in KFold(5, shuffle=True, random_state=0).split(codes)
    ]
    values = [part["tad"] for part in parts]
    ours = metrics.tad(codes, attributes, "infodiffusion")
    assert ours["tad"] == pytest.approx(np.mean(values))
    assert ours["tad_std"] == pytest.approx(np.std(values))
    assert ours["captured"] == 2


def test_a_perfect_code_leads_by_a_half_over_noise():
    attributes = np.stack(np.divmod(np.arange(2000) % 4, 2), axis=1)
    independent = np.arange(2000)[:, None] // 4
    codes = np.concatenate([attributes, independent], axis=1).astype(float)
    scores = metrics.tad(codes, attributes)
    assert scores == {"tad": pytest.approx(1.0), "captured": 2.0}
    assert metrics.tad(codes, 2 * attributes - 1) == scores  # -1 and 1


def test_attributes_that_explain_each_other_or_never_vary_are_left_out():
    codes, attributes = sample()
    twins = np.concatenate([attributes, attributes[:, :1]], axis=1)
    assert metrics.tad(codes, twins)["captured"] == 1
    constant = np.concatenate([attributes, np.ones((500, 1), int)], axis=1)
    for protocol in PROTOCOLS:
        assert metrics.tad(codes, constant, protocol)["captured"] == 2


# Mean area of one Gaussian code of shift d, 1,000 samples of 20 % positives: exact, step 0.01, step 0.1.
@pytest.mark.parametrize(
    ("shift", "areas"), [(0.0, (0.518, 0.527, 0.607)), (1.0, (0.762, 0.769, 0.829)), (2.5, (0.961, 0.964, 0.979))]
)
def test_coarse_curves_are_biased_upwards_by_as_much_as_measured(shift, areas):
    draws = np.random.RandomState(0)
    found = []
    for _ in range(40):
        attribute = (draws.rand(1000, 1) < 0.2).astype(float)
        code = draws.randn(1000, 1) + shift * attribute
        found.append([_areas(code, attribute, step)[0, 0] for step in (None, 0.01, 0.1)])
    np.testing.assert_allclose(np.mean(found, axis=0), areas, atol=0.012)


def test_bad_input_is_refused():
    codes, attributes = sample(20)
    with pytest.raises(ValueError, match="exact, nashae, disdiff, infodiffusion"):
        metrics.tad(codes, attributes, "celeba")
    with pytest.raises(ValueError, match="binary"):
        metrics.tad(codes, attributes + 1)
    with pytest.raises(ValueError, match="at least 2 codes"):
        metrics.tad(codes[:, :1], attributes)
