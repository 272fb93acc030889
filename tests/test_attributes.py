"""The metric `attributes` and the floors of linear pixel codes, on pictures whose content is known."""

import types

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA

from cldis_jax.data.folder import Folder
from cldis_jax.evaluation import registry
from cldis_jax.evaluation.floors import LINEAR, LinearPixels
from cldis_jax.runtime.errors import UserError

SIDE = 20


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Pictures that are bright or dark on the left and, independently, on the right; `rare` is true of one."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    rows = ["file,left,right,rare"]
    for i in range(80):
        left, right = rng.integers(0, 2, 2)
        picture = rng.integers(0, 40, (SIDE, SIDE, 3)).astype(np.uint8)
        picture[:, :10] += np.uint8(120 * left)
        picture[:, 10:] += np.uint8(60 * right)
        Image.fromarray(picture).save(root / f"{i:02d}.png")
        rows.append(f"{i:02d}.png,{left},{right},{int(i == 3)}")
    (root / "attributes.csv").write_text("\n".join(rows))
    return Folder(str(root), SIDE)


def context(source, tmp_path, **settings):
    """The second unit is the brightness on the left, the first one on the right with the sign changed."""

    def codes(indices):
        pictures = source.fetch(indices).astype(np.float64)
        return np.stack([-pictures[:, :, 10:].mean((1, 2, 3)), pictures[:, :, :10].mean((1, 2, 3))], axis=1)

    config = types.SimpleNamespace(model=types.SimpleNamespace(latent_dim=2))
    bundle = types.SimpleNamespace(config=config, image_shape=(SIDE, SIDE, 3))
    known = registry.Context(registry.Settings(workdir=str(tmp_path), num_images=0, **settings), bundle)
    noise = np.random.default_rng(1).normal(size=(len(source), 2))
    known.__dict__.update(source=source, codes=codes, untrained=[lambda indices: noise[indices]])
    return known


def test_each_attribute_has_its_unit(source, tmp_path):
    found = registry.METRICS["attributes"].measure(context(source, tmp_path, seeds=2))
    best = {name: units[0] for name, units in found["details"]["best_units"].items()}
    assert best["left"] == {"unit": 1, "auroc": 1.0}
    assert best["right"] == {"unit": 0, "auroc": 1.0}
    assert found["probe, 10 labels"]["mean"] > 0.99
    assert found["probe, 10 labels"]["floors"]["untrained"] < 0.6
    assert found["probe, 10 labels"]["floors"]["pixels_pca"] > 0.9
    assert "probe, 100 labels" not in found  # there are 80 images
    assert found["note"].endswith("80 images; probes: 2 attributes with 10 labels")


def test_pictures_are_drawn(source, tmp_path):
    registry.METRICS["attributes"].measure(context(source, tmp_path, seeds=1, floor_seeds=0))
    for name in ("attributes", "unit_extremes"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert min(picture.size) > 80


def test_the_ends_of_a_unit_are_its_darkest_and_brightest_pictures(source, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr("cldis_jax.runtime.visualize.grid", lambda images, *labels: drawn.update(images=images))
    monkeypatch.setattr("cldis_jax.runtime.visualize.save_png", lambda path, picture: None)
    registry.METRICS["attributes"].measure(context(source, tmp_path, seeds=1, floor_seeds=0))
    left = drawn["images"][1, :, :, :10].mean((1, 2, 3))
    assert len(left) == 12
    assert (np.diff(left) > 0).all()
    assert left[5] < -0.5 < left[6]


def test_tad_of_several_protocols(source, tmp_path):
    known = context(source, tmp_path, seeds=1, protocol=("exact", "disdiff"))
    both = registry.METRICS["tad"].measure(known)
    assert {"tad", "captured", "tad, disdiff", "captured, disdiff"} < both.keys()
    alone = registry.METRICS["tad"].measure(context(source, tmp_path, seeds=1, protocol=("disdiff",)))
    assert both["tad, disdiff"] == alone["tad"]
    assert both["tad"] != alone["tad"]
    assert alone["tad"]["floors"].keys() == {"random_mix", "untrained", *LINEAR}


def test_attributes_without_labels_are_refused(source, tmp_path, monkeypatch):
    known = context(source, tmp_path)
    monkeypatch.setattr(source, "attribute_names", ())
    with pytest.raises(UserError, match="attributes needs attribute labels"):
        registry.METRICS["attributes"].needs[0](known)


def test_an_attribute_needs_both_values(source, tmp_path):
    known = context(source, tmp_path)
    known.__dict__["labelled_pool"] = np.flatnonzero((source.attributes(np.arange(len(source))) == 0).all(axis=1))
    with pytest.raises(UserError, match=r"none of the attributes has both values in the [0-9]+ images of --pool"):
        registry.METRICS["attributes"].measure(known)


def test_principal_components_of_the_reduced_pixels(source):
    """Against scikit-learn on means of 5 x 5 pixels, up to signs; `cv2` averages whole squares exactly."""
    indices = np.arange(len(source))

    class Reduced:
        def fetch(self, chosen):
            return np.repeat(np.repeat(blocks[chosen], 2, axis=1), 2, axis=2)

    blocks = source.fetch(indices)[:, :16, :16]
    found = LinearPixels("pixels_pca", Reduced(), 2, 0, indices)(indices)
    pixels = blocks.reshape(len(blocks), -1) / 255
    expected = PCA(2, svd_solver="full").fit_transform(pixels)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3)


def test_independent_components_unmix_what_principal_ones_do_not():
    """Two brightnesses of equal variance are in every pixel, in different parts."""
    parts = np.random.default_rng(0).uniform(0, 100, (500, 2))

    class Mixed:
        def fetch(self, chosen):
            left, right = (parts[chosen] @ [[0.8, 0.6], [-0.6, 0.8]] + 100).T
            halves = [np.tile(v[:, None, None, None], (1, 16, 8, 1)) for v in (left, right)]
            return np.concatenate(halves, axis=2).astype(np.float32)

    def best(kind):
        found = LinearPixels(kind, Mixed(), 2, 0, np.arange(500))(np.arange(500))
        return np.abs(np.corrcoef(found.T, parts.T)[:2, 2:]).max(axis=1).min()

    assert best("pixels_ica") > 0.99
    assert best("pixels_pca") < 0.95


def test_a_random_projection_depends_on_the_seed_alone(source):
    indices = np.arange(len(source))
    first, again, other = (LinearPixels("pixels_projection", source, 4, seed, indices)(indices) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(np.corrcoef(first.T, other.T)[:4, 4:]).max() < 0.999
