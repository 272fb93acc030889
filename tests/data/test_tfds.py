"""Prepared TFDS sets. The tests write tiny ones, from files of images, which needs no TensorFlow."""

import io
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets
from PIL import Image

from cldis_jax.data import DataError, tfds
from cldis_jax.data.tfds import Tfds

FACTORS = {"hue": 3, "size": 4}


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    file.seek(0)
    return file


class TinyFactors(tensorflow_datasets.core.GeneratorBasedBuilder):
    """Two images (`takes`) for each combination of factors, in two splits that TFDS shuffles."""

    VERSION = tensorflow_datasets.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tensorflow_datasets.features.Image(shape=(218, 178, 3)),
            "image2": tensorflow_datasets.features.Image(shape=(8, 8, 1)),
            "label_size": tensorflow_datasets.features.ClassLabel(num_classes=4),
            "label_hue": tensorflow_datasets.features.ClassLabel(num_classes=3),
            "attributes": {"Smiling": np.bool_, "Hat": np.bool_},
        }
        return tensorflow_datasets.core.DatasetInfo(
            builder=self, features=tensorflow_datasets.features.FeaturesDict(features)
        )

    def _split_generators(self, _):
        return {"train": self._generate_examples(0), "test": self._generate_examples(1)}

    def _generate_examples(self, take):
        for hue, size in np.ndindex(3, 4):
            image = np.zeros((218, 178, 3), np.uint8)
            image[57:185, 25:153] = (hue * 80, size * 60, take * 200)
            yield (
                f"{hue} {size}",
                {
                    "image": png(image),
                    "image2": png(np.zeros((8, 8), np.uint8)),
                    "label_size": size,
                    "label_hue": hue,
                    "attributes": {"Smiling": hue == 1, "Hat": size == 2},
                },
            )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("tfds")
    TinyFactors(data_dir=path, file_format="array_record").download_and_prepare()
    return str(path)


@pytest.fixture
def source(data_dir, monkeypatch):
    monkeypatch.setitem(tfds.FACTORS, "tiny_factors", FACTORS)
    return Tfds("tiny_factors", 16, crop="d2c", data_dir=data_dir)


def test_all_splits_are_read_and_factors_belong_to_their_images(source):
    assert len(source) == 24
    assert source.factor_names == ("hue", "size")
    images, factors = source.fetch(np.arange(24)), source.factors(np.arange(24))
    assert images.shape == (24, 16, 16, 3)
    np.testing.assert_array_equal(
        images[:, :, :, :2], np.broadcast_to(factors[:, None, None] * [80, 60], (24, 16, 16, 2))
    )
    np.testing.assert_array_equal(np.sort(images[:, 8, 8, 2]), [0] * 12 + [200] * 12)


def test_images_are_found_by_their_factors(source):
    wanted = np.array(list(np.ndindex(3, 4)))
    np.testing.assert_array_equal(source.factors(source.index_of(wanted)), wanted)
    drawn = [source.index_of(wanted, np.random.default_rng(seed)) for seed in range(8)]
    for indices in drawn:
        np.testing.assert_array_equal(source.factors(indices), wanted)
    assert len(np.unique(drawn)) == 24  # both takes of each combination are drawn


def test_grey_and_a_centre_crop(data_dir):
    source = Tfds("tiny_factors", 178, channels=1, data_dir=data_dir)
    assert source.factor_names == ()
    images = source.fetch(np.array([3]))
    assert images.shape == (1, 178, 178, 1)
    assert (images[0, :37] == 0).all()  # 57 - 20 black rows remain above the patch


def test_attributes_of_celeb_a(source):
    source.attribute_names = ("Smiling", "Hat")
    factors = source.factors(np.arange(24))
    np.testing.assert_array_equal(
        source.attributes(np.arange(24)), np.stack([factors[:, 0] == 1, factors[:, 1] == 2], 1)
    )


def test_factor_tables_match_the_builders_labels():
    for name, factors in tfds.FACTORS.items():
        features = tensorflow_datasets.builder(name, data_dir="/nonexistent").info.features
        for factor, size in factors.items():
            assert features[f"label_{factor}"].num_classes == size


def test_the_error_for_an_unprepared_set_shows_the_command(tmp_path):
    command = f"tfds build celeb_a --file_format=array_record --data_dir={tmp_path}"
    with pytest.raises(DataError, match=command):
        Tfds("celeb_a", 64, crop="d2c", data_dir=str(tmp_path))
    with pytest.raises(DataError, match="'no_such_set' is not a TFDS data set"):
        Tfds("no_such_set", 64, data_dir=str(tmp_path))


def test_reading_needs_no_tensorflow(data_dir):
    program = (
        "import sys; from cldis_jax.data.tfds import Tfds\n"
        f"assert Tfds('tiny_factors', 16, data_dir={data_dir!r}).fetch([5]).shape == (1, 16, 16, 3)\n"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
