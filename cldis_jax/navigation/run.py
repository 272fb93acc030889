"""Navigation from end to end: encode, search, test on fresh pairs, draw, name the factors, write."""

from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from cldis_jax import api, data
from cldis_jax.api.codes import encode
from cldis_jax.models import pixels
from cldis_jax.navigation import decoders, factor_probe, method, results
from cldis_jax.navigation.search import Search
from cldis_jax.runtime import config_json, files, partitioning, report, visualize

NUM_SHOWN = 3  # images in the contact sheet and the animation
NUM_NAMED = 32  # images on which the factors are read; also the batch of decoding
MAX_SHOWN_SHIFT = 3.0  # standard deviations; beyond them most models leave their data
CURVES = {
    "loss": ("loss", "cross_entropy"),
    "accuracy": ("accuracy",),
    "shift error (std)": ("shift_error",),
    "gradient norms": ("gradient_norm/directions", "gradient_norm/reconstructor"),
}


def config_for(bundle: api.Bundle, **fields) -> ConfigDict:
    """The default settings of a search on a model, changed by `fields` of `method.default_config`."""
    config = method.default_config()
    config.decoder = "ddim" if bundle.has_diffusion else "vae"
    config.num_directions = bundle.config.model.latent_dim
    config.model_step = bundle.step
    config.update(fields)
    return config


def navigate(
    bundle: api.Bundle,
    folder: epath.PathLike,
    config: ConfigDict,
    *,
    eval_batches: int = 100,
    probe_steps: int = factor_probe.STEPS,
) -> dict[str, Any]:
    """Find directions of a frozen model, or continue the search in `folder`, and write the results there.

    Args:
      config: from `config_for`.
      eval_batches: batches of fresh pairs to test the reconstructor on.
      probe_steps: training steps of the factor probe, for a data set with factors or attributes.

    Returns the content of `FOLDER/navigation.json`; several processes wait until the first has written it.

    Raises:
      UserError: settings that don't suit the model or the devices, or a folder with a search of other settings.
    """
    method.validate(config, bundle.config.model.latent_dim)
    decoders.check_decoder(config, bundle)
    decoders.check_devices(config, jax.device_count())
    folder, latent, seed = epath.Path(folder), decoders.latent_of(config), config.train.seed
    if jax.process_index() == 0:
        files.check_writable(folder / "navigation.json")

    # Codes
    source = data.make_source(bundle.config.data)
    train_indices, heldout_indices, _ = data.parts(source, bundle.config.data)
    held_out = len(heldout_indices) >= NUM_NAMED
    which = "held-out" if held_out else "training"
    if difference := data.difference(source, bundle.trained_on):
        which = "other"
        if jax.process_index() == 0:
            print(f"note: the model was trained on other images: {difference}", flush=True)
    fresh_indices = data.subset(heldout_indices if held_out else train_indices, factor_probe.NUM_TESTED, seed)
    codes = encode(bundle, latent, source, data.subset(train_indices, config.num_codes, seed))
    fresh = encode(bundle, latent, source, fresh_indices)

    # Search
    search = Search(config, bundle, codes)
    found = search.fit(str(folder))

    # Results
    measured = search.measure(found.state.params, fresh, eval_batches)
    A = np.asarray(method.direction_matrix(config, partitioning.to_host(found.state.params["directions"])))
    ranking = np.argsort(-measured["accuracy"], kind="stable")
    directions = results.Directions(A, search.scales, ranking, measured["accuracy"], latent, bundle.step)
    written = {
        "rca": measured["rca"],
        "chance": 1 / config.num_directions,
        "shift_error": measured["shift_error"],
        "shift_error_chance": (config.min_shift + config.max_shift) / 2,  # the error of the best constant, 0
        "ranking": ranking.tolist(),
        "accuracy": measured["accuracy"].tolist(),
        "fresh_pairs": int(measured["count"].sum()),
        "images": which,  # of the fresh pairs and the pictures
        "latent": latent,
        "steps": int(found.state.step),
        "compile_seconds": found.compile_seconds,
        "seconds_per_step": found.seconds_per_step,
        "config": config_json.config_to_json(config),
    }
    if jax.process_index() == 0:
        directions.save(folder / "directions.npz")
        visualize.save_png(folder / "curves.png", visualize.curves(found.history, CURVES))
        rows = np.random.default_rng(seed).choice(len(fresh), min(NUM_NAMED, len(fresh)), replace=False)
        shown = fresh_indices[rows]
        editor = api.Editor(bundle, latent, batch=NUM_NAMED)
        code = editor.encode(pixels.to_unit_range(source.fetch(shown)))
        draw(folder, editor, code.take(slice(NUM_SHOWN)), directions, min(config.max_shift, MAX_SHOWN_SHIFT))
        labels, known = factor_probe.labels_of(source), source.labelled(shown)
        labelled = [indices[source.labelled(indices)] for indices in (train_indices, fresh_indices)]
        if labels.names and known.any() and len(labelled[0]):
            probe = factor_probe.load_or_train(
                folder / "factor_probe.msgpack", source, labelled[0], steps=probe_steps, seed=seed
            )
            named = results.name_factors(probe, editor, code.take(known), labels.of(shown[known]), A.T, codes, seed)
            tested = factor_probe.tested(probe, source, labelled[1])
            written |= factors(folder, labels, named, tested, ranking)
        report.write_json(folder / "navigation.json", written)
    if jax.process_count() > 1:  # only the first process draws; at their exit the others would time out
        multihost_utils.sync_global_devices("the directions are written")
    return written


def draw(
    folder: epath.Path, editor: api.Editor, code: api.Code, directions: results.Directions, max_shift: float
) -> None:
    """Write `directions.png` and `best.gif`: images moved along the directions."""
    sheet = results.contact_sheet(editor, code, directions.axes, directions.accuracy, max_shift)
    visualize.save_png(folder / "directions.png", sheet)
    visualize.save_animation(folder / "best.gif", results.animation(editor, code, directions.axes, max_shift))


def factors(
    folder: epath.Path, labels: factor_probe.Labels, named: dict[str, Any], tested: np.ndarray, ranking: np.ndarray
) -> dict[str, Any]:
    """Write `factors.png`, from `results.name_factors`; returns their part of navigation.json."""

    def by_name(scores):
        return {name: None if np.isnan(score) else float(score) for name, score in zip(labels.names, scores)}

    picture = visualize.heatmap(
        named["changes"]["navigation"][ranking],
        [f"direction {k}" for k in ranking],
        labels.names,
        f"change of each factor at {results.PROBE_SHIFT:g} std",
        "share of the factor's range",
    )
    visualize.save_png(folder / "factors.png", picture)
    return {
        "factor_share": named["factor_share"],
        "factor_changes": {name: values.tolist() for name, values in named["changes"].items()},
        f"probe_{labels.measure}": {"originals": by_name(tested), "decoded": by_name(named["decoded_score"])},
    }
