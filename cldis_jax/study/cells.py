"""What each table is made of: data sets, columns, and cells of method x data set x seed. Runs nothing."""

import dataclasses
import functools
import importlib
import pathlib
from typing import Any

from ml_collections import ConfigDict

from cldis_jax.config import validate
from cldis_jax.study import methods
from cldis_jax.study.methods import Method

SCALES = ("cpu", "long", "full")
SEEDS = {"main": 3, "ablation": 2, "celeba": 3}
SMALL_EVALUATION = {"seeds": 1, "num_train": 5_000, "num_test": 2_500, "num_votes": 1_000, "num_images": 10_000}
EVALUATION = {  # flags of cldis_jax.evaluate
    "cpu": SMALL_EVALUATION,
    "long": SMALL_EVALUATION,
    "full": {"seeds": 3, "num_train": 10_000, "num_test": 5_000, "num_votes": 0, "num_images": 20_000},
}
SMALL_DECODED = {"protocol": "disdiff", "num_generated": 1_000, "num_decoded": 64, "num_tracked": 8}
DECODED = {  # of the table celeba besides; tad by the protocol of the published rows
    "cpu": SMALL_DECODED,
    "long": SMALL_DECODED,
    "full": {"protocol": "disdiff", "num_generated": 10_000, "num_decoded": 128, "num_tracked": 16},
}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A file of configs/, and what the tables do with it."""

    label: str
    config: str
    path_field: str = ""  # the field that --data fills; empty: rendered, nothing to download
    holdout: float = 0.0  # share of the factor combinations, or images, that training never sees
    pool: str = "all"  # what samples are drawn from in the evaluation


DATASETS = {
    "scenes": Dataset("Scenes (rendered)", "scenes", holdout=0.05, pool="heldout"),
    "sprites": Dataset("Sprites (rendered)", "sprites", holdout=0.05, pool="heldout"),
    "shapes3d": Dataset("Shapes3D", "shapes3d", "data.data_dir"),
    "cars3d": Dataset("Cars3D", "cars3d", "data.path"),
    "mpi3d": Dataset("MPI3D-toy", "mpi3d", "data.path"),
    "celeba": Dataset("CelebA", "celeba", "data.data_dir", holdout=0.02),
}
NEED_FILES = tuple(name for name, dataset in DATASETS.items() if dataset.path_field)


@dataclasses.dataclass(frozen=True)
class Column:
    """One score of cldis_jax.evaluate; of several names the first that a model has."""

    label: str
    metric: str
    names: tuple[str, ...]
    format: str = ".3f"
    without: str = "-"  # what stands where a finished cell lacks it


FACTOR_COLUMNS = (
    Column("FactorVAE", "factor_vae", ("factor_vae",)),
    Column("DCI", "dci", ("disentanglement",)),
    Column("MIG", "mig", ("mig",)),
)
CELEBA_COLUMNS = (
    Column("TAD", "tad", ("tad",)),
    Column("FID", "fid", ("fid",), ".1f", "no weights"),
    Column("SSIM", "reconstruction", ("ssim, inferred x_T, T=100", "ssim, VAE")),
    Column("LPIPS", "reconstruction", ("lpips, inferred x_T, T=100", "lpips, VAE"), ".3f", "no weights"),
    Column("MSE", "reconstruction", ("mse, inferred x_T, T=100", "mse, VAE"), ".1e"),
    Column("Content tracking", "content_tracking", ("score",)),
)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One model: how it is trained (a config and what is overridden) and evaluated (flags)."""

    dataset: str
    method: str
    label: str
    seed: int
    config: str  # of configs/, e.g. scenes.py:cpu
    overrides: dict[str, Any]
    latents: tuple[str, ...]
    metrics: tuple[str, ...]
    evaluation: dict[str, Any]
    data: dict[str, str]  # config fields: where this machine has the data
    weights: dict[str, str]  # evaluation flags: where this machine has weights

    @property
    def id(self) -> str:
        return f"{self.dataset}/{self.method}/seed{self.seed}"

    @property
    def steps(self) -> int:
        return self.overrides["train.steps"]

    def folder(self, out: pathlib.Path) -> pathlib.Path:
        """Where the cell's results lie, its workdir `run` among them; tables share their cells."""
        return out / "cells" / self.id


@dataclasses.dataclass(frozen=True)
class Table:
    """A table and its cells: a data set after another, and of each seed after seed, so that all rows fill early."""

    name: str
    scale: str
    columns: tuple[Column, ...]
    cells: tuple[Cell, ...]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Options:
    """What the user may change."""

    steps: int | None = None
    seeds: int | None = None
    data: dict[str, str] = dataclasses.field(default_factory=dict)  # by data set
    weights: dict[str, str] = dataclasses.field(default_factory=dict)  # by flag of cldis_jax.evaluate


