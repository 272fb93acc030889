"""The cache of decoded images: what it holds, when it is built again, and what may go wrong with it."""

import errno
import fcntl
import os
import threading
import time
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from cldis_jax.data import cache, folder, images, listing
from cldis_jax.data.folder import Folder


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for i in range(6):
        pixels = np.random.default_rng(i).integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"{i}.png")
    (root / "3.png").write_bytes(b"torn")
    return root


@pytest.fixture
def reads(monkeypatch):
    """How often a file is decoded."""
    count = []
    read = images.read
    monkeypatch.setattr(folder.images, "read", lambda *args: count.append(1) or read(*args))
    return count


def test_a_second_run_decodes_nothing_and_reads_the_same(photos, tmp_path, reads):
    place = str(tmp_path / "cache")
    first = Folder(str(photos), 16, cache_setting=place)
    assert len(reads) == 6
    second = Folder(str(photos), 16, cache_setting=place)
    assert len(reads) == 6
    plain = Folder(str(photos), 16)
    indices = np.array([4, 0, 2, 2])
    assert first.names == second.names == plain.names == ("0.png", "1.png", "2.png", "4.png", "5.png")
    for source in (first, second):
        images_read = source.fetch(indices)
        assert images_read.dtype == np.uint8
        np.testing.assert_array_equal(images_read, plain.fetch(indices))
    assert sorted(file.suffix for file in (tmp_path / "cache").iterdir()) == [".json", ".npy"]


def test_the_key_is_of_the_files_and_the_decoding_and_not_of_the_place(photos, tmp_path):
    def key(size=16, channels=3, crop="center"):
        return cache.key(listing.find(str(photos)), size, channels, crop)

    before = key()
    assert len({before, key(size=32), key(channels=1), key(crop="d2c")}) == 4
    photos = photos.rename(tmp_path / "moved")
    assert key() == before
    os.utime(photos / "1.png", ns=(1, 1))
    assert key() != before
    touched = key()
    (photos / "1.png").rename(photos / "7.png")
    assert key() != touched


@pytest.mark.parametrize("stopped_at", [1, 5])
def test_a_build_that_was_stopped_goes_on(photos, tmp_path, monkeypatch, reads, stopped_at):
    place = tmp_path / "cache"
    monkeypatch.setattr(cache, "SAVE_EVERY", 0.0)
    read = folder.images.read

    def stop(file, *args):
        if file.name == f"{stopped_at}.png":
            raise KeyboardInterrupt
        return read(file, *args)

    with monkeypatch.context() as patch:
        patch.setattr(cache, "THREADS", 1)
        patch.setattr(folder.images, "read", stop)
        with pytest.raises(KeyboardInterrupt):
            Folder(str(photos), 16, cache_setting=str(place))
    assert not list(place.glob("*.npy"))
    with open(next(place.glob("*.part")), "ab") as part:
        part.write(b"half a row, written after the last record")
    reads.clear()
    source = Folder(str(photos), 16, cache_setting=str(place))
    assert len(reads) == 6 - stopped_at
    assert source.names == ("0.png", "1.png", "2.png", "4.png", "5.png")
    np.testing.assert_array_equal(source.fetch(np.arange(5)), Folder(str(photos), 16).fetch(np.arange(5)))
    assert sorted(file.suffix for file in place.iterdir()) == [".json", ".npy"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_without_room_or_rights_images_are_read_without_it(photos, tmp_path, monkeypatch, capsys, number):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    source = Folder(str(photos), 16, cache_setting=str(tmp_path / "cache"))
    said = capsys.readouterr().err
    assert f"no image cache in {tmp_path / 'cache'}: {os.strerror(number)}" in said
    assert source.fetch(np.arange(5)).shape == (5, 16, 16, 3)
    assert not [file for file in (tmp_path / "cache").iterdir() if file.suffix in (".npy", ".part")]
    assert "read from" not in source.describe(0)[0]


def test_too_small_a_disk_is_noticed_before(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    Folder(str(photos), 16, cache_setting=str(tmp_path / "cache"))
    assert "it needs 0.00 MB, 0.00 MB are free" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["cut", "other", "no record"])
def test_a_damaged_cache_is_built_again(photos, tmp_path, damage, reads):
    place = tmp_path / "cache"
    expected = Folder(str(photos), 16, cache_setting=str(place)).fetch(np.arange(5))
    (file,), (record,) = place.glob("*.npy"), place.glob("*.json")
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-1000])
    elif damage == "other":
        file.write_bytes(b"")
    else:
        record.unlink()
    reads.clear()
    found = Folder(str(photos), 16, cache_setting=str(place)).fetch(np.arange(5))
    np.testing.assert_array_equal(found, expected)
    assert len(reads) == 6


def test_an_image_that_can_be_read_again_is_no_longer_left_out(photos, tmp_path, monkeypatch):
    place = str(tmp_path / "cache")
    read = images.read

    def refused(file, *args):
        if str(file).endswith("1.png"):
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return read(file, *args)

    monkeypatch.setattr(folder.images, "read", refused)
    for _ in range(2):
        assert Folder(str(photos), 16, cache_setting=place).names == ("0.png", "2.png", "4.png", "5.png")
    monkeypatch.setattr(folder.images, "read", read)
    found = Folder(str(photos), 16, cache_setting=place)
    assert found.names == ("0.png", "1.png", "2.png", "4.png", "5.png")
    np.testing.assert_array_equal(found.fetch(np.arange(5)), Folder(str(photos), 16).fetch(np.arange(5)))


def test_two_builders_do_not_collide(photos, tmp_path, reads, capsys):
    place = tmp_path / "cache"
    place.mkdir()
    lock_file = place / f"{cache.key(listing.find(str(photos)), 16, 3, 'center')}.lock"
    found = []
    with open(lock_file, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = threading.Thread(target=lambda: found.append(Folder(str(photos), 16, cache_setting=str(place))))
        waiting.start()
        deadline = time.monotonic() + 20
        said = ""
        while "another process decodes these images" not in said and time.monotonic() < deadline:
            time.sleep(0.02)
            said += capsys.readouterr().err
        assert "waiting for it" in said
        assert not reads
    waiting.join(20)
    assert len(found[0]) == 5


def test_where_it_is(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder("auto") == tmp_path / "cldis_jax" / "images"
    assert cache.folder("") is None
    assert cache.folder(str(tmp_path / "x")) == tmp_path / "x"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert str(cache.folder("auto")) == "/home/somebody/.cache/cldis_jax/images"
    monkeypatch.setattr(cache.Path, "expanduser", mock.Mock(side_effect=RuntimeError("no home")))
    assert cache.folder("auto") is None
    assert "--config.data.cache=FOLDER names a place for it" in capsys.readouterr().err
