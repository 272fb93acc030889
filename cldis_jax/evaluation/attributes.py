"""Which unit says what about labelled images: areas under ROC curves, probes with few labels, extreme images."""

from typing import Any

import numpy as np

from cldis_jax import metrics
from cldis_jax.evaluation.context import Context
from cldis_jax.metrics.tad import auroc
from cldis_jax.models import pixels
from cldis_jax.runtime import visualize
from cldis_jax.runtime.errors import UserError

NUM_LABELS = (10, 100, 1000)  # of the probes
NUM_EXTREMES = 6  # images at each end of a unit


def measure(context: Context) -> dict[str, Any]:
    """The mean area of each attribute's best unit, and of probes with few labels, with floors; `details` has the units.

    Writes attributes.png, the area of each unit and attribute, and unit_extremes.png, the images with each unit's
    lowest and highest values.
    """
    pool, source = context.labelled_pool, context.source
    labels = source.attributes(pool)
    fewest = np.minimum(labels.sum(axis=0), (1 - labels).sum(axis=0))
    if not fewest.any():
        raise UserError(f"none of the attributes has both values in the {len(pool)} images of --pool")
    feasible = [num for num in NUM_LABELS if (fewest > num // 2).any()]

    def score(represent, seed):
        codes = represent(pool)
        result = {"best unit": float(auroc(codes, labels)[fewest > 0].max(axis=1).mean())}
        for num in feasible:
            result[f"probe, {num} labels"] = metrics.few_labels(codes, labels, num, seed)["auroc"]
        return result

    result = context.scored(score, source.attributes, pool=pool, pixels=True)
    codes = context.codes(pool)
    found = auroc(codes, labels)
    order = np.argsort(-found, axis=1)
    best_units = {
        name: [{"unit": int(unit), "auroc": float(found[a, unit])} for unit in order[a, :3]]
        for a, name in enumerate(source.attribute_names)
        if fewest[a]
    }
    if context.draws:
        _draw(context, found, codes)
    counts = [f"{(fewest > num // 2).sum()} attributes with {num} labels" for num in feasible]
    note = f"areas under ROC curves, {len(pool)} images; probes: {', '.join(counts)}"
    areas = dict(zip(source.attribute_names, found.tolist()))
    return result | {"note": note, "details": {"best_units": best_units, "auroc": areas}}


def _draw(context: Context, found: np.ndarray, codes: np.ndarray) -> None:
    units = [f"{context.settings.latent}[{unit}]" for unit in range(codes.shape[1])]
    picture = visualize.heatmap(
        found,
        context.source.attribute_names,
        [str(unit) for unit in range(codes.shape[1])],
        f"attributes and units of {context.settings.latent}",
        "area under the ROC curve",
        least=0.5,
    )
    visualize.save_png(context.folder / "attributes.png", picture)
    order = context.labelled_pool[np.argsort(codes, axis=0)]  # [N, C]
    num = min(NUM_EXTREMES, len(order) // 2)
    chosen = np.concatenate([order[:num], order[-num:]]).T  # [C, 2 num]
    images = context.source.fetch(chosen.ravel()).reshape(*chosen.shape, *context.bundle.image_shape)
    columns = ["lowest", *[""] * (num - 1), *[""] * (num - 1), "highest"]
    picture = visualize.grid(np.asarray(pixels.to_unit_range(images)), units, columns, "images at each unit's ends")
    visualize.save_png(context.folder / "unit_extremes.png", picture)
