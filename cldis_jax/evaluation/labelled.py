"""Scores against known factors or attributes, beside their floors; and the agreement of several models."""

from typing import Any

import numpy as np

from cldis_jax import api, losses, state
from cldis_jax.evaluation.codes import Codes, Untrained
from cldis_jax.evaluation.context import Context, subset, summary
from cldis_jax.metrics import tad, udr

UDR_IMAGES = 1000
TAD_IMAGES = {"nashae": 1000, "disdiff": 1000, "infodiffusion": 10_000}  # exact: the whole pool


def intervened(metric, context: Context) -> dict[str, Any]:
    """FactorVAE and BetaVAE, which ask for images of factors that they choose."""
    settings, source = context.settings, context.source
    num_train, num_eval = settings.num_train, settings.num_test
    if settings.num_votes:
        num_train, num_eval = settings.num_votes, max(1, settings.num_votes // 2)

    def score(represent, seed):
        rng = np.random.default_rng(seed)  # where several images share their factors, one of them is drawn
        return metric(
            lambda factors: represent(source.index_of(factors, rng)),
            source.factor_sizes,
            seed=seed,
            num_train=num_train,
            num_eval=num_eval,
        )

    return context.scored(score, source.factors)


def split(metric, context: Context, *, seeded: bool = False, **arguments) -> dict[str, Any]:
    """Metrics that learn on one sample and test on another."""
    num_train, num_test = context.settings.num_train, context.settings.num_test

    def score(represent, seed):
        indices = context.draw(num_train + num_test, seed)
        parts = indices[:num_train], indices[num_train:]
        arrays = [array for part in parts for array in (represent(part), context.source.factors(part))]
        return metric(*arrays, **arguments, **({"seed": seed} if seeded else {}))

    return context.scored(score, context.source.factors)


def paired(metric, context: Context) -> dict[str, Any]:
    """Metrics of one sample."""

    def score(represent, seed):
        indices = context.draw(context.settings.num_train, seed)
        return metric(represent(indices), context.source.factors(indices))

    return context.scored(score, context.source.factors)


def total_auroc_difference(context: Context) -> dict[str, Any]:
    """TAD on the set's attributes by the protocol that was asked for."""
    protocol, source = context.settings.protocol, context.source
    num = min(TAD_IMAGES.get(protocol, len(context.pool)), len(context.pool))

    def score(represent, seed):
        indices = np.arange(num) if protocol == "infodiffusion" else subset(context.pool, num, seed)
        return tad(represent(indices), source.attributes(indices), protocol)

    return context.scored(score, source.attributes) | {"note": f"protocol {protocol}, {num} images"}


def ranking(context: Context) -> dict[str, Any]:
    """UDR of the models in --workdirs on the same images; the floor is as many untrained encoders."""
    settings = context.settings
    bundles = [context.bundle, *(api.load(path) for path in settings.workdirs)]
    for path, bundle in zip(settings.workdirs, bundles[1:]):
        for field in ("source", "name", "path", "image_size", "channels"):
            theirs, ours = bundle.config.data[field], context.bundle.config.data[field]
            if theirs != ours:
                raise ValueError(
                    f"udr compares models of the same images: data.{field}={theirs!r} in {path}, not {ours!r}"
                )
    codes = [Codes(bundle, context.source, settings.latent, f"model {i}") for i, bundle in enumerate(bundles)]
    draws = [subset(context.pool, UDR_IMAGES, seed) for seed in range(settings.seeds)]

    def kl(bundle, indices):
        images = state.to_unit_range(context.source.fetch(indices).astype(np.float32))
        mean, log_var = bundle.encode_posterior(images)
        return np.asarray(losses.gaussian_kl(mean, log_var).mean(axis=0))

    def score(indices):
        kls = [kl(bundle, indices) for bundle in bundles] if settings.latent == "z_disen" else None
        return udr([code(indices) for code in codes], kls)

    untrained = [
        Untrained(bundle, context.source, settings.latent, i, draws[0])(draws[0]) for i, bundle in enumerate(bundles)
    ]
    result = summary([score(indices) for indices in draws], {"untrained": [udr(untrained)]})
    return result | {"note": f"{len(bundles)} models, {len(draws[0])} images"}
