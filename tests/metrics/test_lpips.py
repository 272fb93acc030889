"""LPIPS: invariants, weights by name, and comparison with the same network in PyTorch."""

import jax
import numpy as np
import pytest

from cldis_jax.metrics import lpips

distance = jax.jit(lpips.lpips)

SHAPES = {  # torchvision's AlexNet and LPIPS v0.1, as published
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
}


@pytest.fixture(scope="module")
def state_dict():
    draws = np.random.RandomState(0)
    state = {}
    for order, (name, shape) in enumerate(SHAPES.items()):
        state[f"{name}.weight"] = draws.randn(*shape) * np.sqrt(2 / np.prod(shape[1:]))
        state[f"{name}.bias"] = 0.1 * draws.randn(shape[0])
        state[f"lin{order}.model.1.weight"] = draws.rand(1, shape[0], 1, 1)
    return {name: value.astype(np.float32) for name, value in state.items()}


@pytest.fixture(scope="module")
def images():
    draws = np.random.RandomState(1)
    return draws.uniform(-1, 1, (2, 2, 32, 40, 3)).astype(np.float32)


def test_distance_is_zero_for_equal_images_symmetric_and_grows(state_dict, images):
    params = lpips.convert(state_dict)
    x, y = images
    np.testing.assert_allclose(distance(params, x, x), 0, atol=1e-12)
    np.testing.assert_allclose(distance(params, x, y), distance(params, y, x), rtol=1e-5)
    near, far = (distance(params, x, x + weight * (y - x)) for weight in (0.1, 1.0))
    assert (near > 0).all()
    assert (near < far).all()


def test_the_published_classifier_is_ignored_and_unknown_entries_are_named(state_dict, images):
    classifier = {"classifier.6.bias": np.zeros(1000, np.float32)}
    lpips.convert(state_dict | classifier)
    with pytest.raises(ValueError, match=r"1 missing: lin0\.model\.1\.weight; 1 not known: lin9"):
        lpips.convert({"lin9" if name == "lin0.model.1.weight" else name: a for name, a in state_dict.items()})
    with pytest.raises(ValueError, match=r"1 of another shape: features\.0\.bias"):
        lpips.convert(state_dict | {"features.0.bias": np.zeros(3)})


def test_weights_are_in_one_file_or_two(state_dict, tmp_path, images):
    np.savez(tmp_path / "both.npz", **state_dict)
    np.savez(tmp_path / "alexnet.npz", **{n: a for n, a in state_dict.items() if n.startswith("features")})
    np.savez(tmp_path / "lin.npz", **{n: a for n, a in state_dict.items() if n.startswith("lin")})
    one = lpips.load_weights(tmp_path / "both.npz")
    two = lpips.load_weights(tmp_path / "alexnet.npz", tmp_path / "lin.npz")
    np.testing.assert_array_equal(distance(one, *images), distance(two, *images))
    with pytest.raises(FileNotFoundError, match=r"alexnet-owt-7be5be79\.pth"):
        lpips.load_weights(tmp_path / "none.pth")


def test_small_or_grey_images_are_refused(state_dict):
    params = lpips.convert(state_dict)
    with pytest.raises(ValueError, match="at least 31 pixels"):
        lpips.lpips(params, np.zeros((1, 30, 64, 3)), np.zeros((1, 30, 64, 3)))
    with pytest.raises(ValueError, match=r"\[B, H, W, 3\]"):
        lpips.lpips(params, np.zeros((1, 64, 64, 1)), np.zeros((1, 64, 64, 1)))


def test_distance_is_that_of_the_same_network_in_pytorch(state_dict):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    layers = nn.Sequential(
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU(), nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU()),
    )
    features = {name[9:]: torch.tensor(value) for name, value in state_dict.items() if name.startswith("features")}
    layers.load_state_dict(features)
    pair = np.random.RandomState(2).uniform(-1, 1, (2, 1, 32, 40, 3)).astype(np.float32)
    expected = 0.0
    with torch.no_grad():
        # ImageNet's moments on [0, 1], doubled and shifted for [-1, 1].
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        x, y = (((torch.tensor(a) + 1) / 2 - mean) / std for a in pair)
        x, y = x.permute(0, 3, 1, 2), y.permute(0, 3, 1, 2)
        stage = 0
        for layer in layers:
            x, y = layer(x), layer(y)
            if isinstance(layer, nn.ReLU):
                difference = (nn.functional.normalize(x, dim=1) - nn.functional.normalize(y, dim=1)) ** 2
                weight = torch.tensor(state_dict[f"lin{stage}.model.1.weight"])
                expected += float((difference * weight).sum(dim=1).mean())
                stage += 1
    ours = distance(lpips.convert(state_dict), *pair)
    np.testing.assert_allclose(ours, expected, rtol=1e-4)
