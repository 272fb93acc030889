"""Images of every mode and shape from a directory."""

import numpy as np
import pytest
from absl import logging
from PIL import Image

from cldis_jax.data import DataError
from cldis_jax.data.folder import Folder

RED, BLUE = (200, 30, 40), (20, 60, 220)


def pixel(root, file, channels=3):
    """The centre pixel of the only usable image in a directory."""
    source = Folder(str(root), 16, channels)
    assert [path.name for path in source.files] == [file]
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
    np.testing.assert_allclose(pixel(tmp_path, file.split("/")[-1]), expected, atol=4)


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


def test_broken_files_are_named_counted_and_left_out(tmp_path, monkeypatch):
    for name in "acd":
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{name}.png")
    (tmp_path / "b.jpg").write_bytes(b"not an image")
    whole = (tmp_path / "c.png").read_bytes()
    (tmp_path / "c.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "notes.txt").write_text("no image, and no concern of ours")
    warned = []
    monkeypatch.setattr(logging, "warning", lambda message, *values: warned.append(message % values))
    source = Folder(str(tmp_path), 16)
    assert [file.name for file in source.files] == ["a.png", "d.png"]
    assert len(warned) == 1
    assert "2 of 4" in warned[0]
    assert "b.jpg" in warned[0]
    assert "c.png" in warned[0]


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(DataError, match="not a directory"):
        Folder(str(tmp_path / "nowhere"), 16)
    with pytest.raises(DataError, match="not a directory"):
        Folder("", 16)
    with pytest.raises(DataError, match=r"no usable image: no .jpg"):
        Folder(str(tmp_path), 16)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 1 images can't be used: .*a.png"):
        Folder(str(tmp_path), 16)
