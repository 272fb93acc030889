"""The definition of each table: its data sets, its columns, and its cells (method x data set x seed). Runs nothing."""

import dataclasses
import importlib
import pathlib
from typing import Any

from ml_collections import ConfigDict

from cldis_jax.config import validate
from cldis_jax.study import methods
from cldis_jax.study.methods import Method

SCALES = ("cpu", "long", "full")
SEEDS = {"main": 5, "ablation": 2, "composition": 5, "celeba": 5}
SMALL_EVALUATION = {"seeds": 1, "num_train": 5_000, "num_test": 2_500, "num_votes": 1_000, "num_images": 10_000}
EVALUATION = {  # flags of cldis_jax.evaluate
    "cpu": SMALL_EVALUATION,
    "long": SMALL_EVALUATION,
    "full": {"seeds": 3, "num_train": 10_000, "num_test": 5_000, "num_votes": 0, "num_images": 20_000},
}
SMALL_DECODED = {"seeds": 5, "num_generated": 1_000, "num_decoded": 64, "num_tracked": 8}
DECODED = {  # more flags for the table celeba
    "cpu": SMALL_DECODED,
    "long": SMALL_DECODED,
    "full": {"seeds": 5, "num_generated": 10_000, "num_decoded": 128, "num_tracked": 16},
}
TAD_PROTOCOLS = ["disdiff", "exact"]  # the first is that of the published rows


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set of the tables."""

    label: str
    config: str  # a file of configs/, without .py
    path_field: str = ""  # the config field that --data fills; empty for rendered sets, which need no files
    holdout: float = 0.0  # share of the factor combinations, or images, that training never sees
    part: str = ""  # or the part of the images that training never sees
    pool: str = "all"  # the images that the evaluation samples: all | heldout
    pairs: str = ""  # two factors of which training never sees some combinations, for the table composition
    published: str = ""  # its name in published_numbers.csv


DATASETS = {
    "scenes": Dataset("Scenes (rendered)", "scenes", holdout=0.05, pool="heldout"),
    "sprites": Dataset("Sprites (rendered)", "sprites", holdout=0.05, pool="heldout"),
    "scenes_pairs": Dataset(
        "Scenes, pairs of object hue and shape held out", "scenes", holdout=0.05, pairs="object_hue,shape"
    ),
    "shapes3d": Dataset("Shapes3D", "shapes3d", "data.data_dir", published="shapes3d"),
    "cars3d": Dataset("Cars3D", "cars3d", "data.path", published="cars3d"),
    "mpi3d": Dataset("MPI3D-toy", "mpi3d", "data.path", published="mpi3d_toy"),
    "celeba": Dataset("CelebA", "celeba", "data.data_dir", holdout=0.02, published="celeba64"),
}
SMALL_DATASETS = {  # at cpu and long: image files with their attributes, in place of TFDS
    "celeba": Dataset("CelebA", "faces", "data.path", part="test", pool="heldout", published="celeba64"),
}
NEED_FILES = tuple(name for name, dataset in DATASETS.items() if dataset.path_field)


@dataclasses.dataclass(frozen=True)
class Column:
    """One score of cldis_jax.evaluate."""

    label: str
    metric: str
    names: tuple[str, ...]  # the column shows the first that a model has
    format: str = ".3f"
    without: str = "-"  # shown for a finished cell that lacks the score


FACTOR_COLUMNS = (
    Column("FactorVAE", "factor_vae", ("factor_vae",)),
    Column("DCI", "dci", ("disentanglement",)),
    Column("MIG", "mig", ("mig",)),
    Column("InfoM", "infomec", ("infom",)),
    Column("InfoC", "infomec", ("infoc",)),
    Column("InfoE", "infomec", ("infoe",)),
    Column("E", "dci_es", ("explicitness",)),
    Column("S", "dci_es", ("size",), ".2f"),
)
# Earlier versions did not have these metrics: a record without them is done, and a table without any has no column.
LATER_METRICS = ("infomec", "dci_es")
COMPOSITION_COLUMNS = (
    Column("accuracy, seen", "composition", ("seen",)),
    Column("accuracy, unseen", "composition", ("unseen",)),
    *(
        Column(f"MSE, {which}", "composition", (f"mse, random x_T, T=10, {which}", f"mse, VAE, {which}"), ".1e")
        for which in ("seen", "unseen")
    ),
)
CELEBA_COLUMNS = (
    Column("TAD", "tad", ("tad",)),
    Column("captured", "tad", ("captured",), ".1f"),
    Column("TAD, exact", "tad", ("tad, exact",)),
    Column("captured, exact", "tad", ("captured, exact",), ".1f"),
    Column("AUROC, best unit", "attributes", ("best unit",)),
    Column("AUROC, 100 labels", "attributes", ("probe, 100 labels",)),
    Column("FID", "fid", ("fid",), ".1f", "no weights"),
    Column("SSIM", "reconstruction", ("ssim, inferred x_T, T=100", "ssim, VAE")),
    Column("LPIPS", "reconstruction", ("lpips, inferred x_T, T=100", "lpips, VAE"), ".3f", "no weights"),
    Column("MSE", "reconstruction", ("mse, inferred x_T, T=100", "mse, VAE"), ".1e"),
    Column("MSE, random x_T", "reconstruction", ("mse, random x_T, T=20",), ".1e"),
    Column("Content tracking", "content_tracking", ("score",)),
)
COLUMNS = {"composition": COMPOSITION_COLUMNS, "celeba": CELEBA_COLUMNS}  # main, ablation: FACTOR_COLUMNS


@dataclasses.dataclass(frozen=True)
class Cell:
    """One model: how it is trained (a config and its overrides) and how it is evaluated (flags)."""

    dataset: str
    method: str
    label: str
    seed: int
    config: str  # a file of configs/ with its size, e.g. scenes.py:cpu
    overrides: dict[str, Any]
    latents: tuple[str, ...]
    metrics: tuple[str, ...]
    evaluation: dict[str, Any]
    data: dict[str, str]  # config field -> path of the data on this machine
    weights: dict[str, str]  # evaluation flag -> paths of weights on this machine

    @property
    def id(self) -> str:
        return f"{self.dataset}/{self.method}/seed{self.seed}"

    @property
    def steps(self) -> int:
        return self.overrides["train.steps"]

    def folder(self, out: pathlib.Path) -> pathlib.Path:
        """The folder of the cell while it runs, with its workdir `run`; tables share their cells."""
        return out / "cells" / self.id


@dataclasses.dataclass(frozen=True)
class Table:
    """A table and its cells, ordered by data set and then by seed, so that every row has a number early."""

    name: str
    scale: str
    columns: tuple[Column, ...]
    cells: tuple[Cell, ...]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Options:
    """Choices made by flags."""

    steps: int | None = None
    seeds: range | None = None
    data: dict[str, str] = dataclasses.field(default_factory=dict)  # by data set
    weights: dict[str, str] = dataclasses.field(default_factory=dict)  # by flag of cldis_jax.evaluate


def make_table(name: str, scale: str, options: Options) -> Table:
    """The table main, ablation, composition or celeba.

    Raises:
      ConfigError: a cell has a config that cannot run.
    """
    makers = {"main": _main, "ablation": _ablation, "composition": _composition, "celeba": _celeba}
    methods_of = makers[name](scale, options)
    seeds = range(SEEDS[name]) if options.seeds is None else options.seeds
    cells = tuple(
        _cell(name, dataset, method, seed, seed == seeds[0], steps, scale, options)
        for dataset, compared in methods_of.items()
        for steps in (_steps(dataset, scale, options),)
        for seed in seeds
        for method in compared
    )
    for cell in cells:
        validate(resolve(cell))
    return Table(name, scale, COLUMNS.get(name, FACTOR_COLUMNS), cells, _notes(name, scale, cells))


def resolve(cell: Cell) -> ConfigDict:
    """The full config of a cell's training."""
    config = _load(cell.config)
    config.update_from_flattened_dict(cell.overrides | cell.data)
    return config


