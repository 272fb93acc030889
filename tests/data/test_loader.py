"""The order of the images: reproducible, complete, resumable, and the same for any number of processes."""

import json
import sys

import numpy as np
import pytest
from ml_collections import ConfigDict

from cldis_jax import data
from cldis_jax.data import DataError, Source, make_loader, split


class Indices(Source):
    """A source whose images are their own indices."""

    name = "indices"

    def fetch(self, indices):
        return np.asarray(indices).reshape(-1, 1, 1, 1)


def read(loader, batches):
    return [next(loader)["image"].ravel() for _ in range(batches)]


def loader(indices=None, **options):
    return make_loader(
        Indices(), np.arange(100, 200) if indices is None else indices, **{"batch_size": 8, "seed": 5} | options
    )


def test_an_epoch_reads_every_index_once_and_the_next_in_another_order():
    stream = np.concatenate(read(loader(batch_size=10), 30)).reshape(3, 100)
    for epoch in stream:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(100, 200))
    assert not np.array_equal(stream[0], stream[1])
    assert not np.array_equal(stream[1], stream[2])
    assert not np.array_equal(stream[0], np.arange(100, 200))


def test_epochs_follow_without_a_gap_when_the_batch_does_not_divide_them():
    stream = np.concatenate(read(loader(batch_size=32), 25))  # 800 = 8 epochs
    np.testing.assert_array_equal(np.bincount(stream - 100), np.full(100, 8))
    np.testing.assert_array_equal(np.sort(stream[100:200]), np.arange(100, 200))


def test_sets_smaller_than_a_batch_fill_it():
    batch = read(loader(indices=np.array([3, 7, 9]), batch_size=12), 1)[0]
    np.testing.assert_array_equal(np.unique(batch, return_counts=True)[1], [4, 4, 4])


def test_the_order_depends_on_the_seed_and_not_on_threads():
    reference = read(loader(), 20)
    np.testing.assert_array_equal(read(loader(threads=0), 20), reference)
    np.testing.assert_array_equal(read(loader(threads=4, prefetch=9), 20), reference)
    assert not np.array_equal(read(loader(seed=6), 20), reference)


@pytest.mark.parametrize("position", [0, 3, 12, 40])  # an epoch has 12.5 batches
def test_a_restored_state_continues_exactly(position):
    first = loader()
    read(first, position)
    state = json.loads(json.dumps(first.get_state()))
    expected = read(first, 20)
    second = loader()
    second.set_state(state)
    np.testing.assert_array_equal(read(second, 20), expected)
    read(second, 1)
    second.set_state(state)  # also on an iterator that has already advanced
    np.testing.assert_array_equal(read(second, 20), expected)


@pytest.mark.parametrize("process_count", [2, 4, 8])
def test_processes_together_read_the_same_global_batches(process_count):
    whole = np.array(read(loader(), 30))
    parts = [read(loader(process_index=index, process_count=process_count), 30) for index in range(process_count)]
    assert all(part[0].shape == (8 // process_count,) for part in parts)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts, 1)), np.sort(whole))


def test_a_batch_that_does_not_divide_or_an_empty_set_is_refused():
    with pytest.raises(ValueError, match=r"batch_size=8 .* 3 processes"):
        loader(process_count=3)
    with pytest.raises(DataError, match="holdout"):
        loader(indices=np.array([], int))


def test_the_split_is_fixed_sorted_and_complete():
    train, held_out = split(1000, 0.1)
    assert len(held_out) == 100
    np.testing.assert_array_equal(np.sort(np.concatenate([train, held_out])), np.arange(1000))
    for indices in (train, held_out):
        assert (np.diff(indices) > 0).all()
    np.testing.assert_array_equal(split(1000, 0.1)[1], held_out)
    assert np.isin(held_out, split(1000, 0.2)[1]).all()
    assert 300 < held_out.mean() < 700
    train, held_out = split(7, 0.0)
    np.testing.assert_array_equal(train, np.arange(7))
    assert len(held_out) == 0
    with pytest.raises(ValueError, match="holdout"):
        split(10, 1.0)


def test_make_source_reads_the_config_and_names_the_valid_choices():
    from cldis_jax.configs.default import get_config

    config = get_config().data
    config.image_size = 16
    batch = next(make_loader(data.make_source(config), np.arange(50), batch_size=4, seed=0))["image"]
    assert batch.shape == (4, 16, 16, 3)
    assert batch.dtype == np.uint8
    config.channels = 1
    with pytest.raises(ValueError, match="channels=1"):
        data.make_source(config)
    config.source = "sprites"
    assert data.make_source(config).fetch([0]).shape == (1, 16, 16, 1)
    config.source = "mnist"
    with pytest.raises(ValueError, match="scenes, sprites, folder, tfds, cars3d, mpi3d"):
        data.make_source(config)
    config.source, config.crop = "folder", "middle"
    with pytest.raises(ValueError, match="center, d2c"):
        data.make_source(config)


def test_a_tfds_set_without_the_library_names_the_extra(monkeypatch):
    from cldis_jax.configs import celeba

    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # as if it were not installed
    with pytest.raises(data.DataError, match=r"^data.source=tfds needs .*: pip install 'cldis_jax\[tfds\]'$"):
        data.make_source(celeba.get_config().data)


class Grid(Source):
    """Every combination of three factors, twice, in another order than a grid's."""

    name = "grid"
    factor_names = ("hue", "shape", "side")
    factor_sizes = (5, 3, 2)

    def __len__(self):
        return 60

    def factors(self, indices):
        return super().factors((7 * np.asarray(indices)) % 30)


def with_pairs(pairs, holdout=0.0):
    return ConfigDict({"holdout": holdout, "holdout_split": "", "holdout_pairs": pairs})


def test_whole_combinations_of_two_factors_are_held_out():
    found = data.parts(Grid(), with_pairs("hue,shape", holdout=0.2))
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(60))
    trained, apart = (
        {tuple(row) for row in Grid().factors(part)[:, :2].tolist()} for part in (found.train, found.combinations)
    )
    assert apart == {(0, 0), (1, 1), (2, 2), (3, 0), (4, 1)}
    assert not trained & apart
    assert len(found.combinations) == 20  # a third: both sides, twice
    assert not {tuple(row) for row in Grid().factors(found.held_out)[:, :2].tolist()} & apart
    swapped = data.parts(Grid(), with_pairs("shape, hue", holdout=0.2))
    np.testing.assert_array_equal(swapped.combinations, found.combinations)


def test_without_pairs_the_parts_are_those_of_the_share():
    found = data.parts(Grid(), with_pairs("", holdout=0.2))
    for part, expected in zip(found, (*split(60, 0.2), [])):
        np.testing.assert_array_equal(part, expected)


def test_a_set_without_named_parts_can_hold_none_out():
    config = with_pairs("")
    config.holdout_split = "test"
    with pytest.raises(DataError, match="grid has no named parts"):
        data.parts(Grid(), config)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("hue", "is not two factors of grid, which has: hue, shape, side"),
        ("hue,hue", "is not two factors"),
        ("hue,size", "is not two factors"),
        ("hue,side", "three values or more, one has 2"),
    ],
)
def test_pairs_that_cannot_be_held_out_are_named(pairs, message):
    with pytest.raises(DataError, match=message):
        data.parts(Grid(), with_pairs(pairs))
