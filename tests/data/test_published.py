"""Cars3D and MPI3D, from files in their format. Each pixel value encodes its position in the file."""

import numpy as np
import pytest
import scipy.io

from cldis_jax.data import DataError, published
from cldis_jax.data.published import Cars3D, Mpi3D

SIZES = (2, 2, 2, 1, 1, 3, 2)


@pytest.fixture(scope="module")
def cars(tmp_path_factory):
    root = tmp_path_factory.mktemp("cars3d")
    (root / "data" / "cars").mkdir(parents=True)
    azimuth, elevation = np.meshgrid(np.arange(24), np.arange(4), indexing="ij")
    for car in range(183):
        views = np.empty((8, 8, 3, 24, 4), np.uint8)
        views[:, :, 0], views[:, :, 1], views[:, :, 2] = elevation, azimuth, car
        scipy.io.savemat(root / "data" / "cars" / f"car_{car:03d}_mesh.mat", {"im": views})
    (root / "data" / "other.mat").write_bytes(b"not one of them")
    return root


def test_cars3d_enumerates_elevation_azimuth_object(cars):
    source = Cars3D(str(cars), image_size=4)
    assert len(source) == 17_568
    indices = np.random.default_rng(0).integers(0, len(source), 300)
    images = source.fetch(indices)
    assert images.shape == (300, 4, 4, 3)
    np.testing.assert_array_equal(images[:, 2, 2], source.factors(indices))
    np.testing.assert_array_equal(source.index_of([[1, 2, 3]]), [1 * 24 * 183 + 2 * 183 + 3])


def test_cars3d_refuses_missing_and_malformed_files(cars, tmp_path):
    for path in ("", str(tmp_path), str(tmp_path / "nowhere")):
        with pytest.raises(DataError, match=r"holds 0 .mat files"):
            Cars3D(path)
    for car in range(183):
        scipy.io.savemat(tmp_path / f"{car}.mat", {"im": np.zeros((4, 4, 3, 4, 24), np.uint8)})
    with pytest.raises(DataError, match=r"found shape \(4, 4, 3, 4, 24\)"):
        Cars3D(str(tmp_path))


@pytest.fixture
def mpi3d(monkeypatch):
    monkeypatch.setitem(published.MPI3D_SIZES, "toy", SIZES)
    images = np.zeros((48, 8, 8, 3), np.uint8)
    images[..., 0] = np.arange(48)[:, None, None]
    return images


@pytest.mark.parametrize("save", ["npy", "npz", "compressed"])
def test_mpi3d_reads_every_file_format(mpi3d, tmp_path, save):
    file = str(tmp_path / ("toy.npy" if save == "npy" else "toy.npz"))
    if save == "npy":
        np.save(file, mpi3d)
    else:
        (np.savez if save == "npz" else np.savez_compressed)(file, images=mpi3d)
    source = Mpi3D(file, "toy", image_size=8)
    assert isinstance(source._images, np.memmap) == (save != "compressed")
    indices = np.array([0, 17, 47])
    np.testing.assert_array_equal(source.fetch(indices), mpi3d[indices])
    np.testing.assert_array_equal(source.factors(indices), [[0] * 7, [0, 1, 0, 0, 0, 2, 1], [1, 1, 1, 0, 0, 2, 1]])
    assert Mpi3D(file, "toy", image_size=4, channels=1).fetch(indices).shape == (3, 4, 4, 1)


def test_mpi3d_sizes_are_the_published_ones():
    counts = {name: np.prod(sizes) for name, sizes in published.MPI3D_SIZES.items()}
    assert counts == {"toy": 1_036_800, "realistic": 1_036_800, "real": 1_036_800, "complex": 460_800}


def test_mpi3d_refuses_missing_and_mismatched_files(mpi3d, tmp_path):
    with pytest.raises(DataError, match="not a file"):
        Mpi3D(str(tmp_path / "nowhere.npz"), "toy")
    with pytest.raises(DataError, match="toy, realistic, real, complex"):
        Mpi3D("", "imaginary")
    np.savez(tmp_path / "short.npz", images=mpi3d[:40])
    with pytest.raises(DataError, match="48 images"):
        Mpi3D(str(tmp_path / "short.npz"), "toy")
    np.savez(tmp_path / "other.npz", pictures=mpi3d)
    with pytest.raises(DataError, match="images"):
        Mpi3D(str(tmp_path / "other.npz"), "toy")
    (tmp_path / "torn.npz").write_bytes((tmp_path / "short.npz").read_bytes()[:100])
    with pytest.raises(DataError, match="can't be read"):
        Mpi3D(str(tmp_path / "torn.npz"), "toy")
