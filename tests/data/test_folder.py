"""Images of every mode and shape from a directory."""

import struct

import numpy as np
import pytest
from absl import logging
from PIL import Image, ImageOps, TiffImagePlugin

from cldis_jax.data import DataError
from cldis_jax.data.folder import Folder

RED, BLUE = (200, 30, 40), (20, 60, 220)


def pixel(root, file, channels=3):
    """The centre pixel of the only usable image in a directory."""
    source = Folder(str(root), 16, channels)
    assert source.names == (file,)
    image = source.fetch(np.array([0]))
    assert image.shape == (1, 16, 16, channels)
    assert image.dtype == np.uint8
    return image[0, 8, 8]


def palette():
    return Image.new("RGB", (40, 30), RED).convert("P", palette=Image.Palette.ADAPTIVE)


def grey16():
    return Image.fromarray(np.full((30, 40), 0x8080, np.uint16))


MODES = {
    "rgb.png": (lambda: Image.new("RGB", (40, 30), RED), RED),
    "deep/er/rgb.JPEG": (lambda: Image.new("RGB", (40, 30), RED), RED),
    "rgb.webp": (lambda: Image.new("RGB", (40, 30), RED), RED),
    "grey.png": (lambda: Image.new("L", (40, 30), 77), (77, 77, 77)),
    "grey.jpg": (lambda: Image.new("L", (40, 30), 77), (77, 77, 77)),
    "bits.png": (lambda: Image.new("1", (40, 30), 1), (255, 255, 255)),
    "palette.png": (palette, RED),
    "alpha.png": (lambda: Image.new("RGBA", (40, 30), (*RED, 51)), [255 + (c - 255) / 5 for c in RED]),
    "alpha.webp": (lambda: Image.new("RGBA", (40, 30), (0, 0, 0, 0)), (255, 255, 255)),
    "grey_alpha.png": (lambda: Image.new("LA", (40, 30), (0, 51)), (204, 204, 204)),
    "cmyk.jpg": (lambda: Image.new("CMYK", (40, 30), (0, 255, 255, 0)), (255, 0, 0)),
    "grey16.png": (grey16, (128, 128, 128)),
}


@pytest.mark.parametrize("file", MODES)
def test_every_mode_becomes_rgb(tmp_path, file):
    make, expected = MODES[file]
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    make().save(tmp_path / file, quality=95)
    np.testing.assert_allclose(pixel(tmp_path, file), expected, atol=4)


def test_one_channel_is_the_luma(tmp_path):
    Image.new("RGB", (40, 30), RED).save(tmp_path / "a.png")
    np.testing.assert_allclose(pixel(tmp_path, "a.png", 1), np.dot(RED, [0.299, 0.587, 0.114]), atol=1)


def test_transparent_palette_colours_become_white(tmp_path):
    image = Image.new("P", (40, 30), 0)
    image.putpalette([*RED, *BLUE])
    image.save(tmp_path / "a.png", transparency=0)
    np.testing.assert_array_equal(pixel(tmp_path, "a.png"), 255)


def test_the_centre_square_is_kept(tmp_path):
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, :20], pixels[:, 20:40], pixels[:, 40:] = RED, BLUE, RED
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.fromarray(pixels.swapaxes(0, 1)).save(tmp_path / "tall.png")
    images = Folder(str(tmp_path), 20).fetch(np.array([0, 1]))
    np.testing.assert_array_equal(images, np.broadcast_to(np.uint8(BLUE), images.shape))


def test_resizing_is_antialiased(tmp_path):
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "board.png")
    image = Folder(str(tmp_path), 16, 1).fetch(np.array([0]))
    assert np.abs(image.astype(float) - 127.5).max() < 6


def test_exif_orientation_is_respected(tmp_path):
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:, :20], pixels[:, 20:] = RED, BLUE
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to display
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = Folder(str(tmp_path), 16).fetch(np.array([0]))[0]
    np.testing.assert_allclose(image[3, 8], RED, atol=6)
    np.testing.assert_allclose(image[12, 8], BLUE, atol=6)


def test_the_d2c_crop_is_rows_57_to_185_and_columns_25_to_153(tmp_path):
    pixels = np.zeros((218, 178, 3), np.uint8)
    pixels[57:185, 25:153] = np.random.default_rng(0).integers(0, 256, (128, 128, 3))
    Image.fromarray(pixels).save(tmp_path / "face.png")
    image = Folder(str(tmp_path), 128, crop="d2c").fetch(np.array([0]))[0]
    np.testing.assert_array_equal(image, pixels[57:185, 25:153])
    Image.new("RGB", (64, 64)).save(tmp_path / "small.png")
    assert len(Folder(str(tmp_path), 128, crop="d2c")) == 1


def noise(seed=0, side=64):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