def shard(cells: tuple[Cell, ...], index: int, count: int) -> tuple[Cell, ...]:
    """Every `count`-th cell, starting at `index`."""
    return cells[index::count]


def _load(config: str) -> ConfigDict:
    file, _, size = config.partition(":")
    module = importlib.import_module(f"cldis_jax.configs.{file.removesuffix('.py')}")
    return module.get_config(size) if size else module.get_config()


def dataset_at(name: str, scale: str) -> Dataset:
    """The data set of a table at a scale."""
    return DATASETS[name] if scale == "full" else SMALL_DATASETS.get(name, DATASETS[name])


def _config_of(dataset: str, scale: str, preset: str = "") -> str:
    argument = f"{scale},{preset}" if preset else scale
    return f"{dataset_at(dataset, scale).config}.py" + ("" if argument == "full" else f":{argument}")


def _steps(dataset: str, scale: str, options: Options) -> int:
    return options.steps or _load(_config_of(dataset, scale)).train.steps


def _main(scale: str, options: Options) -> dict[str, list[Method]]:
    def compared(steps: int) -> list[Method]:
        return [
            *(methods.closed_loop(kind) for kind in methods.CONDITIONINGS),
            methods.open_loop(steps),
            methods.paper(),
            *(methods.diffae_alone(kind) for kind in methods.CONDITIONINGS),
            methods.vae_alone(scale),
            *(methods.vae_alone(scale, beta) for beta in (1.0, 8.0)),
            methods.vae_annealed(scale, steps),
        ]

    datasets = (dataset for dataset in DATASETS if dataset not in ("celeba", "scenes_pairs"))
    return {dataset: compared(_steps(dataset, scale, options)) for dataset in datasets}


