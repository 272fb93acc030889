"""Small tables, and the result files of cells without running them."""

import dataclasses

from cldis_jax.runtime import report
from cldis_jax.runtime.config_json import config_to_json
from cldis_jax.study import cells


def make(name="main", scale="cpu", seeds=None, **options):
    """The table; `seeds` is their number or a range."""
    given = range(seeds) if isinstance(seeds, int) else seeds
    return cells.make_table(name, scale, cells.Options(seeds=given, **options))


def only(table, *methods, dataset="scenes"):
    """The table with the cells of a few methods and one data set."""
    kept = tuple(cell for cell in table.cells if cell.dataset == dataset and cell.method in methods)
    return dataclasses.replace(table, cells=kept)


def changed(cell, **overrides):
    """The cell with other overrides; `section__field` is the field section.field."""
    overrides = {name.replace("__", "."): value for name, value in overrides.items()}
    return dataclasses.replace(cell, overrides=cell.overrides | overrides)


def config_of(cell):
    return config_to_json(cells.resolve(cell))


def fabricate(cell, out, scores, status="done", error="", floors=None, metrics=None):
    """Write the folder of a cell; `scores` are {latent: {"metric/name": value}}, `metrics` by default the cell's."""
    metrics = metrics or cell.metrics
    folder = cell.folder(out)
    record = {"cell": cell.id, "status": status, "error": error, "config": config_of(cell), "commit": "abc"}
    record |= {"machine": {"cpu": "a cpu", "cores": 2}, "training_seconds": 60.0, "evaluation_seconds": {"z_sem": 30.0}}
    report.write_json(folder / "cell.json", record | {"scores": scores})
    for latent, values in scores.items():
        results = {metric: {} for metric in metrics}
        for key, value in values.items():
            metric, _, name = key.partition("/")
            results[metric][name] = {"mean": value, "std": 0.5, "floors": floors or {}}
        settings = cell.evaluation | {"latent": latent, "step": cell.steps, "metrics": list(metrics)}
        settings["workdir"] = str(folder / "run")
        report.write_json(folder / latent / "evaluate.json", results | {"settings": settings})


def row(collected, method, latent, section=0):
    return next(r for r in collected.sections[section].rows if (r.method, r.latent) == (method, latent))
