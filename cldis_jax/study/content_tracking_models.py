"""Does content tracking, which uses no labels, rank trained models as the supervised scores do?

    python -m cldis_jax.study.content_tracking_models --out=DIR --evaluations=RUN1/evaluate.json,RUN2/evaluate.json
    python -m cldis_jax.study.content_tracking_models --out=DIR --evaluations=docs/studies/celeba

Reads results of `cldis_jax.evaluate --metrics=dci,mig,infomec,content_tracking` (or `tad,content_tracking`, for faces),
or all those of a study, prints a table, and writes Spearman's rank correlations to DIR/content_tracking_models.json
and a scatter plot to DIR/content_tracking_models.png. A supervised score counts where all of the results have it.
"""

import pathlib
from typing import Any

import numpy as np
from absl import flags
from etils import epath
from scipy.stats import bootstrap, spearmanr

from cldis_jax import cli
from cldis_jax.runtime import report, visualize
from cldis_jax.runtime.errors import UserError
from cldis_jax.study import records

SUPERVISED = {
    "DCI": ("dci", "disentanglement"),
    "MIG": ("mig", "mig"),
    "InfoM": ("infomec", "infom"),
    "InfoC": ("infomec", "infoc"),
    "TAD": ("tad", "tad"),
}
AVERAGED, AVERAGE = ("MIG", "InfoM", "InfoC"), "mean of MIG, InfoM, InfoC"
LEAST = 4  # models; with fewer, a rank correlation means nothing
NUM_RESAMPLES = 2_000


def read(path: str) -> list[dict[str, Any]]:
    """The scores of each model in an evaluate.json, or in the folder of a study.

    Raises:
      UserError: a score is missing.
    """
    if not epath.Path(path).is_dir():
        return [_scores(report.read_json(path), path)]
    cells = records.read(pathlib.Path(path)).values()
    return [_scores(results, path) for cell in cells for results in cell["results"].values()]


def _scores(results: dict[str, Any], path: str) -> dict[str, Any]:
    try:
        tracked, settings = results["content_tracking"], results["settings"]
        score = tracked["score"]
    except KeyError as error:
        raise UserError(f"{path} lacks {error}; run cldis_jax.evaluate --metrics=dci,mig,content_tracking") from error
    interval = {name: tracked.get(name, score) for name in ("low", "high")}
    supervised = {
        label: results[metric][name]["mean"]
        for label, (metric, name) in SUPERVISED.items()
        if name in results.get(metric, {})
    }
    if supervised.keys() >= set(AVERAGED):
        supervised[AVERAGE] = float(np.mean([supervised[label] for label in AVERAGED]))
    name = f"{settings['workdir'].rstrip('/')} {settings['latent']} step {settings['step']}"
    return {"model": name, "score": score, **interval, **supervised}


def correlate(models: list[dict[str, Any]]) -> dict[str, Any]:
    """Spearman's correlation of content tracking with each supervised score, its p-value and its 95 % interval.

    The interval is a bootstrap over the models, by percentiles. Resamples in which all models score the same have no
    ranks, and are left out. A supervised score that is the same for all models is left out, too.

    Raises:
      UserError: too few models, or no supervised score that all of them have.
    """
    if len(models) < LEAST:
        raise UserError(f"--evaluations: a rank correlation needs at least {LEAST} models, got {len(models)}")
    common = [label for label in (*SUPERVISED, AVERAGE) if all(label in model for model in models)]
    labels = [label for label in common if len({model[label] for model in models}) > 1]
    if not labels:
        raise UserError(f"--evaluations: no score of {', '.join(SUPERVISED)} is in every file and differs between them")
    scores = [model["score"] for model in models]
    found = {}
    for label in labels:
        pairs = scores, [model[label] for model in models]
        rank = spearmanr(*pairs)
        resampled = bootstrap(
            pairs,
            _spearman,
            paired=True,
            vectorized=False,
            n_resamples=NUM_RESAMPLES,
            method="percentile",
            rng=np.random.default_rng(0),
        ).bootstrap_distribution
        low, high = np.nanpercentile(resampled, (2.5, 97.5))
        ends = {"low": float(low), "high": float(high)}
        found[label] = {"spearman": float(rank.statistic), "p": float(rank.pvalue), **ends}
    return found


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's correlation; NaN where one of the two is constant."""
    return np.nan if np.ptp(a) == 0 or np.ptp(b) == 0 else spearmanr(a, b).statistic


def scatter(models: list[dict[str, Any]], correlations: dict[str, Any]) -> np.ndarray:
    """One uint8 picture: content tracking, with its interval, over each supervised score."""
    figure = visualize.new_figure(4.6 * len(correlations), 3.8)
    score, low, high = (np.array([model[name] for model in models]) for name in ("score", "low", "high"))
    for axes, label in zip(figure.subplots(1, len(correlations), squeeze=False)[0], correlations):
        x = [model[label] for model in models]
        axes.errorbar(x, score, yerr=[score - low, high - score], fmt="o", capsize=3)
        for i, (x_i, y_i) in enumerate(zip(x, score)):
            axes.annotate(str(i + 1), (x_i, y_i), xytext=(5, 4), textcoords="offset points", fontsize=8)
        axes.set_title(f"{len(models)} models, Spearman {correlations[label]['spearman']:+.2f}", fontsize=10)
        axes.set_xlabel(label)
        axes.set_ylabel("content tracking")
        axes.grid(alpha=0.3)
    return visualize.render(figure)


def main() -> None:
    cli.require(OUT)
    models = [model for path in EVALUATIONS.value for model in read(path)]
    correlations = correlate(models)
    out = epath.Path(OUT.value)
    report.write_json(out / "content_tracking_models.json", {"models": models, "correlations": correlations})
    visualize.save_png(out / "content_tracking_models.png", scatter(models, correlations))
    columns = ("score", "low", "high", *correlations)
    rows = [(str(i + 1), m["model"], *(f"{m[name]:.3f}" for name in columns)) for i, m in enumerate(models)]
    print(report.table(rows, ("", "model", "content tracking", "low", "high", *correlations)))
    for label, rank in correlations.items():
        ends = f"[{rank['low']:+.3f}, {rank['high']:+.3f}]"
        print(f"Spearman with {label}: {rank['spearman']:+.3f} {ends} (p = {rank['p']:.2g}, {len(models)} models)")


if __name__ == "__main__":
    OUT = flags.DEFINE_string("out", None, "folder for the results and the plot")
    EVALUATIONS = flags.DEFINE_list("evaluations", [], "evaluate.json files and folders of studies")
    cli.run(main)
