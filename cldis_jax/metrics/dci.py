"""Disentanglement, completeness, informativeness [Eastwood & Williams 2018, "A framework for the quantitative
evaluation of disentangled representations", section 2]."""

import numpy as np
import scipy.stats
from sklearn.ensemble import GradientBoostingClassifier
from tqdm import tqdm

from cldis_jax.metrics import boosting, inputs

LEARNERS = ("presorted", "sklearn")


def dci(
    train_codes,
    train_factors,
    test_codes,
    test_factors,
    *,
    seed: int,
    learner: str = "presorted",
    progress: bool = False,
) -> dict[str, float]:
    """`disentanglement`, `completeness`, `informativeness_train`, `informativeness_test` (mean accuracies).

    A gradient-boosted classifier for each factor gives the importance of every code, as in disentanglement_lib's `dci`
    (10,000 training and 5,000 test samples). `presorted` fits scikit-learn's trees on presorted features (boosting.py).
    `sklearn` calls GradientBoostingClassifier itself and is about seven times slower. The two differ only where splits
    are equally good, as two seeds of either one do. `progress` shows a bar over trees.

    Raises:
      ValueError: bad shapes, fewer than two codes or factors, a factor with a single value, or an unknown learner.
    """
    arrays = inputs.check_split(train_codes, train_factors, test_codes, test_factors)
    train_codes, train_factors, test_codes, test_factors = arrays
    inputs.check_widths(train_codes, 2, "dci")
    if train_factors.shape[1] < 2:
        raise ValueError("dci needs at least two factors")
    if learner not in LEARNERS:
        raise ValueError(f"learner must be one of {', '.join(LEARNERS)}, got {learner!r}")
    classes = [len(np.unique(column)) for column in train_factors.T]
    trees = boosting.NUM_STAGES * sum(1 if num == 2 else num for num in classes)
    importances, train_accuracy, test_accuracy = [], [], []
    with tqdm(total=trees, desc="DCI", unit="tree", disable=not progress or None) as bar:
        for train, test in zip(train_factors.T, test_factors.T):
            importance, predict = _learn(learner, train_codes, train, seed, bar.update)
            importances.append(np.abs(importance))
            train_accuracy.append(np.mean(predict(train_codes) == train))
            test_accuracy.append(np.mean(predict(test_codes) == test))
    relative = np.stack(importances, axis=1)
    return {
        "disentanglement": _one_minus_entropy(relative.T),
        "completeness": _one_minus_entropy(relative),
        "informativeness_train": float(np.mean(train_accuracy)),
        "informativeness_test": float(np.mean(test_accuracy)),
    }


def _learn(learner: str, codes, labels, seed: int, update):
    """(importance of every code [C], prediction function) for one factor."""
    if learner == "presorted":
        ensemble = boosting.fit(codes, labels, seed=seed, on_stage=update)
        return ensemble.importances, lambda x: boosting.predict(ensemble, x)

    def monitor(stage, model, local):
        update(model.n_trees_per_iteration_)

    model = GradientBoostingClassifier(random_state=seed).fit(codes, labels, monitor=monitor)
    return model.feature_importances_, model.predict


def _one_minus_entropy(importances: np.ndarray) -> float:
    """1 - normalised entropy of each column, averaged with the sums of the columns as weights."""
    scores = np.clip(1 - scipy.stats.entropy(importances + 1e-11, base=len(importances)), 0, 1)  # rounding
    weights = importances.sum(axis=0)
    return float(np.average(scores, weights=weights if weights.sum() > 0 else None))