def make_table(name: str, scale: str, options: Options) -> Table:
    """The table main, ablation or celeba.

    Raises:
      ConfigError: some cell can't be run.
    """
    rows = {"main": _main_rows, "ablation": _ablation_rows, "celeba": _celeba_rows}[name](scale, options)
    seeds = range(SEEDS[name] if options.seeds is None else options.seeds)
    cells = tuple(
        _cell(name, dataset, method, seed, scale, options)
        for dataset in dict.fromkeys(dataset for dataset, _ in rows)
        for seed in seeds
        for its, method in rows
        if its == dataset
    )
    for cell in cells:
        validate(resolve(cell))
    columns = CELEBA_COLUMNS if name == "celeba" else FACTOR_COLUMNS
    return Table(name, scale, columns, cells, _notes(name, scale, cells))


def resolve(cell: Cell) -> ConfigDict:
    """The full config that a cell trains."""
    config = _load(cell.config)
    config.update_from_flattened_dict(cell.overrides | cell.data)
    return config


def shard(cells: tuple[Cell, ...], index: int, count: int) -> tuple[Cell, ...]:
    """Every `count`-th cell from `index` on."""
    return cells[index::count]


def _load(config: str) -> ConfigDict:
    file, _, size = config.partition(":")
    module = importlib.import_module(f"cldis_jax.configs.{file.removesuffix('.py')}")
    return module.get_config(size) if size else module.get_config()


def _config_of(dataset: str, scale: str) -> str:
    return f"{DATASETS[dataset].config}.py" + ("" if scale == "full" else f":{scale}")


@functools.cache
def _own(dataset: str, scale: str) -> tuple[str, int]:
    """The conditioning and the steps of a data set's own config."""
    config = _load(_config_of(dataset, scale))
    return config.model.conditioning, config.train.steps


def _steps(dataset: str, scale: str, options: Options) -> int:
    return options.steps or _own(dataset, scale)[1]


def _main_rows(scale: str, options: Options) -> list[tuple[str, Method]]:
    compared = [
        *(methods.closed_loop(kind) for kind in methods.CONDITIONINGS),
        *(methods.diffae_alone(kind) for kind in methods.CONDITIONINGS),
        methods.vae_alone(scale),
        *(methods.vae_alone(scale, beta) for beta in (1.0, 8.0)),
    ]
    return [
        (dataset, method)
        for dataset in DATASETS
        if dataset != "celeba"
        for method in (*compared, methods.vae_annealed(scale, _steps(dataset, scale, options)))
    ]


def _ablation_rows(scale: str, options: Options) -> list[tuple[str, Method]]:
    steps = _steps("scenes", scale, options)
    conditioning, _ = _own("scenes", scale)
    baseline = methods.closed_loop(conditioning)
    baseline = dataclasses.replace(baseline, label=f"{baseline.label} (baseline)")
    others = methods.variants(_load(_config_of("scenes", scale)), steps)
    return [("scenes", method) for method in (baseline, *others)]


def _celeba_rows(scale: str, options: Options) -> list[tuple[str, Method]]:
    conditioning, _ = _own("celeba", scale)
    compared = (methods.closed_loop(conditioning), methods.diffae_alone(conditioning), methods.vae_alone(scale))
    return [("celeba", method) for method in compared]


def _cell(table: str, name: str, method: Method, seed: int, scale: str, options: Options) -> Cell:
    dataset, steps = DATASETS[name], _steps(name, scale, options)
    # A floor is the same for every seed of the training.
    evaluation = EVALUATION[scale] | {"pool": dataset.pool, "floor_seeds": 1 if seed == 0 and method.floors else 0}
    if scale == "full" and dataset.pool == "all":
        evaluation["num_images"] = 0
    if table == "celeba":
        metrics = ("tad", "reconstruction", "content_tracking") + (
            ("fid",) if "inception_weights" in options.weights else ()
        )
        evaluation |= DECODED[scale] | {"num_images": EVALUATION[scale]["num_images"]}
    else:
        metrics = tuple(column.metric for column in FACTOR_COLUMNS)
    common = {"train.steps": steps, "train.seed": seed, "train.picture_every": steps, "data.holdout": dataset.holdout}
    return Cell(
        dataset=name,
        method=method.name,
        label=method.label,
        seed=seed,
        config=_config_of(name, scale),
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
        notes.append("TAD by the protocol of the published rows, `disdiff`; reconstructions infer x_T in 100 steps.")
    else:
        notes.append(
            "Rendered sets: 5 % of the factor combinations are held out from training, and DCI and MIG are measured on "
            "them alone; the FactorVAE score chooses factors and needs the whole grid. Other sets: every image, as "
            "published."
        )
    return (
        *notes,
        "± is the standard deviation over training seeds (n - 1). DCI is its disentanglement.",
        "Floors are what codes score that disentangle nothing. Published rows are others' numbers on the published "
        "images, with their networks and budgets; rendered sets have none.",
    )
