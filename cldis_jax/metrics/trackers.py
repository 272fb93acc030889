"""Point trackers with one interface: from frames and the points of the middle frame to tracks and visibility.

Points are tracked from the middle frame outward, because every point exists there. A point is lost if it has no
texture, is occluded or fails the forward-backward check. A lost point keeps its last position and is marked invisible
from then on.

Optical flow assumes constant brightness. Along a traversal this does not hold: a hue may change over its whole circle.
The input of the optical flows is therefore the edge image of a frame (the strength of its colour gradient), not its
brightness. An edge remains when the colours on its two sides change.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import cv2
import jax
import numpy as np

TRACKERS = ("lk", "dis", "tapir")
WINDOW = 15  # side of the window of Lucas-Kanade in pixels
LEVELS = 3  # of the pyramid, besides the frame itself
MIN_EIGENVALUE = 2e-3  # of the window's structure tensor, for pixels in [0, 1]; below it there is too little texture
ROUND_TRIP = 1.0  # largest distance in pixels from a point to itself tracked forward and back
TAPIR_SIZE = 256  # side of the frames that TAPIR was trained on
TAPIR_CHUNK = 64  # points whose cost volumes are in memory at once
TAPIR_SETTINGS = {"bilinear_interp_with_depthwise_conv": False, "pyramid_level": 0}  # as published with the weights
BOOTSTAPIR_SETTINGS = TAPIR_SETTINGS | {"pyramid_level": 1, "extra_convs": True, "softmax_temperature": 10.0}


class Tracker(Protocol):
    """Tracks points through a traversal.

    Takes frames uint8 [S, H, W, 3] and points [P, 2] (x, y in pixels of the middle frame, S // 2); returns tracks
    float32 [S, P, 2] and visible bool [S, P].
    """

    min_size: int  # pixels; the caller enlarges frames with a shorter side

    def __call__(self, frames: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...


def make_tracker(name: str, checkpoint: str | None = None) -> Tracker:
    """The tracker `name` of TRACKERS. TAPIR needs the path of its checkpoint.

    Raises:
      ValueError: an unknown name, a missing package or a damaged checkpoint.
      FileNotFoundError: there is no such checkpoint.
    """
    if name == "tapir":
        return Tapir(checkpoint)
    steps = {"lk": lucas_kanade_step, "dis": dense_flow_step}
    if name not in steps:
        raise ValueError(f"unknown tracker {name!r}; choose one of {', '.join(TRACKERS)}")
    return Chained(steps[name])


class Chained:
    """Applies a two-frame tracker from frame to frame, from the middle to both ends."""

    min_size = 128

    def __init__(self, step: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]):
        self._step = step

    def __call__(self, frames: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images = [edges(frame) for frame in frames]
        middle = len(frames) // 2
        tracks = np.tile(np.asarray(points, np.float32), (len(frames), 1, 1))
        visible = np.ones(tracks.shape[:2], bool)
        for outward in (1, -1):
            end = len(frames) if outward > 0 else -1
            for i in range(middle + outward, end, outward):
                tracks[i], visible[i] = tracks[i - outward], False
                tracked = np.flatnonzero(visible[i - outward])
                if len(tracked):
                    moved, found = self._step(images[i - outward], images[i], tracks[i - outward, tracked])
                    tracks[i, tracked[found]] = moved[found]
                    visible[i, tracked[found]] = True
        return tracks, visible


def edges(frame: np.ndarray) -> np.ndarray:
    """The square root of the strength of the colour gradient, scaled to uint8 [H, W], of a frame uint8 [H, W, 3]."""
    smooth = cv2.GaussianBlur(frame, (0, 0), 1.0).astype(np.float32)
    squares = cv2.Sobel(smooth, cv2.CV_32F, 1, 0) ** 2 + cv2.Sobel(smooth, cv2.CV_32F, 0, 1) ** 2
    strength = np.sqrt(squares.sum(-1)) / 4  # grey levels per pixel
    return np.minimum(24 * np.sqrt(strength), 255).astype(np.uint8)


def lucas_kanade_step(before: np.ndarray, after: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pyramidal Lucas-Kanade: (positions [P, 2] in the next edge image, which points were found [P]).

    Source: Bouguet, "Pyramidal implementation of the affine Lucas Kanade feature tracker", 2001, as in OpenCV.
    """
    settings = {"winSize": (WINDOW, WINDOW), "maxLevel": LEVELS, "minEigThreshold": MIN_EIGENVALUE}
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None, **settings)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, **settings)
    missed_by = np.linalg.norm(back - points, axis=-1)
    followed = (found[:, 0] > 0) & (found_back[:, 0] > 0) & (missed_by < ROUND_TRIP) & _inside(there, before)
    return there, followed


