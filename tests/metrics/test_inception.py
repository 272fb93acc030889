"""The Inception network: parameters, weights by name, and features compared with torch-fidelity's network."""

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cldis_jax.metrics import fid, inception

PARTS = {
    "kernel": "conv.weight",
    "scale": "bn.weight",
    "bias": "bn.bias",
    "mean": "bn.running_mean",
    "var": "bn.running_var",
}


@pytest.fixture(scope="module")
def shapes():
    image = jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)
    return jax.eval_shape(inception.InceptionV3().init, jax.random.key(0), image)


@pytest.fixture(scope="module")
def state_dict(shapes):
    """Zeros under the names of the published file, kernels as [O, I, H, W]."""
    state = {"fc.weight": np.zeros((1008, 2048)), "fc.bias": np.zeros(1008)}
    for path, leaf in flax.traverse_util.flatten_dict(shapes).items():
        shape = tuple(leaf.shape[i] for i in (3, 2, 0, 1)) if len(leaf.shape) == 4 else leaf.shape
        state[".".join((*path[1:-2], PARTS[path[-1]]))] = np.broadcast_to(np.float32(0), shape)
    return state


def test_parameters_are_those_of_the_published_network(shapes):
    """torchvision's InceptionV3 without auxiliary head has 23,834,568; its classifier has 2,049,000 of them."""
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert count == 23_834_568 - 2_049_000
    blocks = [block for block in shapes["params"] if block.startswith("Mixed")]
    assert (
        blocks
        == sorted(blocks)
        == [f"Mixed_{stage}{block}" for stage, blocks in ((5, "bcd"), (6, "abcde"), (7, "abc")) for block in blocks]
    )


def test_features_are_2048(shapes):
    image = jax.ShapeDtypeStruct((2, 299, 299, 3), jnp.float32)
    assert jax.eval_shape(inception.InceptionV3().apply, shapes, image).shape == (2, inception.NUM_FEATURES)


def test_every_name_and_shape_is_checked(state_dict, shapes):
    counters = {"Mixed_5b.branch1x1.bn.num_batches_tracked": np.zeros(())}
    converted = inception.convert(state_dict | counters)
    assert jax.tree.map(np.shape, converted) == jax.tree.map(lambda leaf: leaf.shape, shapes)
    broken = dict(state_dict)
    broken["Conv2d_1a_3x3.conv.weights"] = broken.pop("Conv2d_1a_3x3.conv.weight")
    broken["Mixed_7c.branch_pool.bn.bias"] = np.zeros(5)
    with pytest.raises(ValueError, match=r"1 missing: Conv2d_1a_3x3\.conv\.weight; ") as error:
        inception.convert(broken)
    assert "1 not known: Conv2d_1a_3x3.conv.weights" in str(error.value)
    assert "Mixed_7c.branch_pool.bn.bias (5,) instead of (192,)" in str(error.value)


def test_a_missing_or_unreadable_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"pt_inception-2015-12-05-6726825d.pth.*mseitzer/pytorch-fid"):
        inception.load_weights(tmp_path / "none.pth")
    (tmp_path / "bad.npz").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"not a readable \.npz"):
        inception.load_weights(tmp_path / "bad.npz")
    np.savez(tmp_path / "other.npz", weight=np.zeros(3))
    with pytest.raises(ValueError, match=r"470 missing: .* and 462 more; 1 not known: weight"):
        inception.load_weights(tmp_path / "other.npz")


@pytest.mark.slow
def test_features_are_those_of_torch_fidelity(tmp_path, monkeypatch):
    """With random weights and 64x48 images, resized as in TensorFlow: equal to 1e-4 of the largest feature."""
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    draws = torch.Generator().manual_seed(0)
    # Their constructor reads a file; the patch returns the state that it has just created.
    monkeypatch.setattr(theirs.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
    torch.save({}, tmp_path / "empty.pth")
    network = theirs.FeatureExtractorInceptionV3("inception", ["2048"], str(tmp_path / "empty.pth"))
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):  # standard deviations that keep activations near 1
            torch.nn.init.kaiming_normal_(module.weight, generator=draws)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=draws)
            module.running_var.uniform_(0.5, 1.5, generator=draws)
            module.weight.data.uniform_(0.5, 1.5, generator=draws)
            module.bias.data.normal_(0, 0.1, generator=draws)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    images = torch.randint(0, 256, (2, 3, 64, 48), generator=draws, dtype=torch.uint8)
    expected = network(images)[0].numpy()
    features = fid.make_features(inception.load_weights(tmp_path / "weights.pth"), "tensorflow")
    ours = features(images.numpy().transpose(0, 2, 3, 1) / 127.5 - 1)
    np.testing.assert_allclose(ours, expected, atol=1e-4 * np.abs(expected).max())
