"""Trackers against known motion."""

import sys
import types

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cldis_jax.metrics import trackers

SIZE = 128
INNER = np.stack(np.meshgrid(np.arange(30, 100, 8), np.arange(30, 100, 8)), -1).reshape(-1, 2).astype(np.float32)


def texture(seed: int = 0) -> np.ndarray:
    """Smooth random colours, float [SIZE, SIZE, 3] in [0, 255]."""
    noise = np.random.default_rng(seed).normal(size=(SIZE, SIZE, 3)).astype(np.float32)
    smooth = ndimage.gaussian_filter(noise, (4, 4, 0), mode="wrap")
    return (smooth - smooth.min()) / (smooth.max() - smooth.min()) * 255


def shifted(image: np.ndarray, x: float, y: float) -> np.ndarray:
    move = np.array([[1, 0, x], [0, 1, y]], np.float32)
    return cv2.warpAffine(image, move, (SIZE, SIZE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)


@pytest.mark.parametrize("name", ["lk", "dis"])
def test_follows_a_translation_both_ways_from_the_middle(name):
    steps = np.arange(-2, 3)
    frames = np.stack([shifted(texture(), 2.3 * s, -1.2 * s) for s in steps]).clip(0, 255).astype(np.uint8)
    tracks, visible = trackers.make_tracker(name)(frames, INNER)
    assert tracks.shape == (5, len(INNER), 2)
    assert visible.shape == (5, len(INNER))
    np.testing.assert_array_equal(tracks[2], INNER)
    assert visible.mean() > 0.9
    expected = INNER + steps[:, None, None] * np.array([2.3, -1.2])
    assert np.median(np.linalg.norm(tracks - expected, axis=-1)[visible]) < 0.15


@pytest.mark.parametrize("name", ["lk", "dis"])
def test_changing_colours_are_no_motion(name):
    """The hues of two flat regions change in opposite directions: brightness flips at a border that does not move."""
    frames = np.zeros((7, SIZE, SIZE, 3), np.uint8)
    for i, frame in enumerate(frames):
        for half, hue in ((frame[:, :64], 25 * i), (frame[:, 64:], 90 - 25 * i)):
            half[:] = cv2.cvtColor(np.full((1, 1, 3), (hue % 180, 200, 240), np.uint8), cv2.COLOR_HSV2RGB)
    cv2.rectangle(frames[0], (50, 50), (80, 80), (0, 0, 0), -1)
    for frame in frames[1:]:
        cv2.rectangle(frame, (50, 50), (80, 80), (0, 0, 0), -1)
    tracks, visible = trackers.make_tracker(name)(frames, INNER)
    moved = np.linalg.norm(np.diff(tracks, axis=0), axis=-1)
    assert visible.any(axis=-1).all()
    assert np.percentile(moved, 95) < 0.3


def test_lucas_kanade_marks_points_without_texture_and_keeps_their_position():
    frames = np.full((3, SIZE, SIZE, 3), 90, np.uint8)
    tracks, visible = trackers.make_tracker("lk")(frames, INNER)
    np.testing.assert_array_equal(visible, np.array([False, True, False])[:, None].repeat(len(INNER), 1))
    np.testing.assert_array_equal(tracks, np.tile(INNER, (3, 1, 1)))


@pytest.mark.parametrize("name", ["lk", "dis"])
def test_points_that_leave_the_frame_stay_lost(name):
    frames = np.stack([shifted(texture(), 6.0 * s, 0) for s in range(-2, 3)]).clip(0, 255).astype(np.uint8)
    points = np.array([[124.0, 60.0], [60.0, 60.0]], np.float32)
    tracks, visible = trackers.make_tracker(name)(frames, points)
    assert not visible[3:, 0].any()
    np.testing.assert_array_equal(tracks[3:, 0], points[[0, 0]])
    assert visible[:, 1].all()


def test_frames_are_not_changed():
    frames = np.stack([shifted(texture(), s, 0) for s in range(3)]).clip(0, 255).astype(np.uint8)
    before = frames.copy()
    trackers.make_tracker("lk")(frames, INNER)
    np.testing.assert_array_equal(frames, before)


def test_sample_is_bilinear():
    image = np.arange(12, dtype=np.float32).reshape(3, 4)[..., None].repeat(2, -1)
    at = np.array([[1.5, 0.5], [3.0, 2.0]], np.float32)
    np.testing.assert_allclose(trackers.sample(image, at), [[3.5, 3.5], [11, 11]], atol=0.05)


def test_unknown_tracker():
    with pytest.raises(ValueError, match="unknown tracker 'raft'; choose one of lk, dis, tapir"):
        trackers.make_tracker("raft")


def test_tapir_needs_its_checkpoint_and_its_package(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="needs the path of its checkpoint, --tapir_checkpoint="):
        trackers.make_tracker("tapir")
    with pytest.raises(FileNotFoundError, match=r"nothing\.npy"):
        trackers.make_tracker("tapir", str(tmp_path / "nothing.npy"))
    (tmp_path / "weights.npy").touch()
    monkeypatch.setitem(sys.modules, "tapnet.models", None)  # as if a part were not installed
    monkeypatch.setitem(sys.modules, "tapnet", types.ModuleType("tapnet"))
    with pytest.raises(ValueError, match=r"needs the package tapnet.* no module tapnet\.models"):
        trackers.make_tracker("tapir", str(tmp_path / "weights.npy"))


class StandIn:
    """Replaces TAPIR's network: moves every point by (2, 4) of TAPIR's pixels per frame and hides the first point."""

    settings: dict

    def __init__(self, params, state, tapir_kwargs):
        StandIn.settings = tapir_kwargs
        self._shift = params["tapir/~/resnet"]["w"]

    def __call__(self, video, query_points, is_training, query_chunk_size):
        assert video.shape == (1, 5, 256, 256, 3)
        assert isinstance(video, jax.core.Tracer)  # without jit the network takes minutes
        assert range(0, query_points.shape[1], query_chunk_size)
        assert not is_training
        t, y, x = jnp.moveaxis(query_points[0], -1, 0)[..., None]
        frame = jnp.arange(5.0)[None]
        tracks = jnp.stack([x + self._shift * (frame - t), y + 2 * self._shift * (frame - t)], -1)
        occlusion = jnp.where(jnp.arange(len(x)) == 0, 9.0, -9.0)[:, None].repeat(5, 1)
        return {"tracks": tracks[None], "occlusion": occlusion[None], "expected_dist": occlusion[None]}


@pytest.fixture
def tapnet(monkeypatch):
    module = types.ModuleType("tapnet.models")
    module.tapir_model = types.SimpleNamespace(ParameterizedTAPIR=StandIn)
    monkeypatch.setitem(sys.modules, "tapnet", types.ModuleType("tapnet"))
    monkeypatch.setitem(sys.modules, "tapnet.models", module)


def save_weights(path, *modules: str) -> str:
    params = {f"tapir/~/{name}": {"w": np.float32(2)} for name in ("resnet", *modules)}
    np.save(path, {"params": params, "state": {}}, allow_pickle=True)
    return str(path)


def test_tapir_coordinates_are_converted_and_converted_back(tmp_path, tapnet):
    tracks, visible = trackers.make_tracker("tapir", save_weights(tmp_path / "weights.npy"))(
        np.zeros((5, SIZE, SIZE, 3), np.uint8), INNER
    )
    assert StandIn.settings == {"bilinear_interp_with_depthwise_conv": False, "pyramid_level": 0}
    expected = INNER + np.arange(-2, 3)[:, None, None] * np.array([1.0, 2.0])  # 128 pixels: half of TAPIR's resolution
    np.testing.assert_allclose(tracks, expected, atol=1e-4)
    np.testing.assert_array_equal(visible[0], np.arange(len(INNER)) > 0)


def test_bootstapir_is_recognised_by_its_weights(tmp_path, tapnet):
    path = save_weights(tmp_path / "weights.npy", "extra_convs/conv2_d")
    trackers.make_tracker("tapir", path)(np.zeros((5, SIZE, SIZE, 3), np.uint8), INNER)
    assert {"pyramid_level": 1, "extra_convs": True, "softmax_temperature": 10}.items() <= StandIn.settings.items()


@pytest.mark.parametrize("content", [b"", b"no pickle", b"\x80\x04broken"])
def test_a_damaged_checkpoint_of_tapir_is_an_error_in_one_line(tmp_path, tapnet, content):
    (tmp_path / "weights.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"--tapir_checkpoint: .*weights\.npy is not a checkpoint of TAPIR"):
        trackers.make_tracker("tapir", str(tmp_path / "weights.npy"))
    np.save(tmp_path / "weights.npy", np.zeros(3))
    with pytest.raises(ValueError, match="is not a checkpoint of TAPIR"):
        trackers.make_tracker("tapir", str(tmp_path / "weights.npy"))
