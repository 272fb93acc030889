"""Image sets that TensorFlow Datasets has prepared. They are read by index, without TensorFlow."""

import functools
import os

import numpy as np
import tensorflow_datasets
from PIL import Image
from tqdm import tqdm

from cldis_jax.data.images import to_square
from cldis_jax.data.source import DataError, Source

# Name and size of each factor; the last one changes fastest. Its feature is `label_<name>`.
FACTORS = {
    "dsprites": {"shape": 3, "scale": 6, "orientation": 40, "x_position": 32, "y_position": 32},
    "shapes3d": {
        "floor_hue": 10,
        "wall_hue": 10,
        "object_hue": 10,
        "scale": 8,
        "shape": 4,
        "orientation": 15,
    },
    "smallnorb": {"category": 5, "elevation": 9, "azimuth": 18, "lighting": 6},
}
READ_AT_ONCE = 4096  # records per read, when all labels are read


class Tfds(Source):
    """All splits of an image set, concatenated, uint8 [image_size, image_size, channels].

    Images come from the feature `image` (smallNORB: the left camera). TFDS shuffles the images, so `factors` and
    `index_of` use a table of all labels. The table is read when it is first needed.

    Raises:
      DataError: the set is unknown, not prepared, or has no feature `image`.
    """

    def __init__(self, name: str, image_size: int, channels: int = 3, crop: str = "center", data_dir: str = ""):
        self.name = name
        self.image_size, self.channels, self.crop = image_size, channels, crop
        where = os.path.expanduser(data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets"))
        try:
            builder = tensorflow_datasets.builder(name, data_dir=where)
        except (tensorflow_datasets.core.registered.DatasetNotFoundError, ValueError) as error:
            raise DataError(f"data.name={name!r} is not a TFDS data set: {str(error).splitlines()[0]}") from error
        not_prepared = (
            f"{name} is not prepared for random access in {where}; prepare it with: "
            f"tfds build {name} --file_format=array_record --data_dir={where}"
        )
        if not builder.is_prepared():
            raise DataError(not_prepared)
        features = builder.info.features
        if "image" not in features:
            raise DataError(f"{name} has no feature `image`, only {', '.join(features)}")
        pictures = [key for key, feature in features.items() if isinstance(feature, tensorflow_datasets.features.Image)]
        skip = dict.fromkeys(pictures, tensorflow_datasets.decode.SkipDecoding())
        try:
            self._labels = builder.as_data_source("all", decoders=skip)
            self._images = builder.as_data_source("all", decoders={k: v for k, v in skip.items() if k != "image"})
        except NotImplementedError as error:  # it is prepared as TFRecord, which has no random access
            raise DataError(not_prepared) from error
        base = name.partition("/")[0].partition(":")[0]
        self.factor_names = tuple(FACTORS.get(base, ()))
        self.factor_sizes = tuple(FACTORS.get(base, {}).values())
        self.attribute_names = tuple(features["attributes"]) if base == "celeb_a" else ()
        self._scale = 255 if base == "dsprites" else 1  # dSprites stores 0 and 1

    def __len__(self) -> int:
        return len(self._images)

    def fetch(self, indices: np.ndarray) -> np.ndarray:
        records = self._images.__getitems__([int(i) for i in indices])
        return np.stack([self._square(record["image"]) for record in records])

    def factors(self, indices: np.ndarray) -> np.ndarray:
        if not self.factor_sizes:
            return super().factors(indices)
        return self._table[np.asarray(indices)]

    def index_of(self, factors: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        wanted = super().index_of(factors)  # index on the factor grid
        order, grid_indices = self._by_grid_index
        first, end = np.searchsorted(grid_indices, wanted, "left"), np.searchsorted(grid_indices, wanted, "right")
        if (first == end).any():
            raise DataError(f"{self.name} has no image with factors {np.asarray(factors)[first == end][0]}")
        return order[first if rng is None else rng.integers(first, end)]

    def attributes(self, indices: np.ndarray) -> np.ndarray:
        if not self.attribute_names:
            return super().attributes(indices)
        records = self._labels.__getitems__([int(i) for i in indices])
        rows = [[record["attributes"][name] for name in self.attribute_names] for record in records]
        return np.array(rows, np.int64).reshape(-1, len(self.attribute_names))

    @functools.cached_property
    def _table(self) -> np.ndarray:
        """The factors of every image, [N, F]."""
        table = np.empty((len(self), len(self.factor_sizes)), np.int64)
        labels = [f"label_{name}" for name in self.factor_names]
        with tqdm(total=len(self), desc=f"reading the factors of {self.name}", disable=len(self) < 1000 or None) as bar:
            for start in range(0, len(self), READ_AT_ONCE):
                block = range(start, min(start + READ_AT_ONCE, len(self)))
                records = self._labels.__getitems__(list(block))
                table[block] = [[record[label] for label in labels] for record in records]
                bar.update(len(block))
        return table

    @functools.cached_property
    def _by_grid_index(self) -> tuple[np.ndarray, np.ndarray]:
        """(image indices sorted by their index on the factor grid, these grid indices)."""
        grid_indices = np.ravel_multi_index(tuple(self._table.T), self.factor_sizes)
        order = np.argsort(grid_indices, kind="stable")
        return order, grid_indices[order]

    def _square(self, pixels: np.ndarray) -> np.ndarray:
        pixels = pixels * np.uint8(self._scale)
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        return to_square(image, self.image_size, self.channels, self.crop)
