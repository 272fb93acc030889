"""The cells of the tables: distinct, comparable, shared between tables, and changed by options."""

import dataclasses
import json
import pathlib

import pytest

from cldis_jax.configs import beta_vae, scenes
from cldis_jax.method.distillation import FORMS
from cldis_jax.runtime.config_json import flatten
from cldis_jax.study import cells, methods, running
from tests.study.fabricated import config_of, make

TABLES = [(name, scale) for name in cells.SEEDS for scale in cells.SCALES]
# Fields that a table sets for every cell.
OF_THE_TABLE = {"train.steps", "train.picture_every", "checkpoint.keep_period", "data.holdout"}


@pytest.mark.parametrize(("name", "scale"), TABLES)
def test_cells_are_distinct_and_shards_share_them_out(name, scale):
    table = make(name, scale)
    ids = [cell.id for cell in table.cells]
    assert len(ids) == len(set(ids))
    configs = [json.dumps(config_of(cell), sort_keys=True) for cell in table.cells]
    assert len(configs) == len(set(configs))
    for count in (1, 2, 7):
        shards = [cell.id for index in range(count) for cell in cells.shard(table.cells, index, count)]
        assert sorted(shards) == sorted(ids)


@pytest.mark.parametrize(("name", "scale"), TABLES)
def test_methods_have_equal_steps_data_and_evaluation(name, scale):
    groups = {}
    for cell in make(name, scale).cells:
        config = cells.resolve(cell)
        evaluation = cell.evaluation | {"floor_seeds": None}
        same = (config.train.steps, config.data.to_json(), evaluation, cell.metrics, config.train.learning_rate)
        groups.setdefault((cell.dataset, cell.seed), []).append(same)
        assert config.train.seed == cell.seed
    for same in groups.values():
        assert all(other == same[0] for other in same)


@pytest.mark.parametrize("scale", cells.SCALES)
def test_tables_share_their_cells(scale):
    main = {cell.id: cell for cell in make("main", scale).cells}
    ablation = make("ablation", scale).cells
    shared = [cell for cell in ablation if cell.id in main]
    assert {cell.method for cell in shared} == {"cldis_cross_attention", "cldis_adagn"}
    for cell in shared:
        assert dataclasses.replace(cell, label="") == dataclasses.replace(main[cell.id], label="")
    own = flatten(scenes.get_config(scale))
    baseline = flatten(cells.resolve(ablation[0]))
    assert {name for name in own if own[name] != baseline[name]} <= OF_THE_TABLE


def test_the_baseline_vae_is_that_of_its_config():
    cell = next(cell for cell in make().cells if cell.method == "beta_vae")
    ours, theirs = flatten(cells.resolve(cell)), flatten(beta_vae.get_config("cpu"))
    assert {name for name in ours if ours[name] != theirs[name]} <= OF_THE_TABLE


@pytest.mark.parametrize("scale", cells.SCALES)
def test_single_branches_have_no_setting_that_only_helps_the_loop(scale):
    for cell in make("main", scale).cells:
        config = cells.resolve(cell)
        if cell.method.startswith("diffae"):
            assert not config.model.standardize_z_sem
        elif cell.method.startswith("beta_vae"):
            assert not config.vae.antithetic
        elif cell.method == "cldis_paper":
            assert config.preset == "paper"
            assert not config.model.standardize_z_sem
            assert not config.vae.antithetic
        else:
            assert config.model.standardize_z_sem
            assert config.vae.antithetic


