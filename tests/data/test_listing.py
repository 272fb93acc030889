"""Which files of a folder or a zip are images, and why the others are skipped."""

import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from cldis_jax.data import DataError, listing
from cldis_jax.data.folder import Folder

NOISE = ["d/.thumbnails/a.png", "._x.jpg", "@eaDir/a.png", "$RECYCLE.BIN/a.png", "__MACOSX/a.png", "Thumbs.db"]


def picture(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), value).save(path)


@pytest.fixture
def tree(tmp_path):
    """A folder with images, what systems leave in folders, and a workdir."""
    root = tmp_path / "photos"
    for name in ["b/2.png", "b/1.jpeg", "a.gif", "b-c/1.bmp", *NOISE[:1]]:
        picture(root / name, 40 * len(name))
    for name in [*NOISE[1:], "notes.txt", "phone.HEIC", "attributes.csv", "runs/1/config.json"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    (root / "runs/1/checkpoints").mkdir()
    picture(root / "runs/1/pictures/grid.png")
    (root / "runs/1/checkpoints/state").write_bytes(b"")
    return root


@pytest.fixture
def packed(tree):
    file = tree.with_suffix(".zip")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(tree.rglob("*"), reverse=True):
            archive.write(path, path.relative_to(tree))
    return file


def test_a_folder_is_listed_by_folders_and_says_what_it_skips(tree):
    found = listing.find(str(tree))
    assert found.names == ("a.gif", "b/1.jpeg", "b/2.png", "b-c/1.bmp")
    assert found.sizes == tuple((tree / name).stat().st_size for name in found.names)
    assert found.tables == ("attributes.csv",)
    assert {reason: len(names) for reason, names in found.skipped.items()} == {
        listing.HIDDEN: len(NOISE),
        listing.OTHER: 2,
        listing.MADE: 1,
    }
    said = listing.describe(found.skipped)
    assert said.startswith("9 skipped: ")
    assert "6 hidden" in said
    assert "1 made by cldis_jax (runs/1)" in said
    assert "2 not images (" in said
    assert ".heic 1" in said


def test_a_zip_is_a_folder(tree, packed):
    found = listing.find(str(packed))
    assert found.names == listing.find(str(tree)).names
    assert set(found.skipped) == {listing.HIDDEN, listing.OTHER, listing.MADE}
    folder, archive = Folder(str(tree), 8), Folder(str(packed), 8)
    np.testing.assert_array_equal(archive.fetch(np.arange(4)), folder.fetch(np.arange(4)))
    many = np.random.default_rng(0).integers(0, 4, 400)  # read by several threads
    np.testing.assert_array_equal(archive.fetch(many), folder.fetch(many))


def test_what_is_no_zip_is_refused(tmp_path):
    (tmp_path / "torn.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match="can't be read as zip"):
        listing.find(str(tmp_path / "torn.zip"))


def test_a_huge_member_of_a_zip_is_broken(packed, monkeypatch):
    monkeypatch.setattr(listing, "MOST_BYTES", 10)
    with pytest.raises(DataError, match=r"4 broken \(a.gif: .* GiB unpacked"):
        Folder(str(packed), 8)


def test_linked_folders_are_followed_once(tree, tmp_path):
    picture(tmp_path / "elsewhere/x.png")
    (tree / "link").symlink_to(tmp_path / "elsewhere")
    (tree / "again").symlink_to(tmp_path / "elsewhere")
    (tree / "b/loop").symlink_to(tree)
    (tree / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tree / "self.png").symlink_to(tree / "self.png")
    (tree / "file.png").symlink_to(tree / "b/2.png")
    found = listing.find(str(tree))
    assert found.names == ("a.gif", "again/x.png", "b/1.jpeg", "b/2.png", "b-c/1.bmp", "file.png")
    assert sorted(found.skipped[listing.LINKED]) == ["b/loop", "link"]
    assert found.skipped[listing.MISSING] == ["gone.png", "self.png"]


def test_an_unreadable_folder_is_named(tree, monkeypatch):
    scan = os.scandir

    def closed(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    found = listing.find(str(tree))
    assert found.names == ("a.gif", "b-c/1.bmp")
    assert "1 unreadable folders (b)" in listing.describe(found.skipped)


def test_a_workdir_does_not_train_on_its_own_pictures(tmp_path):
    picture(tmp_path / "mine.png")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "checkpoints").mkdir()
    picture(tmp_path / "pictures/step.png")
    picture(tmp_path / "edited/mine_set.png")
    (tmp_path / "edited/edit.json").write_text("{}")
    found = listing.find(str(tmp_path))
    assert found.names == ("mine.png",)
    assert sorted(found.skipped[listing.MADE]) == ["checkpoints", "edited", "pictures"]


def test_every_format_that_pillow_opens_by_itself_is_read():
    from cldis_jax.data.images import suffixes

    assert {".jfif", ".jpe", ".bmp", ".tif", ".gif", ".webp", ".png", ".ppm", ".tga"} <= suffixes().keys()
    assert not {".eps", ".h5", ".mpg", ".pdf", ".txt"} & suffixes().keys()
