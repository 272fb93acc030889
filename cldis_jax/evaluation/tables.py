"""Scores as tables: plain text, CSV and Markdown, published numbers beside ours."""

import csv
import importlib.resources
import io
from collections.abc import Iterator
from typing import Any

Row = tuple[str, ...]
PUBLISHED_SETS = {  # our data.source and data.name -> published_numbers.csv; rendered scenes are not Shapes3D
    ("cars3d", ""): "cars3d",
    ("mpi3d", "toy"): "mpi3d_toy",
    ("tfds", "shapes3d"): "shapes3d",
    ("tfds", "celeb_a"): "celeba64",
}
TABLE_2_SET = "celeba_hq"


def published(dataset: str) -> list[dict[str, str]]:
    """The rows of published_numbers.csv of one data set."""
    text = (importlib.resources.files("cldis_jax.evaluation") / "published_numbers.csv").read_text()
    return [row for row in csv.DictReader(io.StringIO(text)) if row["dataset"] == dataset]


def rows(results: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(metric, name, score) of all scores, each with its mean, std and floors.

    The std is None with one seed, and where there is an interval. A metric that failed has no row.
    """
    for metric, scores in results.items():
        for name, score in scores.items():
            if name in ("note", "floors", "details", "error"):
                continue
            if not isinstance(score, dict):
                floors = {kind: values[name] for kind, values in scores["floors"].items() if name in values}
                score = {"mean": score, "std": None, "floors": floors}
            yield metric, name, score


def errors(results: dict[str, Any]) -> dict[str, str]:
    """{metric: message} of the metrics that failed."""
    return {metric: scores["error"] for metric, scores in results.items() if "error" in scores}


def notes(results: dict[str, Any]) -> list[str]:
    return [f"{metric}: {scores['note']}" for metric, scores in results.items() if "note" in scores]


def floor_kinds(results: dict[str, Any]) -> list[str]:
    """Every kind of floor that some score has, in order of appearance."""
    return list(dict.fromkeys(kind for _, _, score in rows(results) for kind in score.get("floors", {})))


def cells(results: dict[str, Any]) -> tuple[Row, list[Row]]:
    """(header, rows) with one row a score, mean ± std and its floors; reconstruction has a table of its own.

    A metric that failed has one row, with its error in the last column.
    """
    kinds = floor_kinds(results)
    header = ("metric", "score", "mean ± std", *(f"floor: {kind.replace('_', ' ')}" for kind in kinds))
    failed = errors(results)
    lines = [
        (
            metric,
            name,
            f"{score['mean']:.4g}" + ("" if score["std"] is None else f" ± {score['std']:.2g}"),
            *(f"{score['floors'][kind]:.4g}" if kind in score.get("floors", {}) else "-" for kind in kinds),
        )
        for metric, name, score in rows(results)
        if metric != "reconstruction"
    ]
    if failed:
        header = (*header, "error")
        lines = [(*line, "") for line in lines]
        lines += [(metric, "failed", *("-" for _ in header[2:-1]), error) for metric, error in failed.items()]
    return header, lines


def to_csv(results: dict[str, Any]) -> str:
    """One line a score, full precision."""
    kinds = floor_kinds(results)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["metric", "name", "mean", "std", *(f"floor_{kind}" for kind in kinds)])
    for metric, name, score in rows(results):
        floors = score.get("floors", {})
        writer.writerow([metric, name, score["mean"], score["std"], *(floors.get(kind, "") for kind in kinds)])
    return text.getvalue()


def table_2(scores: dict[str, Any]) -> tuple[Row, list[Row]]:
    """Reconstruction as Diff-AE's Table 2, kinds down and steps across, with the published rows below ours."""
    ours: dict[tuple[str, str], dict[str, str]] = {}
    for name, score in scores.items():
        if name != "note":
            metric, kind, *steps = name.split(", ")
            ours.setdefault((metric, kind), {})["".join(steps)] = f"{score['mean']:.4g}"
    theirs: dict[tuple[str, str], dict[str, str]] = {}
    for row in published(TABLE_2_SET):
        method, _, steps = row["method"].rstrip(")").rpartition(" ")
        label = f"{method.replace('(', '')} [{row['source']}]"
        theirs.setdefault((row["metric"], label), {})[steps] = row["mean"]
    columns = list(dict.fromkeys(steps for values in (*ours.values(), *theirs.values()) for steps in values))
    metrics = list(dict.fromkeys(metric for metric, _ in (*ours, *theirs)))
    lines = [
        (metric, f"{whose}{kind}", *(values.get(column, "-") for column in columns))
        for metric in metrics
        for whose, table in (("ours, ", ours), ("", theirs))
        for (its, kind), values in table.items()
        if its == metric
    ]
    return ("metric", "model", *(column or "-" for column in columns)), lines


def each(results: dict[str, Any]) -> Iterator[tuple[str, Row, list[Row]]]:
    """(title, header, rows) of each table of an evaluation that has rows: scores, without a title; reconstruction."""
    header, lines = cells(results)
    if lines:
        yield "", header, lines
    if "reconstruction" in results and "reconstruction" not in errors(results):
        yield "Reconstruction; published rows: FFHQ-128 model on CelebA-HQ", *table_2(results["reconstruction"])


def markdown(header: Row, lines: list[Row]) -> str:
    body = [header, ("---",) * len(header), *lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in body)


def to_markdown(results: dict[str, Any], settings: dict[str, Any]) -> str:
    """All of an evaluation: scores, reconstruction's table, published numbers of this data set, notes, settings."""
    parts = [f"# {settings['latent']} of step {settings['step']} on {settings['data']}\n"]
    for title, header, lines in each(results):
        parts += [f"## {title}\n"] if title else []
        parts.append(markdown(header, lines))
    known = [row for row in published(settings["published_set"]) if row["metric"] in settings["metrics"]]
    if known:
        lines = [(row["metric"], row["method"], row["mean"], row["std"] or "-", row["source"]) for row in known]
        parts.append("## Published\n")
        parts.append(markdown(("metric", "method", "mean", "std", "source"), lines))
    parts.append("".join(f"- {note}\n" for note in notes(results)))
    parts.append("".join(f"- {name}: {value}\n" for name, value in settings.items()))
    return "\n".join(part for part in parts if part)
