"""Total AUROC difference on binary attributes [Yeats et al. 2022, "NashAE", ECCV], in four protocols."""

import numpy as np
from scipy.stats import rankdata
from sklearn.model_selection import KFold

from cldis_jax.metrics import inputs

PROTOCOLS = ("exact", "nashae", "disdiff", "infodiffusion")
LEAST_AUROC = 0.75
MOST_ENTROPY_REDUCTION = 0.2
LEAST_RANGE = 0.2  # nashae and disdiff skip codes with a smaller range
STEP = {"nashae": 0.01, "disdiff": 0.1}  # distance of thresholds, as a share of the code's range
NUM_FOLDS = 5


def tad(codes: np.ndarray, attributes: np.ndarray, protocol: str = "exact") -> dict[str, float]:
    """`captured`: the number of captured attributes; `tad`: the sum of the gaps between their two best codes.

    codes [N, C], attributes [N, A] with values 0 and 1 (or -1 and 1). A code is scored by its area under the ROC curve
    of an attribute, in the better direction. An attribute is captured if its best area is at least 0.75 and no other
    attribute explains more than 0.2 of its entropy. Attributes with a single value are not captured. Scores of
    different protocols are not comparable:

      exact          exact areas. N and the split are the caller's.
      nashae         ROC curves with 101 thresholds. Codes with a range <= 0.2 get an area of 0.5. The authors use 1,000
                     images, drawn with seed 30.
      disdiff        the same with 11 thresholds (DisDiff, EncDiff), which biases the areas upwards.
      infodiffusion  exact areas on the training parts of 5 shuffled folds: means, `tad_std` and `captured_std`. The
                     authors use the first 10,000 training images.

    Raises:
      ValueError: bad shapes, attributes that are not binary, fewer than two codes, or an unknown protocol.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    codes, attributes = inputs.check_pair(codes, attributes)
    inputs.check_widths(codes, 2, "tad")
    attributes = np.where(attributes == -1, 0, attributes)
    if not np.isin(attributes, (0, 1)).all():
        raise ValueError("tad takes binary attributes, 0 and 1 or -1 and 1")
    if protocol != "infodiffusion":
        return _score(_areas(codes, attributes, STEP.get(protocol)), attributes)
    if len(codes) < NUM_FOLDS:
        raise ValueError(f"infodiffusion needs at least {NUM_FOLDS} samples, got {len(codes)}")
    folds = KFold(NUM_FOLDS, shuffle=True, random_state=0).split(codes)
    scores = [_score(_areas(codes[train], attributes[train], None), attributes[train]) for train, _ in folds]
    mean = {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}
    return mean | {f"{name}_std": float(np.std([score[name] for score in scores])) for name in scores[0]}


def auroc(codes: np.ndarray, attributes: np.ndarray) -> np.ndarray:
    """Exact areas under the ROC curves [A, C] of codes [N, C] as predictors of binary attributes [N, A].

    An area is at least 0.5: a code may predict an attribute in either direction. Attributes with a single value get
    0.5.
    """
    return _areas(codes, attributes, None)


def _score(areas: np.ndarray, attributes: np.ndarray) -> dict[str, float]:
    second, best = np.sort(areas, axis=1)[:, -2:].T
    information = inputs.mutual_information(attributes, attributes)
    entropy = np.diag(information)
    others = np.where(np.eye(len(information), dtype=bool), 0.0, information).max(axis=1)
    reduction = np.divide(others, entropy, out=np.ones_like(entropy), where=entropy > 0)
    captured = (best >= LEAST_AUROC) & (reduction <= MOST_ENTROPY_REDUCTION)
    return {"tad": float(np.sum((best - second)[captured])), "captured": float(captured.sum())}


def _areas(codes: np.ndarray, attributes: np.ndarray, step: float | None) -> np.ndarray:
    """Areas under the ROC curves [A, C] in the better direction. Attributes with a single value get 0.5."""
    positives = attributes.sum(axis=0)
    negatives = len(attributes) - positives
    valid = (positives > 0) & (negatives > 0)
    areas = np.full((attributes.shape[1], codes.shape[1]), 0.5)
    exact_or_coarse = _exact_areas if step is None else _coarse_areas
    areas[valid] = exact_or_coarse(codes, attributes[:, valid].astype(np.float64), step)
    return areas


def _exact_areas(codes: np.ndarray, attributes: np.ndarray, step: None) -> np.ndarray:
    """From the Mann-Whitney statistic; ties count half."""
    positives = attributes.sum(axis=0)[:, None]
    ranks = attributes.T @ rankdata(codes, axis=0)
    area = (ranks - positives * (positives + 1) / 2) / (positives * (len(codes) - positives))
    return np.maximum(area, 1 - area)


def _coarse_areas(codes: np.ndarray, attributes: np.ndarray, step: float) -> np.ndarray:
    """Right Riemann sums over evenly spaced thresholds in the range of each code, as in the NashAE authors' code."""
    least, span = codes.min(axis=0), np.ptp(codes, axis=0)
    positives = attributes.sum(axis=0)[:, None]
    true_rate, false_rate = [], []  # of the predictor z >= threshold, [T, A, C]
    for fraction in np.linspace(0, 1, round(1 / step) + 1):
        above = (codes >= least + fraction * span).astype(np.float64)
        hits = attributes.T @ above
        true_rate.append(hits / positives)
        false_rate.append((above.sum(axis=0) - hits) / (len(codes) - positives))
    true_rate, false_rate = np.stack(true_rate), np.stack(false_rate)
    area = np.maximum(_riemann(false_rate, true_rate), _riemann(1 - false_rate, 1 - true_rate))
    return np.where(span > LEAST_RANGE, area, 0.5)


def _riemann(false_rate: np.ndarray, true_rate: np.ndarray) -> np.ndarray:
    false_rate, true_rate = np.sort(false_rate, axis=0), np.sort(true_rate, axis=0)
    return np.sum(np.diff(false_rate, axis=0) * true_rate[1:], axis=0)