def _ablation(scale: str, options: Options) -> dict[str, list[Method]]:
    config = _load(_config_of("scenes", scale))
    baseline = methods.closed_loop(config.model.conditioning)
    baseline = dataclasses.replace(baseline, label=f"{baseline.label} (baseline)")
    return {"scenes": [baseline, *methods.variants(config, _steps("scenes", scale, options))]}


def _composition(scale: str, options: Options) -> dict[str, list[Method]]:
    conditioning = _load(_config_of("scenes_pairs", scale)).model.conditioning
    annealed = methods.vae_annealed(scale, _steps("scenes_pairs", scale, options))
    return {"scenes_pairs": [methods.closed_loop(conditioning), methods.diffae_alone(conditioning), annealed]}


def _celeba(scale: str, options: Options) -> dict[str, list[Method]]:
    config = _load(_config_of("celeba", scale))
    own = config.model.conditioning
    conditionings = sorted(methods.CONDITIONINGS, key=lambda kind: kind != own)  # the config's own first
    without = [methods.without_L_ind()] if config.independence.weight else []
    alone = [methods.diffae_alone(own), methods.vae_alone(scale)]
    return {"celeba": [*map(methods.closed_loop, conditionings), *without, *alone]}


def _cell(
    table: str, name: str, method: Method, seed: int, first: bool, steps: int, scale: str, options: Options
) -> Cell:
    dataset = dataset_at(name, scale)
    # A floor does not depend on the training seed (that of random directions does, a little), so one seed measures it.
    evaluation = EVALUATION[scale] | {"pool": dataset.pool, "floor_seeds": 1 if first and method.floors else 0}
    if scale == "full" and dataset.pool == "all":
        evaluation["num_images"] = 0
    if table == "celeba":
        metrics = ("tad", "attributes", "reconstruction", "content_tracking")
        metrics += ("fid",) if "inception_weights" in options.weights else ()
        evaluation |= DECODED[scale] | {"num_images": EVALUATION[scale]["num_images"], "protocol": TAD_PROTOCOLS}
    else:
        metrics = tuple(dict.fromkeys(column.metric for column in COLUMNS.get(table, FACTOR_COLUMNS)))
    common = {"train.steps": steps, "train.seed": seed, "train.picture_every": steps, "data.holdout": dataset.holdout}
    common["checkpoint.keep_period"] = max(1, steps // 3)  # content tracking is compared over steps, too
    if dataset.part:
        common["data.holdout_split"] = dataset.part
    if dataset.pairs:
        common["data.holdout_pairs"] = dataset.pairs
    return Cell(
        dataset=name,
        method=method.name,
        label=method.label,
        seed=seed,
        config=_config_of(name, scale, method.preset),
        overrides=common | method.overrides,
        latents=method.latents,
        metrics=metrics,
        evaluation=evaluation,
        data={dataset.path_field: options.data[name]} if name in options.data else {},
        weights=options.weights if table == "celeba" else {},
    )


def _notes(name: str, scale: str, cells: tuple[Cell, ...]) -> tuple[str, ...]:
    steps = ", ".join(f"{steps:,}" for steps in sorted({cell.steps for cell in cells}))
    size = resolve(cells[0]).data.image_size
    notes = [f"Scale {scale}: {size} px, {steps} steps, the same for every method."]
    if name == "celeba":
        notes.append(
            "TAD and captured attributes by the protocol of the published rows, `disdiff`, and by exact areas over all "
            "labelled images of the pool. AUROC: areas under ROC curves, of the best unit for each attribute and of "
            "linear probes fitted to 100 images, means over the attributes. Reconstructions infer x_T in 100 steps; "
            "from a random x_T in 20 steps. FID, if it is there, is of reconstructions against their originals; the "
            "published ones are of other protocols."
        )
        if scale != "full":
            notes.append(
                "Not the data of the published rows: the images of --data, scored on the part `test`, which training "
                "never saw. The networks are small and the runs short."
            )
    elif name == "composition":
        notes.append(
            "A quarter of the combinations of object hue and shape are held out from training. Accuracy of linear "
            "probes of these two factors, and error of pictures decoded from the code alone (random x_T in 10 steps, "
            "or the VAE's mean), on held-out images of combinations that were trained on (seen) and on the others "
            "(unseen)."
        )
    else:
        notes.append(
            "Rendered sets: 5 % of the factor combinations are held out from training, and DCI and MIG are measured on "
            "them alone; the FactorVAE score chooses factors and needs the whole grid. Other sets: every image, as "
            "published. DCI is its disentanglement; E and S are the explicitness and the size of DCI-ES."
        )
    return (
        *notes,
        "In brackets: the 95 % interval over training seeds, by Student's t with n - 1 degrees of freedom. Published "
        "rows have the deviation that their source gives, as ±.",
        "Differences: the first row minus another, with its interval: paired for two latents of the same runs, Welch's "
        "for different runs. Two methods are told apart where it leaves out 0.",
        "Floors are the scores of codes that disentangle nothing. Published rows are others' numbers on the published "
        "images, with their networks and budgets; rendered sets have none.",
    )
