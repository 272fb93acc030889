"""Do decoded images still show what the originals show? A probe of the labels, trained on real images, reads both."""

from typing import Any

import numpy as np

from cldis_jax import api
from cldis_jax.api.codes import batches, finite
from cldis_jax.data import subset
from cldis_jax.evaluation.context import Context
from cldis_jax.evaluation.decoded import BATCH, images_of
from cldis_jax.navigation import factor_probe
from cldis_jax.runtime.errors import UserError


def measure(context: Context) -> dict[str, Any]:
    """The probe's score on originals and on each kind of decoded image: its mean over the labels; `details` has each.

    The score is the probe's accuracy for factors and the area under its ROC curve for attributes. The probe is trained
    on the model's training images and kept in factor_probe.msgpack. It reads images that the model has not seen, or
    training images where none are held out, as the note says.
    """
    settings, source, bundle = context.settings, context.source, context.bundle
    labels = factor_probe.labels_of(source)
    candidates, which = context.unseen
    candidates, train = (indices[source.labelled(indices)] for indices in (candidates, context.parts.train))
    indices = subset(candidates, settings.num_decoded, 0)
    steps = factor_probe.STEPS
    if context.writes:
        probe = factor_probe.load_or_train(context.folder / "factor_probe.msgpack", source, train, steps=steps)
    else:
        probe = factor_probe.train_probe(source, train, steps=steps)

    editor = api.Editor(bundle, settings.latent, batch=BATCH)
    found: dict[str, list[np.ndarray]] = {}
    for seed, (rows, count) in enumerate(batches(len(indices), BATCH, "reading decoded images")):
        for kind, images in editor.reconstruct(images_of(context, indices[rows]), seed).items():
            shown = finite(images[:count], bundle, f"images that consistency decodes ({kind})")
            found.setdefault(kind, []).append(shown)
    values = labels.of(indices)
    scores = {kind: probe.score(np.concatenate(shown), values) for kind, shown in found.items()}

    read = ~np.isnan(scores["original"])  # not attributes of which the images have one value alone
    if not read.any():
        raise UserError(f"none of the attributes has both values in {len(indices)} images; raise --num_decoded")
    names = [name for name, kept in zip(labels.names, read) if kept]
    means = {f"{labels.measure}, {kind}": float(score[read].mean()) for kind, score in scores.items()}
    return {name: {"mean": mean, "std": None} for name, mean in means.items()} | {
        "note": f"a probe of {len(names)} labels, {len(indices)} {which} images; the mean over the labels",
        "details": {kind: dict(zip(names, score[read].tolist())) for kind, score in scores.items()},
    }
