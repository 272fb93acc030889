"""Scores on the combinations of two factors that were never trained on (`data.holdout_pairs`)."""

import dataclasses
from typing import Any

import numpy as np

from cldis_jax import metrics
from cldis_jax.data import subset
from cldis_jax.evaluation import decoded
from cldis_jax.evaluation.context import Context

POOLS = {"seen": "heldout", "unseen": "combinations"}


def measure(context: Context) -> dict[str, Any]:
    """Accuracy of the two factors with floors, and the MSE of reconstructions, on seen and on unseen combinations.

    The probes are fitted to images of all combinations; see `metrics.composition`. "Seen" are images held out with
    combinations that were trained on, or training images if none is held out.
    """
    settings, source, parts = context.settings, context.source, context.parts
    pair = [source.factor_names.index(name.strip()) for name in context.bundle.config.data.holdout_pairs.split(",")]
    seen = parts.held_out if len(parts.held_out) > 1 else parts.train

    def labels(indices):
        return source.factors(indices)[:, pair]

    def score(represent, seed):
        fitted = subset(np.arange(len(source)), settings.num_train, seed)
        tests = [subset(np.setdiff1d(p, fitted), settings.num_test, seed) for p in (seen, parts.combinations)]
        return metrics.composition(*((represent(indices), labels(indices)) for indices in (fitted, *tests)))

    result = context.scored(score, source.factors)
    few = dataclasses.replace(settings, decode_steps=tuple(settings.decode_steps)[:1])
    for which, pool in POOLS.items():
        found = decoded.reconstruction(dataclasses.replace(context, settings=dataclasses.replace(few, pool=pool)))
        result |= {f"{name}, {which}": value for name, value in found.items() if name.startswith("mse")}
    share = len(parts.combinations) / len(source)
    names = " and ".join(np.array(source.factor_names)[pair])
    return result | {"note": f"{share:.0%} of the combinations of {names} were never trained on"}