def dense_flow_step(before: np.ndarray, after: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DIS dense flow, sampled at the points. Arguments and results as in `lucas_kanade_step`.

    Source: Kroeger et al., "Fast optical flow using dense inverse search", 2016, as in OpenCV.
    """
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    there = points + sample(flow.calc(before, after, None), points)
    back = there + sample(flow.calc(after, before, None), there)
    missed_by = np.linalg.norm(back - points, axis=-1)
    return there, (missed_by < ROUND_TRIP) & _inside(there, before)


class Tapir:
    """The learnt trackers TAPIR and BootsTAPIR of DeepMind's `tapnet` package. The weights decide which of the two.

    Source: Doersch et al., "TAPIR: tracking any point with per-frame initialization and temporal refinement", 2023, and
    "BootsTAP: bootstrapped training for tracking-any-point", 2024.
    """

    min_size = TAPIR_SIZE

    def __init__(self, checkpoint: str | None):
        if not checkpoint:
            raise ValueError(
                "the tracker 'tapir' needs the path of its checkpoint, "
                "--tapir_checkpoint=tapir_checkpoint_panning.npy or bootstapir_checkpoint_v2.npy"
            )
        if not Path(checkpoint).is_file():
            raise FileNotFoundError(f"no TAPIR checkpoint at {checkpoint}")
        try:
            from tapnet.models import tapir_model
        except ImportError as error:
            raise ValueError(
                f"the tracker 'tapir' needs the package tapnet (github.com/google-deepmind/tapnet) with all that it "
                f"imports: there is no module {error.name}"
            ) from error
        try:
            weights = np.load(checkpoint, allow_pickle=True).item()
            self._variables = weights["params"], weights["state"]
        except Exception as error:  # a damaged pickle may raise anything
            raise ValueError(
                f"--tapir_checkpoint: {checkpoint} is not a checkpoint of TAPIR ({type(error).__name__}: {error})"
            ) from error
        bootstrapped = any("extra_convs" in name for name in weights["params"])
        settings = BOOTSTAPIR_SETTINGS if bootstrapped else TAPIR_SETTINGS

        def follow(variables, video, queries):
            model = tapir_model.ParameterizedTAPIR(*variables, tapir_kwargs=settings)
            found = model(video=video, query_points=queries, is_training=False, query_chunk_size=TAPIR_CHUNK)
            return tuple(found[name][0] for name in ("tracks", "occlusion", "expected_dist"))

        self._follow = jax.jit(follow)

    def __call__(self, frames: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, width = frames.shape[1:3]
        scale = np.array([width, height], np.float32) / TAPIR_SIZE
        video = np.stack([cv2.resize(frame, (TAPIR_SIZE, TAPIR_SIZE)) for frame in frames])
        video = video.astype(np.float32)[None] / 127.5 - 1
        middle = np.full((len(points), 1), len(frames) // 2, np.float32)
        raster = (points + 0.5) / scale  # TAPIR's pixel centres are at 0.5
        queries = np.concatenate([middle, raster[:, ::-1]], axis=-1).astype(np.float32)[None]  # t, y, x
        found = self._follow(self._variables, video, queries)
        tracks, occlusion, distance = (np.asarray(part, np.float32).swapaxes(0, 1) for part in found)  # [S, P, ...]
        tracks = tracks * scale - 0.5
        visible = (1 - _sigmoid(occlusion)) * (1 - _sigmoid(distance)) > 0.5
        return tracks, visible


def sample(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Bilinear values [P, channels] of an image float32 [H, W, channels] at points [P, 2], clamped to the image."""
    at = points.astype(np.float32)[None]
    return cv2.remap(image, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]


def _inside(points: np.ndarray, image: np.ndarray) -> np.ndarray:
    return ((points >= 0) & (points <= np.array(image.shape[1::-1]) - 1)).all(-1)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
