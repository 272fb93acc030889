"""Which images a set holds: the digest that a checkpoint keeps."""

import numpy as np
import pytest
from PIL import Image

from cldis_jax import data
from cldis_jax.data.folder import Folder
from cldis_jax.data.scenes import Scenes
from cldis_jax.data.sprites import Sprites


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "pictures" / "sub").mkdir(parents=True)
    for name in ("a.png", "b.png", "sub/c.png"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "pictures" / name)
    return tmp_path / "pictures"


def test_a_folder_may_move_but_its_names_count(pictures):
    record = data.identity(Folder(str(pictures), 8))
    assert record["num_images"] == 3
    moved = pictures.rename(pictures.with_name("moved"))
    assert data.difference(Folder(str(moved), 8), record) == ""
    (moved / "a.png").rename(moved / "z.png")
    assert "has 3 images of other names" in data.difference(Folder(str(moved), 8), record)
    (moved / "z.png").unlink()
    assert "has 2 images, not 3" in data.difference(Folder(str(moved), 8), record)


def test_rendered_sets_differ_by_name_and_length():
    record = data.identity(Scenes(16))
    assert record == {"num_images": 480_000, "names_sha256": Scenes(32).digest}
    assert Scenes(16).digest != Sprites(16, 3).digest


def test_what_an_earlier_version_did_not_record_is_not_compared():
    assert data.difference(Scenes(16), {}) == ""
    assert data.difference(Scenes(16), {"num_images": 480_000}) == ""
    assert data.difference(Scenes(16), {"num_images": 479_999}) == "scenes has 480000 images, not 479999"
