"""Edits with a model whose results are known, image files of every kind, and the command itself."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cldis_jax import api
from cldis_jax.api import editor as editing
from cldis_jax.api.edits import edit
from cldis_jax.data import files as image_files
from cldis_jax.data import listing
from cldis_jax.runtime import report
from cldis_jax.runtime.errors import UserError
from tests import doors

RNG = np.random.default_rng(0)


class Additive:
    """A stand-in for a Bundle with images of 1x4 pixels: z is half the image, and the decoder returns x_T + z."""

    image_shape = (1, 4, 1)
    has_diffusion = True

    def represent(self, images, latent):
        return images[:, 0, :, 0] / 2

    def encode_noise(self, images, z, num_steps):
        assert num_steps == 9
        return images - np.asarray(z)[:, None, :, None]

    def decode(self, x_T, z, num_steps):
        assert num_steps == 5
        return x_T + z[:, None, :, None]


EDITOR = editing.Editor(Additive(), "z_sem", encode_steps=9, decode_steps=5)
IMAGES = RNG.normal(size=(20, 1, 4, 1)).astype(np.float32)


def test_encode_then_decode():
    code = EDITOR.encode(IMAGES)
    np.testing.assert_allclose(code.z, IMAGES[:, 0, :, 0] / 2, atol=1e-6)
    np.testing.assert_allclose(EDITOR.decode(code), IMAGES, atol=1e-6)


def test_traversal_moves_one_latent_by_standard_deviations():
    std = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    shifts = np.array([-2.0, 0.0, 1.0])
    grid = EDITOR.traverse(EDITOR.encode(IMAGES[:9]), np.diag(std)[[3, 1]], shifts)
    assert grid.shape == (2, 9, 3, 1, 4, 1)
    for row, k in enumerate((3, 1)):
        for column, shift in enumerate(shifts):
            expected = IMAGES[:9].copy()
            expected[:, 0, k, 0] += shift * std[k]
            np.testing.assert_allclose(grid[row, :, column], expected, atol=1e-5)


def test_several_shifts_at_once():
    edited = EDITOR.shifted(EDITOR.encode(IMAGES), np.diag([1.0, 2.0, 3.0, 4.0]), {3: 2.0, 1: -1.0})
    np.testing.assert_allclose(edited - IMAGES, np.broadcast_to([[[0], [-2], [0], [8]]], IMAGES.shape), atol=1e-5)


def test_interpolation_ends_at_both_images():
    first, second = EDITOR.encode(IMAGES[:1]), EDITOR.encode(IMAGES[1:2])
    frames = EDITOR.interpolate(first, second, 5)
    np.testing.assert_allclose(frames[0], IMAGES[0], atol=1e-5)
    np.testing.assert_allclose(frames[-1], IMAGES[1], atol=1e-5)
    middle = (first.z[0] + second.z[0]) / 2
    x_T = editing.slerp(first.x_T[0], second.x_T[0], 0.5)
    np.testing.assert_allclose(frames[2], x_T + middle[None, :, None], atol=1e-5)


def test_slerp_is_on_the_great_circle():
    a, b = np.array([[2.0, 0.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [0.0, 2.0]])
    for weight in (0.0, 0.25, 1.0):
        angle = weight * np.pi / 2
        expected = [[2 * np.cos(angle), 0], [0, 2 * np.sin(angle)]]
        np.testing.assert_allclose(editing.slerp(a, b, weight), expected, atol=1e-6)
    x, y = RNG.normal(size=(2, 8, 8, 3))
    x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
    third = editing.slerp(x, y, 1 / 3)
    np.testing.assert_allclose(np.linalg.norm(third), 1, rtol=1e-5)
    np.testing.assert_allclose(3 * np.arccos((third * x).sum()), np.arccos((x * y).sum()), rtol=1e-4)
    np.testing.assert_allclose(editing.slerp(x, 2 * x, 0.5), 1.5 * x, rtol=1e-5)
    assert np.isfinite(editing.slerp(np.zeros((2, 2)), x[0, :2, :2], 0.5)).all()


def test_reconstructions_with_both_kinds_of_noise():
    kinds = EDITOR.reconstruct(IMAGES, seed=1)
    assert list(kinds) == ["original", "inferred x_T", "random x_T"]
    np.testing.assert_allclose(kinds["inferred x_T"], IMAGES, atol=1e-5)
    noise = kinds["random x_T"] - EDITOR.encode(IMAGES).z[:, None, :, None]
    assert 0.7 < noise.std() < 1.3
    np.testing.assert_array_equal(kinds["random x_T"], EDITOR.reconstruct(IMAGES, seed=1)["random x_T"])


def test_rows_and_shifts():
    axes = api.Axes(np.eye(8), [5, 2, 0, 1, 3, 4, 6, 7], "unit", "z_sem")
    assert editing.parse_rows("all", axes) == axes.order
    assert editing.parse_rows("2,0", axes) == [2, 0]
    assert editing.parse_shifts("3=+2.0,7=-1", axes) == {3: 2.0, 7: -1.0}
    for text, message in (("3=+2,3=1", "twice"), ("3", "pairs such as"), ("3=x", "pairs such as"), ("3=nan", "pairs")):
        with pytest.raises(UserError, match=message):
            editing.parse_shifts(text, axes)
    for text in ("8=1", "-1=1"):
        with pytest.raises(UserError, match=r"out of range: there are 8, numbered 0 to 7"):
            editing.parse_shifts(text, axes)
    with pytest.raises(UserError, match="'x' is not the number of a direction"):
        editing.parse_rows("x", axes._replace(kind="direction"))


def test_a_vae_alone_edits_through_its_decoder(untrained_workdir):
    bundle = api.load(untrained_workdir)
    editor = editing.Editor(bundle, "z_disen", 9, 5)
    images = RNG.uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)
    code = editor.encode(images)
    assert code.x_T is None
    np.testing.assert_allclose(editor.decode(code), bundle.decode_vae(code.z), atol=1e-6)
    grid = editor.traverse(code, api.axes(bundle, "z_disen").steps, np.array([0.0, 2.0]))
    assert grid.shape == (10, 2, 2, 16, 16, 3)
    np.testing.assert_allclose(grid[4, :, 0], editor.decode(code), atol=1e-5)
    assert list(editor.reconstruct(images)) == ["original", "VAE"]
    assert editor.interpolate(code.take(slice(0, 1)), code.take(slice(1, 2)), 3).shape[0] == 3


@pytest.fixture
def photos(tmp_path):
    """A folder with images of different sizes and modes, and a file that is not an image."""
    folder = tmp_path / "photos"
    folder.mkdir()
    ramp = np.linspace(0, 255, 40 * 30).astype(np.uint8).reshape(40, 30)
    Image.fromarray(ramp).save(folder / "grey.png")
    Image.fromarray(ramp.astype(np.uint16) * 257).save(folder / "sixteen.png")
    Image.fromarray(np.stack([ramp, ramp[::-1], ramp, ramp], -1), "RGBA").save(folder / "clear.webp", lossless=True)
    Image.fromarray(np.stack([ramp] * 3, -1)).save(folder / "photo.jpg")
    (folder / "notes.txt").write_text("no image")
    return folder


def test_files_of_every_mode(photos):
    files = image_files.find(str(photos))
    assert [file.name for file in files] == ["clear.webp", "grey.png", "photo.jpg", "sixteen.png"]
    images = image_files.read(files, 16, 3, "center")
    assert images.shape == (4, 16, 16, 3)
    assert np.abs(images).max() <= 1
    np.testing.assert_allclose(images[1], images[3], atol=0.02)
    assert image_files.read(files, 8, 1, "d2c").shape == (4, 8, 8, 1)  # only images of CelebA's size get CelebA's crop
    assert image_files.find(f"{photos}/grey.png,{photos}/photo.jpg") == [photos / "grey.png", photos / "photo.jpg"]


def test_a_folder_is_read_as_training_reads_it(photos):
    """Sub-folders too, hidden and broken files not, and not what an earlier call has written."""
    from cldis_jax.data.folder import Folder

    (photos / "more").mkdir()
    Image.new("L", (8, 8)).save(photos / "more/scan.tif")
    (photos / "broken.png").write_bytes((photos / "grey.png").read_bytes()[:60])
    (photos / "._grey.png").write_bytes(b"")
    (photos / "out").mkdir()
    Image.new("L", (8, 8)).save(photos / "out/grey_set.png")
    (photos / "out/edit.json").write_text("{}")
    found = [file.relative_to(photos).as_posix() for file in image_files.find(str(photos))]
    assert found == ["clear.webp", "grey.png", "more/scan.tif", "photo.jpg", "sixteen.png"]
    assert Folder(str(photos), 8).names == tuple(found)


def packed(photos):
    """The photos in a zip file, one more in a folder inside, and a broken one."""
    file = photos.with_suffix(".zip")
    with zipfile.ZipFile(file, "w") as archive:
        for photo in sorted(photos.iterdir()):
            archive.write(photo, photo.name)
        archive.write(photos / "grey.png", "./more/grey.png")
        archive.writestr("broken.png", (photos / "grey.png").read_bytes()[:60])
    return file


def test_a_zip_file_is_read_as_the_folder_in_it(photos, tmp_path, monkeypatch):
    file, listed = packed(photos), []
    monkeypatch.setattr(image_files.listing, "find", lambda path, find=listing.find: listed.append(path) or find(path))
    found = image_files.find(str(file))
    names = ["clear.webp", "grey.png", "more/grey.png", "photo.jpg", "sixteen.png"]
    assert [str(image.relative_to(file)) for image in found] == names
    assert image_files.names(found) == ["clear", "grey_1", "grey_2", "photo", "sixteen"]
    listed.clear()
    unpacked = [photos / Path(name).name for name in names]
    np.testing.assert_array_equal(image_files.read(found, 16, 3, "center"), image_files.read(unpacked, 16, 3, "center"))
    assert listed == [str(file)]  # once for all images


def test_files_folders_and_zip_files_may_be_mixed(photos, tmp_path):
    file = packed(photos)
    Image.new("L", (8, 8)).save(one := tmp_path / "a,b.png")
    assert image_files.find(str(one)) == [one]  # a name with a comma is one file
    found = image_files.find(f"{photos}/grey.png,{file}/more/grey.png,{photos}")
    assert found[:2] == [photos / "grey.png", file / "more/grey.png"]
    assert len(found) == 2 + 4
    assert image_files.existing(f"{file}/photo.jpg") == file / "photo.jpg"
    for absent in (f"{file}/absent.png", f"{photos}/absent.zip", f"{photos}/grey.png/x.png"):
        with pytest.raises(image_files.ImageFileError, match=f"no image file {absent}"):
            image_files.find(absent)
    (tmp_path / "torn.zip").write_bytes(file.read_bytes()[:200])
    with pytest.raises(image_files.ImageFileError, match=r"torn\.zip can't be read as an image"):
        image_files.read(image_files.find(str(tmp_path / "torn.zip")), 16, 3, "center")


def test_names_that_collide_are_numbered():
    assert image_files.names([Path("a/x.png"), Path("b/x.jpg"), Path("y.png")]) == ["x_0", "x_1", "y"]
    assert image_files.names([Path("a/x.png"), Path("b/x.jpg"), Path("x_0.png")]) == ["x_1", "x_2", "x_0"]
    confused = [Path("a/x.png"), Path("b/x.jpg"), Path("a/x_1.png"), Path("b/x_1.png"), Path("x_0.png")]
    assert len(set(image_files.names(confused))) == 5


def test_missing_and_unreadable_images(photos, tmp_path):
    with pytest.raises(image_files.ImageFileError, match=r"no image file .*absent"):
        image_files.find(f"{photos}/grey.png,{photos}/absent.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(image_files.ImageFileError, match=r"no readable image in .*empty"):
        image_files.find(str(tmp_path / "empty"))
    (photos / "broken.png").write_bytes((photos / "grey.png").read_bytes()[:60])
    with pytest.raises(image_files.ImageFileError, match=r"broken\.png can't be read as an image"):
        image_files.read([photos / "broken.png"], 16, 3, "center")


def test_an_input_is_never_replaced(photos):
    outputs = image_files.Outputs(str(photos), [photos / "grey.png"])
    before = (photos / "grey.png").read_bytes()
    (photos.parent / "link").symlink_to(photos)
    for folder in (photos, photos.parent / "link", photos / ".." / "photos"):
        outputs = image_files.Outputs(str(folder), [photos / "grey.png"])
        with pytest.raises(image_files.ImageFileError, match="would replace an input"):
            outputs.png("grey.png", np.zeros((2, 2, 3), np.uint8))
    outputs.png("grey_set.png", np.zeros((2, 2, 3), np.uint8))
    assert (photos / "grey.png").read_bytes() == before
    with pytest.raises(image_files.ImageFileError, match="is a file"):
        image_files.Outputs(str(photos / "grey.png"), [])
    with pytest.raises(image_files.ImageFileError, match="gs://bucket/edited is not a folder of this machine"):
        image_files.Outputs("gs://bucket/edited", [])


def test_edits_without_flags(untrained_workdir, photos, tmp_path):
    bundle = api.load(untrained_workdir)
    axes, images = api.axes(bundle, "z_sem"), image_files.find(str(photos / "grey.png"))
    fast = {"encode_steps": 2, "decode_steps": 2, "columns": 2, "animation": "none"}
    results = edit(bundle, axes, images, str(tmp_path / "out"), traverse="3", shifts="3=2", reconstruct=True, **fast)
    assert results == report.read_json(tmp_path / "out" / "edit.json")
    assert results["workdir"] == untrained_workdir
    written = ["grey_traverse.png", "grey_set.png", "reconstructions.png", "grey_inferred_x_T.png"]
    assert results["files"] == [*written, "grey_random_x_T.png"]
    moved = bundle.z_std[3] * 2 * np.eye(10, dtype=np.float32)[3:4]
    code = api.Editor(bundle, "z_sem", 2, 2).encode(image_files.read(images, 16, 3, "center"))
    expected = np.asarray(bundle.decode(code.x_T, code.z + moved, 2))[0]
    found = np.asarray(Image.open(tmp_path / "out" / "grey_set.png"), np.float32) / 127.5 - 1
    np.testing.assert_allclose(found, expected, atol=0.01)
    inside = image_files.find(f"{packed(photos)}/more/grey.png")
    packed_results = edit(bundle, axes, inside, str(tmp_path / "packed"), shifts="3=2", **fast)
    assert packed_results["inputs"] == [f"{photos}.zip/more/grey.png"]
    assert (tmp_path / "packed/grey_set.png").read_bytes() == (tmp_path / "out/grey_set.png").read_bytes()
    for arguments, message in (({}, "nothing to do"), ({"interpolate": images}, "takes two images, got 1")):
        with pytest.raises(UserError, match=message):
            edit(bundle, axes, images, str(tmp_path / "none"), **arguments)
    with pytest.raises(image_files.ImageFileError, match="would replace an input"):
        edit(bundle, axes, [photos / "grey.png", photos / "grey_set.png"], str(photos), shifts="3=2")
    assert not (tmp_path / "none").exists()


def test_command_line(untrained_workdir, photos, tmp_path):
    before = {file: file.read_bytes() for file in photos.iterdir()}
    out = tmp_path / "out"
    pair = photos / "grey.png", photos / "photo.jpg"
    arguments = [f"--workdir={untrained_workdir}", f"--images={photos}", f"--out={out}", "--encode_steps=8"]
    arguments += ["--traverse=3,7", "--columns=3", "--frames=4", "--animation=gif", "--set", "3=+2.0,7=-1"]
    done = doors.run("edit", *arguments, "--interpolate", *pair, "--reconstruct")
    assert done.returncode == 0, done.stderr
    assert {file: file.read_bytes() for file in photos.iterdir()} == before
    results = report.read_json(out / "edit.json")
    assert sorted(results["files"]) == sorted(file.name for file in out.iterdir() if file.name != "edit.json")
    for stem in ("grey", "photo", "clear", "sixteen"):
        for kind in ("set", "inferred_x_T", "random_x_T"):
            assert Image.open(out / f"{stem}_{kind}.png").size == (16, 16)
        assert Image.open(out / f"{stem}_traverse.gif").n_frames == 6  # forward and back
    assert (out / "grey_to_photo.png").exists()
    assert set(results["reconstruction_mse"]) == {"inferred x_T", "random x_T"}


def test_bad_input_is_one_line_and_writes_nothing(untrained_workdir, photos, tmp_path):
    out = tmp_path / "out"
    common = [f"--images={photos / 'grey.png'}", f"--out={out}"]
    for arguments, message in (
        ([f"--workdir={untrained_workdir}", *common, "--traverse=10"], "unit 10 is out of range"),
        ([f"--workdir={tmp_path / 'none'}", *common, "--traverse=all"], "no checkpoint in"),
    ):
        done = doors.run("edit", *arguments)
        assert done.returncode == 1
        assert done.stderr.strip().splitlines()[-1].startswith("error: ")
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert not out.exists()
