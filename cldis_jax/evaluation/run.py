"""An evaluation from end to end: measure, write after every metric. Also the best of several checkpoints."""

import dataclasses
import logging
import math
from collections.abc import Sequence
from typing import Any

import jax

from cldis_jax import api
from cldis_jax.evaluation import registry, tables
from cldis_jax.runtime import checkpoint, files, report
from cldis_jax.runtime.errors import UserError


def evaluate(
    bundle: api.Bundle, metrics: Sequence[str], settings: registry.Settings | None = None, stem: str = "evaluate"
) -> dict[str, Any]:
    """{metric: scores} of one model; `registry.Metric` describes the scores.

    A metric that fails does not stop the others: its entry is {"error": message} in place of scores.

    Args:
      metrics: names of `registry.METRICS`.
      settings: by default those of the command, for the model's main latent; then nothing is written.
      stem: `stem`.json, .csv and .md are written after every metric. Pictures of another stem than `evaluate` go to a
        folder of this name, so that several evaluations keep theirs.

    Raises:
      UserError: before any work, if a metric can't be measured.
    """
    context = registry.Context(settings or registry.Settings(latent=bundle.main_latent), bundle)
    folder = context.folder
    if stem != "evaluate" and context.writes:
        context = dataclasses.replace(context, settings=dataclasses.replace(context.settings, out=str(folder / stem)))
    registry.check(context, metrics)
    if context.writes:
        files.check_writable(folder / f"{stem}.json")
    results = {}
    for name in metrics:
        results[name] = measure(context, name)
        if context.writes:
            write(folder / stem, results, context)
    return results


def measure(context: registry.Context, name: str) -> dict[str, Any]:
    """The scores of one metric, or {"error": message}. Of several processes, none may go on without the others."""
    try:
        found = registry.METRICS[name].measure(context)
        if bad := _not_finite(found):
            raise UserError(f"{', '.join(bad)}: not a finite number")
        return found
    except Exception as error:
        if jax.process_count() > 1:
            raise
        if not isinstance(error, UserError):
            logging.exception("%s failed", name)
        reason = " ".join(str(error).split())
        return {"error": reason if isinstance(error, UserError) else f"{type(error).__name__}: {reason}"}


def _not_finite(found: dict[str, Any]) -> list[str]:
    """The paths of NaN and infinity, which the results can't hold."""
    leaves = jax.tree_util.tree_leaves_with_path(found)
    values = ((jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves)
    return [path for path, leaf in values if isinstance(leaf, float) and not math.isfinite(leaf)]


def check_rank(metric: str) -> None:
    """Raise UserError if a metric can't rank checkpoints."""
    if metric not in registry.HIGHER_IS_BETTER:
        known = ", ".join(registry.HIGHER_IS_BETTER)
        raise UserError(f"--step=best ranks by the first of --metrics, which must be one of {known}; not {metric!r}")


def best(bundle: api.Bundle, metric: str, settings: registry.Settings) -> api.Bundle:
    """The checkpoint of the model's workdir with the highest first score of `metric`, with one seed.

    Checkpoints that a training removes meanwhile, and those whose score is not finite, are skipped. All share the
    compiled functions.

    Raises:
      CheckpointError: no checkpoint could be read, or none has a finite score.
    """
    check_rank(metric)
    settings = dataclasses.replace(settings, seeds=1, floor_seeds=0, pictures=False)
    registry.check(registry.Context(settings, bundle), [metric])
    found, highest = None, -math.inf
    for step in checkpoint.kept_steps(bundle.workdir):
        try:
            candidate = bundle if step == bundle.step else bundle.at(step)
        except checkpoint.CheckpointError as error:
            print(f"step {step}: skipped, {error}", flush=True)
            continue
        context = registry.Context(settings, candidate)
        score = next(tables.rows({metric: registry.METRICS[metric].measure(context)}))[-1]["mean"]
        print(f"step {step}: {metric} {score:.4f}", flush=True)
        if score > highest:  # False for NaN
            found, highest = candidate, score
    if found is None:
        raise checkpoint.CheckpointError(
            f"--step=best: no checkpoint of {bundle.workdir} can be read and has a finite score"
        )
    return found


def write(path, results: dict[str, Any], context: registry.Context) -> None:
    """Write the results so far as `path`.json, .csv and .md."""
    data = context.bundle.config.data
    settings = dataclasses.asdict(context.settings) | {
        "metrics": [name for name in results if name not in tables.errors(results)],
        "step": context.bundle.step,
        "data": context.source.name,
        "images": len(context.pool),
        "images_of_the_set": len(context.source),
        "published_set": tables.PUBLISHED_SETS.get((data.source, data.name), ""),
    }
    report.write_json(path.with_name(f"{path.name}.json"), results | {"settings": settings})
    path.with_name(f"{path.name}.csv").write_text(tables.to_csv(results))
    path.with_name(f"{path.name}.md").write_text(tables.to_markdown(results, settings))


def copy(path, target) -> None:
    """Copy the three files of the results `path` to those of `target`."""
    for ending in (".json", ".csv", ".md"):
        path.with_name(f"{path.name}{ending}").copy(target.with_name(f"{target.name}{ending}"), overwrite=True)


def text(results: dict[str, Any]) -> str:
    """The scores as plain-text tables, with their notes."""
    parts = [f"{title}\n{report.table(lines, header)}\n".lstrip() for title, header, lines in tables.each(results)]
    return "\n".join([*parts, *tables.notes(results)])
