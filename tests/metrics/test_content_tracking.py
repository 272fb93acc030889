"""The content-tracking metric on decoders with known content, and on given change maps."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from cldis_jax.evaluation import content_tracking_pictures
from cldis_jax.metrics.content_tracking import (
    Tracking,
    _bootstrap_counts,
    _Parts,
    content_tracking,
    measure,
    to_unit_rgb,
)
from cldis_jax.runtime import visualize

SIZE = 64
QUICK = {"frames": 5, "span": 1.0, "grid": 10, "bootstrap": 50, "workers": 2}
Y, X = np.mgrid[:SIZE, :SIZE].astype(np.float32)


def hue(angle: np.ndarray) -> np.ndarray:
    """Colours [..., 3] in [-1, 1] on a circle."""
    return 0.8 * np.cos(angle[..., None] + np.array([0, 2, 4]) * np.pi / 3)


def blob(x: np.ndarray, y: np.ndarray, radius: float = 6) -> np.ndarray:
    """Discs [N, SIZE, SIZE, 1] with soft rims at x, y [N]."""
    distance = np.hypot(X - x[:, None, None], Y - y[:, None, None])
    return 1 / (1 + np.exp((distance - radius) / 0.7))[..., None]


def scene(codes: np.ndarray, image_ids: np.ndarray) -> np.ndarray:
    """Four factors in four places: the hues of the left and right half, a disc that moves right, one that moves up."""
    left, right, first, second = codes.T.astype(float)
    image = np.where(X[None, ..., None] < 32, hue(left)[:, None, None], hue(2 + right)[:, None, None])
    for place in (blob(16 + 5 * first, np.full(len(codes), 48.0)), blob(np.full(len(codes), 48.0), 18 - 5 * second)):
        image = image * (1 - place) - place
    return image


CODES = np.random.default_rng(0).uniform(-1, 1, (4, 4))


def turned(a: int, b: int, degrees: float) -> np.ndarray:
    basis, turn = np.eye(4), np.deg2rad(degrees)
    basis[[a, b]] = [np.cos(turn), np.sin(turn)] @ basis[[a, b]], [-np.sin(turn), np.cos(turn)] @ basis[[a, b]]
    return basis


@pytest.fixture(scope="module")
def true():
    return content_tracking(scene, CODES, np.eye(4), **QUICK)


def test_true_factors_score_high_and_all_parts_are_plain_json(true):
    assert json.loads(json.dumps(true, allow_nan=False)) == true
    assert 0.7 < true["score"] <= 1
    assert true["low"] <= true["score"] <= true["high"]
    parts = np.array([true[name] for name in ("consistency", "independence", "activity")])
    assert true["score"] == pytest.approx(3 / np.sum(1 / parts))
    for name in ("consistency", "independence"):
        values, weights = np.array([[k[name], k["activity"]] for k in true["directions"]]).T
        assert true[name] == pytest.approx(np.average(values, weights=weights))
    similarity = np.array(true["similarity"])
    np.testing.assert_allclose(similarity, similarity.T)
    np.testing.assert_allclose(np.diag(similarity), 1, atol=1e-5)
    assert 0 <= similarity.min() <= similarity.max() <= 1 + 1e-6


def test_a_hue_has_no_motion_and_a_motion_has_its_speed():
    tracked = measure(scene, CODES, np.eye(4), frames=5, span=1.0, grid=20)
    speed = np.linalg.norm(tracked.motion, axis=-1).mean(2)  # [M, K, P]
    assert np.percentile(speed[:, :2], 99) < 1.5
    # The most active points are on the disc: 5 of 64 pixels per unit.
    for k, towards in ((2, (1, 0)), (3, (0, -1))):
        motion = tracked.motion[:, k].mean(1)
        fast = motion[np.linalg.norm(motion, axis=-1) > 4]
        assert len(fast) > 8
        np.testing.assert_allclose(np.median(fast, 0), 100 * 5 / SIZE * np.array(towards), atol=0.8)


@pytest.mark.parametrize("plane", [(0, 1), (0, 2), (2, 3), (1, 3)])
def test_turning_two_factors_into_each_other_lowers_the_score_step_by_step(plane, true):
    scores = [true["score"]]
    scores += [content_tracking(scene, CODES, turned(*plane, d), **QUICK)["score"] for d in (10, 20, 32, 45)]
    assert np.all(np.diff(scores) < 0), scores


def test_a_copy_and_a_dead_direction_lower_the_score(true):
    copied = content_tracking(scene, CODES, np.eye(4)[[0, 1, 2, 3, 2]], **QUICK)
    assert copied["score"] < true["score"]
    assert copied["directions"][2]["independence"] == pytest.approx(0, abs=0.02)
    dead = content_tracking(scene, CODES, np.concatenate([np.eye(4), np.zeros((2, 4))]), **QUICK)
    assert dead["activity"] == pytest.approx(true["activity"] * 4 / 6)
    for name in ("consistency", "independence"):
        assert dead[name] == pytest.approx(true[name], rel=0.02)
    assert dead["score"] < true["score"] - 0.05
    assert dead["directions"][4]["activity"] == pytest.approx(0, abs=1e-9)


def test_dead_directions_cannot_hide_a_copy():
    """Dead directions must not raise the independence of the others."""
    twice = content_tracking(scene, CODES, np.eye(4)[[0, 0]], **QUICK)
    padded = content_tracking(scene, CODES, np.concatenate([np.eye(4)[[0, 0]], np.zeros((6, 4))]), **QUICK)
    assert twice["score"] < 0.05
    assert padded["score"] <= twice["score"] + 1e-6


def test_noise_lowers_the_score(true):
    scores = [true["score"]]
    for sigma in (0.05, 0.2, 0.6):

        def noisy(codes, ids, sigma=sigma):
            rng = np.random.default_rng(ids[0])
            return scene(codes, ids) + sigma * rng.normal(size=(len(codes), SIZE, SIZE, 3))

        scores.append(content_tracking(noisy, CODES, np.eye(4), **QUICK)["score"])
    assert np.all(np.diff(scores) < 0), scores


def test_a_constant_decoder_scores_zero():
    result = content_tracking(lambda codes, ids: np.zeros((len(codes), 32, 32, 3)), CODES, np.eye(4), **QUICK)
    assert [result[name] for name in ("score", "low", "high", "consistency", "independence", "activity")] == [0.0] * 6
    json.dumps(result, allow_nan=False)


def test_a_full_turn_of_a_hue_is_consistent():
    wide = QUICK | {"span": np.pi, "frames": 9}
    result = content_tracking(scene, CODES, np.eye(4)[:2], **wide)
    assert min(part["consistency"] for part in result["directions"]) > 0.95


def test_a_direction_with_different_steps_is_inconsistent():
    def inconsistent_steps(codes, ids):
        return scene(np.concatenate([codes[:, :1].clip(0), -codes[:, :1].clip(None, 0), codes[:, 1:]], 1), ids)

    result = content_tracking(inconsistent_steps, np.zeros((3, 3)), np.eye(3), **QUICK)
    assert result["directions"][0]["consistency"] < 0.75 < result["directions"][1]["consistency"]


def test_a_direction_with_different_effects_in_two_images_is_inconsistent():
    def inconsistent_images(codes, ids):
        odd = ids[:, None] % 2 == 1
        return scene(np.where(odd, codes[:, [1, 0, 2, 3]], codes), ids)

    result = content_tracking(inconsistent_images, np.zeros((4, 4)), np.eye(4), **QUICK)
    assert result["directions"][0]["consistency"] < 0.75 < result["directions"][2]["consistency"]


def by_hand(motion: np.ndarray, colour: np.ndarray) -> Tracking:
    """A Tracking of motion [M, K, S - 1, P, 2] and colour [M, K, S - 1, P] without pictures."""
    nothing = np.zeros((1, motion.shape[1], 3, motion.shape[3]))
    frames = np.zeros((1, motion.shape[1], 3, 8, 8, 3), np.uint8)
    tracks = np.zeros((*nothing.shape, 2))
    return Tracking(motion, colour, frames, tracks, nothing > 0, np.linspace(-1, 1, motion.shape[2] + 1), "none", {})


@pytest.mark.parametrize("degrees", [0, 30, 60, 90, 135, 180])
def test_the_cosine_of_two_motions_is_the_squared_cosine_of_their_angle(degrees):
    angles = np.deg2rad([20, 20 + degrees])
    motion = np.zeros((2, 2, 2, 25, 2))
    motion[:] = 3 * np.stack([np.cos(angles), np.sin(angles)], -1)[:, None, None]
    summary = by_hand(motion, np.zeros(motion.shape[:-1])).summary()
    assert summary["similarity"][0][1] == pytest.approx(np.cos(np.deg2rad(degrees)) ** 2, abs=1e-5)


def test_the_score_of_given_maps():
    """Two directions change the colour of 3 and 4 of 25 cells; 2 are shared. Cosine 2 / sqrt(12), else perfect."""
    colour = np.zeros((3, 2, 4, 25))
    colour[:, 0, :, [0, 1, 2]] = 1e4
    colour[:, 1, :, [1, 2, 3, 4]] = 1e4
    summary = by_hand(np.zeros((*colour.shape, 2)), colour).summary()
    independence = 1 - 2 / np.sqrt(12)
    assert summary["consistency"] == pytest.approx(1, abs=1e-5)
    assert summary["independence"] == pytest.approx(independence, abs=1e-5)
    assert summary["activity"] == pytest.approx(1, abs=1e-5)
    assert summary["score"] == pytest.approx(3 / (2 + 1 / independence), abs=1e-5)
    assert summary["high"] - summary["low"] == pytest.approx(0, abs=1e-6)  # three equal images


def test_motion_and_recolouring_of_the_same_points_differ():
    motion, colour = np.zeros((1, 2, 2, 25, 2)), np.zeros((1, 2, 2, 25))
    motion[:, 0] = 5.0
    colour[:, 1] = 50.0
    assert by_hand(motion, colour).summary()["similarity"][0][1] == pytest.approx(0, abs=1e-6)


def test_activity_is_one_half_at_the_least_noticeable_change():
    colour = np.full((1, 2, 2, 25), 2.3)
    summary = by_hand(np.zeros((*colour.shape, 2)), colour).summary()
    assert summary["activity"] == pytest.approx(0.5)


def test_the_interval_narrows_with_images():
    rng = np.random.default_rng(0)
    many = by_hand(rng.normal(size=(32, 3, 4, 25, 2)), rng.uniform(0, 30, (32, 3, 4, 25)))
    few = replace(many, motion=many.motion[:8], colour=many.colour[:8])
    width = {name: part.summary()["high"] - part.summary()["low"] for name, part in {"many": many, "few": few}.items()}
    assert 0 < width["many"] < width["few"]


def test_no_bootstrap_draw_repeats_a_single_image():
    """With two images half of all draws would repeat one image. Such a draw cannot compare them."""
    colour = np.zeros((2, 2, 2, 25))
    colour[0, 0, :, :5], colour[1, 0, :, 5:10] = 1e4, 1e4  # one direction changes two different places
    colour[:, 1, :, 20:] = 1e4
    summary = by_hand(np.zeros((*colour.shape, 2)), colour).summary()
    assert summary["low"] == summary["score"] == summary["high"]
    many = _bootstrap_counts(3, 2000, 0)
    assert many.max() == 2
    np.testing.assert_array_equal(many.sum(1), 3)
    np.testing.assert_allclose(many.mean(0), 1, atol=0.06)


def test_rounding_below_zero_gives_no_nan():
    parts = _Parts(
        step_cosines=np.ones((2, 2)),
        image_cosines=np.array([[[1, -1e-17], [-1e-17, 1]]] * 2),
        direction_cosines=np.zeros((2, 2, 2)),
        energy=np.ones((2, 2)),
    )
    found = parts.combine(np.ones(2))
    np.testing.assert_array_equal(found["consistencies"], 0)
    assert found["score"] == 0


def test_opencv_threads_are_restored():
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        content_tracking(scene, CODES[:1], np.eye(4)[:2], **QUICK)
        assert cv2.getNumThreads() == 2

        def broken(codes, ids):
            raise OSError("no images")

        with pytest.raises(OSError, match="no images"):
            content_tracking(broken, CODES[:1], np.eye(4)[:2], **QUICK)
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_the_picture_states_the_interval(tmp_path, monkeypatch):
    summaries = []
    changes = content_tracking_pictures.changes
    monkeypatch.setattr(content_tracking_pictures, "changes", lambda *a: summaries.append(a[2]) or changes(*a))
    tracked = measure(scene, CODES, np.eye(4)[:2], **{k: v for k, v in QUICK.items() if k != "bootstrap"})
    content_tracking_pictures.save_all(tracked, tmp_path)
    assert summaries[0]["low"] < summaries[0]["high"]


def test_the_most_active_of_many_directions_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(content_tracking_pictures, "MOST_DRAWN", 2)
    drawn = {}
    changes, heatmap = content_tracking_pictures.changes, visualize.heatmap
    monkeypatch.setattr(content_tracking_pictures, "changes", lambda *a: drawn.update(changes=a) or changes(*a))
    monkeypatch.setattr(visualize, "heatmap", lambda *a: drawn.update(heatmap=a) or heatmap(*a))
    tracked = measure(scene, CODES, np.eye(4), **{k: v for k, v in QUICK.items() if k != "bootstrap"})
    activity = [found["activity"] for found in tracked.summary()["directions"]]
    active = sorted(np.argsort(activity)[-2:])
    content_tracking_pictures.save_all(tracked, tmp_path, list("abcd"))
    names = ["abcd"[k] for k in active]
    assert drawn["changes"][1] == list(drawn["heatmap"][1]) == names
    assert [found["activity"] for found in drawn["changes"][2]["directions"]] == [activity[k] for k in active]
    assert drawn["changes"][2]["score"] == tracked.summary()["score"]  # of all directions
    assert drawn["heatmap"][0].shape == (2, 2)


def test_decoders_of_bytes_greys_and_one_image():
    def as_bytes(codes, ids):
        return np.rint((scene(codes, ids) + 1) * 127.5).clip(0, 255).astype(np.uint8)

    floats = content_tracking(scene, CODES[:1], np.eye(4), **QUICK)
    rounded = content_tracking(as_bytes, CODES[:1], np.eye(4), **QUICK)
    assert rounded["score"] == pytest.approx(floats["score"], abs=0.02)
    assert floats["low"] == floats["score"] == floats["high"]
    grey = content_tracking(lambda c, i: scene(c, i).mean(-1, keepdims=True), CODES[:1], np.eye(4), **QUICK)
    assert 0 < grey["score"] <= 1


def test_the_decoder_gets_image_ids_and_a_constant_number_of_codes():
    seen = []

    def decode(codes, ids):
        seen.append((len(codes), set(ids.tolist())))
        return scene(codes, ids)

    content_tracking(decode, CODES, np.eye(4)[:3], **QUICK)
    assert seen == [(1 + 3 * 4, {i}) for i in range(4)]


def test_images_become_unit_rgb():
    np.testing.assert_allclose(to_unit_rgb(np.full((1, 16, 16, 1), -1.0)), np.zeros((1, 16, 16, 3)))
    np.testing.assert_allclose(to_unit_rgb(np.full((1, 16, 16, 3), 255, np.uint8)), np.ones((1, 16, 16, 3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"directions": np.eye(4)[:1]}, "at least 2, got 1"),
        ({"directions": np.eye(3)}, "like the codes"),
        ({"codes": CODES[:0]}, "at least one image"),
        ({"codes": CODES * np.nan}, "must be finite"),
        ({"frames": 4}, "odd and at least 3"),
        ({"frames": 1}, "odd and at least 3"),
        ({"span": 0.0}, "span must be positive"),
        ({"keep": 0}, "keep must be at least 1"),
        ({"grid": 2}, "at least 5 points"),
        ({"tracker": "raft"}, "unknown tracker"),
        ({"decode": lambda c, i: np.zeros((len(c), 12, 12, 3))}, "smaller than the window of 15"),
        ({"decode": lambda c, i: np.zeros((len(c), 32, 32, 4))}, "must return images"),
        ({"decode": lambda c, i: np.full((len(c), 32, 32, 3), np.nan)}, "not finite"),
    ],
)
def test_bad_input_is_one_line(change, message):
    arguments = {"decode": scene, "codes": CODES, "directions": np.eye(4)} | QUICK | change
    with pytest.raises(ValueError, match=message) as caught:
        content_tracking(**arguments)
    assert "\n" not in str(caught.value)
