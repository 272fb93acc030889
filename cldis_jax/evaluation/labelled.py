"""Scores against known factors or attributes, with their floors; and the agreement of several models."""

import functools
from typing import Any

import numpy as np

from cldis_jax.api.codes import of_images
from cldis_jax.data import subset
from cldis_jax.evaluation.context import Context, Represent, summary
from cldis_jax.evaluation.floors import Codes, Untrained
from cldis_jax.method import vae_loss
from cldis_jax.metrics import dci, mig, tad, udr
from cldis_jax.metrics.loss_capacity import explicitness
from cldis_jax.metrics.mig import information_shares
from cldis_jax.runtime import visualize

UDR_IMAGES = 1000
# Images of a protocol, drawn by the seed; infodiffusion takes the first ones, exact the whole pool.
TAD_IMAGES = {"nashae": 1000, "disdiff": 1000, "infodiffusion": 10_000}


def intervened(metric, context: Context) -> dict[str, Any]:
    """FactorVAE and BetaVAE, which choose the factors of the images that they score."""
    settings, source = context.settings, context.source
    num_train, num_eval = settings.num_train, settings.num_test
    if settings.num_votes:
        num_train, num_eval = settings.num_votes, max(1, settings.num_votes // 2)

    def score(represent, seed):
        rng = np.random.default_rng(seed)  # draws one of several images with the same factors
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


def importances(context: Context) -> dict[str, Any]:
    """DCI by the learner of the settings; measured once for an evaluation, because it takes the longest."""
    if "dci" not in context.shared:
        learner = context.settings.dci_learner
        context.shared["dci"] = split(dci, context, seeded=True, progress=True, learner=learner)
    return context.shared["dci"]


def ease_of_use(context: Context) -> dict[str, Any]:
    """DCI-ES: the scores of DCI, explicitness and size."""
    return importances(context) | split(explicitness, context, seeded=True)


def of_one_sample(metric, context: Context, represent: Represent, seed: int) -> Any:
    """`metric` of the codes and factors that a seed draws."""
    indices = context.draw(context.settings.num_train, seed)
    return metric(represent(indices), context.source.factors(indices))


def paired(metric, context: Context) -> dict[str, Any]:
    """Metrics of one sample."""
    return context.scored(functools.partial(of_one_sample, metric, context), context.source.factors)


def information_gap(context: Context) -> dict[str, Any]:
    """MIG; `details` and a picture have the mutual information of each code and each factor."""
    settings, source = context.settings, context.source
    result = paired(mig, context)
    seeds = range(settings.seeds)
    mean = np.mean([of_one_sample(information_shares, context, context.codes, seed) for seed in seeds], axis=0)
    if context.draws:
        picture = visualize.heatmap(
            mean,
            [f"{settings.latent}[{code}]" for code in range(len(mean))],
            source.factor_names,
            f"information of {settings.latent} about each factor",
            "mutual information, share of the entropy",
        )
        visualize.save_png(context.folder / "mutual_information.png", picture)
    return result | {"details": {"information_shares": dict(zip(source.factor_names, mean.T.tolist()))}}


def total_auroc_difference(context: Context) -> dict[str, Any]:
    """TAD on the set's attributes by each protocol of the settings; the names of the first have no suffix.

    Images without labels are left out. A protocol is measured once if all seeds have the same images.
    """
    source, pool = context.source, context.labelled_pool
    result, notes = {}, []
    for protocol in context.settings.protocol:
        num = min(TAD_IMAGES.get(protocol, len(pool)), len(pool))
        first = protocol == "infodiffusion"

        def score(represent, seed, protocol=protocol, num=num, first=first):
            indices = pool[:num] if first else subset(pool, num, seed)
            return tad(represent(indices), source.attributes(indices), protocol)

        seeds = 1 if first or num == len(pool) else None
        scores = context.scored(score, source.attributes, seeds, pool, pixels=True)
        suffix = f", {protocol}" if notes else ""
        result |= {f"{name}{suffix}": value for name, value in scores.items()}
        notes.append(f"protocol {protocol}, {num} images")
    without = len(context.pool) - len(pool)
    left_out = [f"{without} images without labels are left out"] if without else []
    return result | {"note": "; ".join(notes + left_out)}


def ranking(context: Context) -> dict[str, Any]:
    """UDR of the models in --workdirs on the same images; the floor is the UDR of as many untrained encoders."""
    settings = context.settings
    bundles = [context.bundle, *context.compared]
    codes = [Codes(bundle, context.source, settings.latent, f"model {i}") for i, bundle in enumerate(bundles)]
    draws = [subset(context.pool, UDR_IMAGES, seed) for seed in range(settings.seeds)]

    def kl(bundle, indices):
        def of(images):
            return vae_loss.gaussian_kl(*bundle.encode_posterior(images))

        return of_images(of, context.source, indices, name="KL").mean(axis=0)

    def score(encoders, indices):
        kls = [kl(e.bundle, indices) for e in encoders] if settings.latent == "z_disen" else None
        return udr([encoder(indices) for encoder in encoders], kls)

    def untrained(seed):
        indices = subset(context.pool, UDR_IMAGES, seed)
        first = seed * len(bundles)  # no encoder is used twice
        encoders = [Untrained(b, context.source, settings.latent, first + i, indices) for i, b in enumerate(bundles)]
        return score(encoders, indices)

    floors = {"untrained": [untrained(seed) for seed in range(settings.floor_seeds)]}
    result = summary([score(codes, indices) for indices in draws], floors)
    return result | {"note": f"{len(bundles)} models, {len(draws[0])} images"}