@pytest.mark.parametrize("cached", [False, True])
def test_broken_files_are_named_counted_and_left_out(tmp_path, cached):
    root = tmp_path / "photos"
    root.mkdir()
    for name in "acd":
        noise().save(root / f"{name}.png")
    (root / "b.jpg").write_bytes(b"not an image")
    whole = (root / "c.png").read_bytes()
    (root / "c.png").write_bytes(whole[: len(whole) // 2])
    (root / "notes.txt").write_text("no image, and no concern of ours")
    for _ in range(2):  # decoded, then from the cache
        source = Folder(str(root), 16, cache_setting=str(tmp_path / "cache") if cached else "")
        assert source.names == ("a.png", "d.png")
        line = source.describe(held_out=1)[0]
        assert line.startswith("2 images (1 held out); 3 skipped: 2 broken (b.jpg: not an image of a known format")
        assert "c.png: " in line
        assert "1 not images (.txt 1)" in line
        assert ("read from" in line) == cached


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(DataError, match="not a directory"):
        Folder(str(tmp_path / "nowhere"), 16)
    with pytest.raises(DataError, match="not a directory"):
        Folder("", 16)
    (tmp_path / "photo.heic").write_bytes(b"a format that Pillow does not open")
    with pytest.raises(DataError, match=r"no image that Pillow can open; 1 skipped: 1 not images \(.heic 1\)"):
        Folder(str(tmp_path), 16)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"no usable image; 2 skipped: 1 broken \(a.png: "):
        Folder(str(tmp_path), 16)


@pytest.mark.parametrize("file", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_orientation_is_respected_where_another_entry_is_damaged(tmp_path, file):
    """A resolution of -1/0: Pillow's own `exif_transpose` raises struct.error when it writes the entries again."""
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:, :20], pixels[:, 20:] = RED, BLUE
    entries = struct.pack("<HHHIHHHHII", 2, 0x0112, 3, 1, 6, 0, 0x011A, 10, 1, 38)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + entries + struct.pack("<I", 0) + struct.pack("<iI", -1, 0)
    options = {} if file == "a.tif" else {"exif": exif}
    Image.fromarray(pixels).save(tmp_path / file, quality=95, **options)
    if file == "a.tif":
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[0x0112] = 6
        Image.fromarray(pixels).save(tmp_path / file, tiffinfo=tags)
    image = Folder(str(tmp_path), 16).fetch(np.array([0]))[0]
    np.testing.assert_allclose(image[3, 8], RED, atol=12)
    np.testing.assert_allclose(image[12, 8], BLUE, atol=12)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_that_of_pillow(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise(side=16).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(Folder(str(tmp_path), 16).fetch(np.array([0]))[0], expected)


def test_values_that_do_not_mean_what_their_mode_says_are_named(tmp_path):
    Image.fromarray(np.full((20, 20), 4000, np.uint16)).save(tmp_path / "scan.png")
    Image.fromarray(np.full((20, 20), 40_000, np.uint16)).save(tmp_path / "whole.png")
    floats = np.full((20, 20), 0.5, np.float32)
    floats[0] = np.nan
    Image.fromarray(floats).save(tmp_path / "unit.tif")
    lines = Folder(str(tmp_path), 16, 1).describe(0)
    assert len(lines) == 3
    assert any(line.startswith("1 images (scan.png): no value above 4095 in a 16-bit image") for line in lines)
    assert any(line.startswith("1 images (unit.tif): floating-point values") for line in lines)


def test_a_decompression_bomb_is_refused_by_name(tmp_path, monkeypatch):
    noise(0).save(tmp_path / "a.png")
    noise(1, side=200).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64)
    source = Folder(str(tmp_path), 16)
    assert source.names == ("a.png",)
    assert "1 broken (bomb.png: Image size (40000 pixels) exceeds limit" in source.describe(0)[0]


def test_a_file_that_vanishes_or_breaks_is_replaced_by_another_of_its_batch(tmp_path, monkeypatch):
    for i in range(5):
        Image.new("RGB", (20, 20), (40 * i, 0, 0)).save(tmp_path / f"{i}.png")
    warned = []
    monkeypatch.setattr(logging, "warning", lambda message, *values: warned.append(message % values))
    source = Folder(str(tmp_path), 16)
    (tmp_path / "1.png").unlink()
    (tmp_path / "4.png").write_bytes(b"torn")
    for _ in range(2):
        reds = source.fetch(np.array([4, 0, 1, 3]))[:, 0, 0, 0]
        np.testing.assert_array_equal(reds, [0, 0, 120, 120])
    assert len(warned) == 2  # once a file
    assert any("1.png" in line for line in warned)
    assert any("4.png" in line and "2 lost" in warned[-1] for line in warned)
    with pytest.raises(DataError, match=r"no image of a batch of folder .* can be read any more: 1.png"):
        source.fetch(np.array([1]))


def test_with_a_cache_a_file_may_vanish(tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(3):
        noise(i).save(tmp_path / "photos" / f"{i}.png")
    source = Folder(str(tmp_path / "photos"), 16, cache_setting=str(tmp_path / "cache"))
    before = source.fetch(np.arange(3))
    (tmp_path / "photos" / "1.png").unlink()
    np.testing.assert_array_equal(source.fetch(np.arange(3)), before)