def test_the_rows_of_the_loop():
    """The open loop is CL-Dis but for C; the preset `paper` has the same images and steps, and its own method."""
    ours = {cell.method: cell for cell in make("main", "long").cells if cell.dataset == "scenes" and cell.seed == 4}
    best, ramp, paper = (cells.resolve(ours[f"cldis_{name}"]) for name in ("cross_attention", "open_loop", "paper"))
    assert ramp.feedback.mode == "anneal"
    assert ramp.feedback.anneal_steps == best.train.steps // 3
    ramp.feedback.mode, ramp.feedback.anneal_steps = best.feedback.mode, best.feedback.anneal_steps
    assert ramp == best
    assert ours["cldis_paper"].config == "scenes.py:long,paper"
    assert (paper.diffusion.prediction, paper.feedback.mode) == ("eps", "progress")
    assert (paper.data, paper.train) == (best.data, best.train)


def test_the_ablation_changes_one_choice_at_a_time():
    labels = [cell.label for cell in make("ablation").cells if cell.seed == 0]
    for expected in (
        "no distillation",
        "C fixed",
        "C annealed",
        "no feedback: C annealed, no swap",
        "feedback timestep",
    ):
        assert expected in labels
    config = scenes.get_config("cpu")
    config.feedback.mode = "progress"
    names = [method.label for method in methods.variants(config, 100)]
    assert "feedback gain" in names
    assert "feedback progress" not in names


@pytest.mark.parametrize("scale", cells.SCALES)
def test_the_ablation_has_the_alternatives_of_the_scale(scale):
    labels = {cell.label for cell in make("ablation", scale).cells}
    assert {f"L_dt {form}" for form in FORMS if form != "kl"} <= labels
    assert {"L_dt on every unit alike", "z_sem as drawn", "one sample of z_disen"} <= labels
    assert {"prediction eps", "prediction v", "E_sem unet"} <= labels


def test_a_floor_is_measured_once_for_each_size_of_the_codes():
    floors = [c.method for c in make("ablation").cells if c.evaluation["floor_seeds"]]
    assert sorted(floors) == ["cldis_20_latents", "cldis_6_latents", "cldis_adagn", "cldis_cross_attention"]
    assert {c.seed for c in make("main").cells if c.evaluation["floor_seeds"]} == {0}


def test_the_heldout_part_is_large_enough():
    for name, scale in TABLES:
        for cell in make(name, scale).cells:
            if cell.evaluation["pool"] == "heldout" and "dci" in cell.metrics:
                size = {"scenes": 480_000, "sprites": 737_280}[cell.dataset]
                pool = min(cell.evaluation["num_images"], round(size * cells.resolve(cell).data.holdout))
                assert pool >= cell.evaluation["num_train"] + cell.evaluation["num_test"]


def test_only_the_table_of_compositions_holds_combinations_out():
    """The other tables keep the cells that they had."""
    table = make("composition", seeds=1)
    assert table.cells[0].id == "scenes_pairs/cldis_cross_attention/seed0"
    for cell in table.cells:
        assert cells.resolve(cell).data.holdout_pairs == "object_hue,shape"
        assert cell.metrics == ("composition",)
    assert len(make("composition").cells) == 5 * len(table.cells)
    assert all("data.holdout_pairs" not in cell.overrides for cell in make("main").cells)


def test_options_reach_the_cells():
    given = {"steps": 7, "seeds": 2, "data": {"celeba": "/set"}, "weights": {"inception_weights": "/i.pth"}}
    table = make("celeba", "full", **given)
    assert {cell.steps for cell in table.cells} == {7}
    assert {cell.seed for cell in table.cells} == {0, 1}
    train, evaluate = running.commands(table.cells[0], pathlib.Path("/c"))[:2]
    assert "--config.data.data_dir=/set" in train
    assert "--inception_weights=/i.pth" in evaluate
    assert "--protocol=disdiff,exact" in evaluate
    small, evaluate = running.commands(make("celeba", "cpu", **given).cells[0], pathlib.Path("/c"))[:2]
    assert "--config=configs/faces.py:cpu" in small
    assert "--config.data.path=/set" in small
    assert "--config.data.holdout_split=test" in small
    assert "--pool=heldout" in evaluate
    assert "fid" in table.cells[0].metrics
    assert "fid" not in make("celeba").cells[0].metrics
