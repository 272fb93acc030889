"""The metrics of `cldis_jax.evaluate` by name: what each needs, and the function that measures it."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from cldis_jax import api, data, metrics
from cldis_jax.evaluation import attributes, composition, consistency, decoded, labelled
from cldis_jax.evaluation.context import POOLS, Context, Settings, user_errors
from cldis_jax.metrics import inception, lpips, trackers
from cldis_jax.runtime.errors import UserError

LABEL_FREE = "udr, fid, reconstruction, z_usage, content_tracking"

__all__ = ["HIGHER_IS_BETTER", "METRICS", "POOLS", "Context", "Settings", "check", "check_names"]


def needs_latent(bundle: api.Bundle, latent: str, which: str = "this model") -> None:
    if not bundle.has(latent):
        field = {"z_sem": "diffusion", "z_disen": "vae"}[latent]
        raise UserError(f"--latent={latent}: {which} has none, it was trained with {field}.weight=0")


def needs_factors(context: Context) -> None:
    if not context.source.factor_sizes:
        raise UserError(f"{context.source.name} has no factor labels; label-free metrics are {LABEL_FREE}")


def needs_samples(context: Context) -> None:
    """Enough images in the pool for the samples of one seed."""
    settings = context.settings
    context.draw(settings.num_train + settings.num_test, 0)


def needs_attributes(metric: str) -> Callable[[Context], None]:
    def check(context: Context) -> None:
        source, pool = context.source, context.labelled_pool
        if not source.attribute_names:
            raise UserError(f"{metric} needs attribute labels (CelebA), {source.name} has none; try {LABEL_FREE}")
        if not len(pool):
            raise UserError(
                f"{metric}: none of the {len(context.pool)} images to score has a row in the file of labels"
            )

    return check


def needs_labels(context: Context) -> None:
    """Factors or attributes, of some training images and of some images to decode."""
    source = context.source
    if not source.factor_names and not source.attribute_names:
        raise UserError(f"consistency needs factors or attributes, {source.name} has none; try {LABEL_FREE}")
    for which, indices in (("training images", context.parts.train), ("images to decode", context.unseen[0])):
        if not source.labelled(indices).any():
            raise UserError(f"consistency: none of the {len(indices)} {which} has a row in the file of labels")


def needs_models(context: Context) -> None:
    """Other models of the same images that have the latent."""
    settings = context.settings
    if not settings.workdirs:
        raise UserError("udr compares models: give other runs with --workdirs=DIR2,DIR3")
    for path, bundle in zip(settings.workdirs, context.compared):
        for field in ("source", "name", "path", "crop", "image_size", "channels"):
            theirs, ours = bundle.config.data[field], context.bundle.config.data[field]
            if theirs != ours:
                raise UserError(
                    f"udr compares models of the same images: data.{field}={theirs!r} in {path}, not {ours!r}"
                )
        needs_latent(bundle, settings.latent, f"the model in {path}")
        if settings.pool == "heldout" and (difference := data.difference(context.source, bundle.trained_on)):
            raise UserError(f"--pool=heldout: the model in {path} was trained on other images: {difference}")


def needs_inception(context: Context) -> None:
    if not context.settings.inception_weights:
        raise UserError(f"fid needs --inception_weights=FILE. {inception.WHERE}")
    with user_errors():
        inception.load_weights(context.settings.inception_weights)


def needs_lpips(context: Context) -> None:
    """With --lpips_weights: readable networks, and colour images of sufficient size."""
    if not context.settings.lpips_weights:
        return
    with user_errors():
        lpips.load_weights(*context.settings.lpips_weights)
    data = context.bundle.config.data
    if data.channels != 3 or data.image_size < lpips.LEAST_SIZE:
        raise UserError(
            f"--lpips_weights: LPIPS takes colour images of {lpips.LEAST_SIZE} pixels a side or more, this model's "
            f"have {data.channels} channels and {data.image_size} pixels"
        )


def needs_combinations(context: Context) -> None:
    if not context.bundle.config.data.holdout_pairs:
        raise UserError('composition: no combinations were held out of this training (data.holdout_pairs="")')
    if context.difference:
        raise UserError(f"composition: the model was trained on other images: {context.difference}")


def needs_denoiser(context: Context) -> None:
    if not context.bundle.has_diffusion:
        raise UserError("z_usage measures the denoiser, but this model is a VAE alone (diffusion.weight=0)")


def needs_tracker(context: Context) -> None:
    settings, size = context.settings, context.bundle.config.data.image_size
    directions = decoded.directions_of(context)
    if len(directions) < 2:
        raise UserError(f"content tracking compares directions, but --directions={settings.directions} has only one")
    with user_errors():
        trackers.make_tracker(settings.tracker, settings.tapir_checkpoint or None)
    if size < trackers.WINDOW:
        raise UserError(
            f"content tracking needs images of {trackers.WINDOW} pixels a side or more, this model's have {size}"
        )


class Metric(NamedTuple):
    """A metric: `measure` returns {name: {mean, std, floors}}, and may add a `note` and `details`.

    A metric with an interval in place of seeds returns {name: value} and `floors` {kind: {name: value}}. Each of
    `needs` raises a UserError if the metric can't be measured.
    """

    measure: Callable[[Context], dict[str, Any]]
    needs: tuple[Callable[[Context], None], ...] = ()


def _intervened(metric) -> Metric:
    return Metric(functools.partial(labelled.intervened, metric), (needs_factors,))


def _split(metric, **arguments) -> Metric:
    return Metric(functools.partial(labelled.split, metric, **arguments), (needs_factors, needs_samples))


def _paired(metric) -> Metric:
    return Metric(functools.partial(labelled.paired, metric), (needs_factors, needs_samples))


METRICS = {
    "factor_vae": _intervened(metrics.factor_vae),
    "beta_vae": _intervened(metrics.beta_vae),
    "dci": Metric(labelled.importances, (needs_factors, needs_samples)),
    "dci_es": Metric(labelled.ease_of_use, (needs_factors, needs_samples)),
    "infomec": _paired(metrics.infomec),
    "mig": Metric(labelled.information_gap, (needs_factors, needs_samples)),
    "sap": _split(metrics.sap, seeded=True),
    "modularity_explicitness": _split(metrics.modularity_explicitness),
    "irs": _paired(metrics.irs),
    "composition": Metric(composition.measure, (needs_factors, needs_combinations)),
    "udr": Metric(labelled.ranking, (needs_models,)),
    "attributes": Metric(attributes.measure, (needs_attributes("attributes"),)),
    "tad": Metric(labelled.total_auroc_difference, (needs_attributes("tad"),)),
    "fid": Metric(decoded.frechet, (needs_inception,)),
    "reconstruction": Metric(decoded.reconstruction, (needs_lpips,)),
    "consistency": Metric(consistency.measure, (needs_labels,)),
    "z_usage": Metric(decoded.z_usage, (needs_denoiser,)),
    "content_tracking": Metric(decoded.content_tracking, (needs_tracker,)),
}


HIGHER_IS_BETTER = tuple(name for name in METRICS if name not in ("fid", "reconstruction", "z_usage"))


def check_names(names: Sequence[str]) -> None:
    """Raise UserError if there is no metric, or an unknown one."""
    if not names:
        raise UserError(f"--metrics is empty; choose from {', '.join(METRICS)}")
    for name in names:
        if name not in METRICS:
            raise UserError(f"--metrics: {name!r} is unknown; choose from {', '.join(METRICS)}")


def check(context: Context, names: Sequence[str]) -> None:
    """Raise UserError, before any work, if a metric is unknown, or the model, its data or a file don't allow it."""
    check_names(names)
    settings, bundle = context.settings, context.bundle
    if settings.pool == "heldout" and not (bundle.config.data.holdout or bundle.config.data.holdout_split):
        raise UserError("--pool=heldout: this model saw every image in training (data.holdout=0)")
    if settings.pool == "combinations" and not bundle.config.data.holdout_pairs:
        raise UserError('--pool=combinations: this model saw every combination in training (data.holdout_pairs="")')
    needs_latent(bundle, settings.latent)
    if context.difference:
        note = f"the model was trained on other images: {context.difference}"
        if settings.pool != "all":
            raise UserError(f"--pool={settings.pool}: which images were held out is not known, for {note}")
        if jax.process_index() == 0:
            print(f"note: {note}", flush=True)
    for name in names:
        for need in METRICS[name].needs:
            need(context)
