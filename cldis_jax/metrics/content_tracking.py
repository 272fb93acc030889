"""The content-tracking metric: the disentanglement of latent directions, without labels, for any decoder.

Each direction is traversed from a few images. A grid of points is tracked from the middle frame outward. At every step
each point has a displacement d and a colour change a. The *change map* of a step contains for each point p

    F(p) = [d d^T / |d|, a]    d: displacement [2], a: colour change dE >= 0; four numbers.

Both parts are divided by their root mean square over all directions, which gives motion and colour the same weight. The
cosine of two change maps is in [0, 1]. It is 1 if the same places move along the same lines and change their colour in
the same proportions. It is 0 if different places change, if the same places move at right angles, or if one direction
moves the places whose colour the other changes.

    consistency_k  = sqrt(mean cosine of the steps of one traversal * mean cosine of the pooled maps of two images)
    independence_k = 1 - max_l activity_l * cosine_kl                       (cosines of one image, averaged over images)
    activity_k     = e / (1 + e), e: energy of the 5 % most active points / energy of the least noticeable change
    score          = harmonic mean of activity, consistency and independence

Activity is the mean of activity_k; consistency and independence are means over k with the weights activity_k. So a
direction that changes nothing lowers the activity, and has no say in the other two.

The paper (arXiv 2402.02346) scores disentanglement by content tracking. The formula here is ours, chosen because it
passes the tests of `content_tracking_validity`. We rejected these alternatives:

- signed features (displacement and Lab vectors, mean cosine): two directions that are rotated into each other stay
  orthogonal, so the score does not change; and the changes along a full hue circle cancel. The tensor and dE ignore the
  sign, but keep the line and the place.
- independence as the mean over all other directions: one entangled pair among many directions hardly lowers it.
- tracking brightness: a region that changes its hue seems to move. The trackers use edges instead.
- RMS over the whole image as activity: a small but clear change, such as a smile, gets a low activity.
- a silent direction counted as 0 in consistency and in independence: a model of faces whose units are independent, and
  partly silent, then scores below random directions, each of which moves every active unit.

Maps of different images are compared by place, on a grid of 5 x 5 cells. The images should therefore have the same
layout, as portraits or scenes of one kind have. Otherwise consistency is a lower bound.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from scipy.stats import hmean
from tqdm import tqdm

from cldis_jax.metrics.trackers import WINDOW, Tracker, make_tracker, sample

Decoder = Callable[[np.ndarray, np.ndarray], np.ndarray]  # codes [N, D], image ids [N] -> images [N, H, W, C]

NOTICEABLE_COLOUR = 2.3  # dE (CIE 1976) per unit of the direction: the just noticeable difference (Mahy et al., 1994)
NOTICEABLE_MOTION = 0.5  # percent of the image's shorter side per unit of the direction
MOST_ACTIVE = 0.05  # share of points, those that change most, which determine the activity
CELLS = 5  # cells per side, for the comparison of different images
SPAN = 1.0  # units in both directions, as in the validity study; at two deviations a hue has left its circle
COLOUR_BLUR = 1.5  # pixels of the tracker's frames; makes the colour change robust to tracking errors


@dataclass(frozen=True)
class Tracking:
    """Tracks of M images, K directions, S frames and P points on a square grid. Rates are per unit of a direction."""

    motion: np.ndarray  # [M, K, S - 1, P, 2] percent of the shorter side
    colour: np.ndarray  # [M, K, S - 1, P] dE
    frames: np.ndarray  # [m, K, S, H, W, 3] uint8: input of the tracker for the first m images
    tracks: np.ndarray  # [m, K, S, P, 2] x, y in pixels of `frames`
    visible: np.ndarray  # [m, K, S, P] bool
    shifts: np.ndarray  # [S]
    tracker: str
    seconds: dict[str, float]

    def select(self, directions: Any, images: Any = slice(None)) -> "Tracking":
        """The tracking of some directions (and images), in any order. Indices may repeat."""
        one_of = {name: getattr(self, name)[:, directions] for name in ("frames", "tracks", "visible")}
        return replace(
            self, motion=self.motion[images][:, directions], colour=self.colour[images][:, directions], **one_of
        )

    def change_maps(self) -> np.ndarray:
        """F, float32 [M, K, S - 1, P, 4]. The factor sqrt(2) counts the off-diagonal entry twice in inner products."""
        speed = np.linalg.norm(self.motion, axis=-1)
        motion_scale = max(_rms(speed), NOTICEABLE_MOTION)
        colour_scale = max(_rms(self.colour), NOTICEABLE_COLOUR)
        x, y = self.motion[..., 0], self.motion[..., 1]
        tensor = np.stack([x * x, np.sqrt(2) * x * y, y * y], -1) / np.maximum(speed, 1e-9)[..., None]
        return np.concatenate([tensor / motion_scale, self.colour[..., None] / colour_scale], -1).astype(np.float32)

    def summary(self, seed: int = 0, bootstrap: int = 1000) -> dict[str, Any]:
        """The score, its 95 % bootstrap interval over images, and its parts, as JSON values.

        A bootstrap draw must contain two different images, because images are compared. Other draws are repeated.
        """
        parts = _Parts.of(self)
        num_images, num_directions = self.motion.shape[:2]
        result = parts.combine(np.ones(num_images))
        draws = _bootstrap_counts(num_images, bootstrap, seed)
        scores = [parts.combine(counts)["score"] for counts in draws] or [result["score"]]
        low, high = np.percentile(scores, [2.5, 97.5])
        speed = np.linalg.norm(self.motion, axis=-1)
        return {
            **{name: float(result[name]) for name in ("score", "consistency", "independence", "activity")},
            "low": float(low),
            "high": float(high),
            "directions": [
                {
                    "consistency": float(result["consistencies"][k]),
                    "independence": float(result["independences"][k]),
                    "activity": float(result["activities"][k]),
                    "motion_percent": _rms(speed[:, k]),
                    "colour_delta_e": _rms(self.colour[:, k]),
                }
                for k in range(num_directions)
            ],
            "similarity": result["similarity"].round(6).tolist(),
            "tracked_share": float(self.visible[:, :, [0, -1]].mean()),
            "tracker": self.tracker,
            "images": num_images,
            "frames": len(self.shifts),
            "span": float(self.shifts[-1]),
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }


@dataclass(frozen=True)
class _Parts:
    """Cosines and energies of single images. The score of any resampling of the images is computed from them."""

    step_cosines: np.ndarray  # [M, K] mean cosine over the pairs of steps
    image_cosines: np.ndarray  # [K, M, M] cosine of the pooled maps of two images
    direction_cosines: np.ndarray  # [M, K, K] cosine of the maps of two directions
    energy: np.ndarray  # [M, K] in units of the least noticeable change

    @classmethod
    def of(cls, tracking: Tracking) -> "_Parts":
        maps = tracking.change_maps()
        num_images, num_directions, num_steps, num_points, _ = maps.shape
        of_steps = _unit(maps.reshape(num_images, num_directions, num_steps, -1))
        mean = maps.mean(2)
        of_directions = _unit(mean.reshape(num_images, num_directions, -1))
        pooled = np.einsum("cp,mkpf->kmcf", _cells(num_points), mean).reshape(num_directions, num_images, -1)
        pooled = _unit(pooled)

        # The inner products of all pairs sum to |sum|^2. Pairs of a vector with itself are subtracted.
        with_itself = np.square(of_steps).sum((2, 3))
        step_cosines = (np.square(of_steps.sum(2)).sum(-1) - with_itself) / (num_steps * (num_steps - 1))
        power = np.square(tracking.motion / NOTICEABLE_MOTION).sum(-1) + np.square(tracking.colour / NOTICEABLE_COLOUR)
        most_active = np.sort(power.mean(2), axis=-1)[..., -max(1, round(MOST_ACTIVE * num_points)) :]
        return cls(
            step_cosines=step_cosines,
            image_cosines=np.einsum("kmf,knf->kmn", pooled, pooled),
            direction_cosines=np.einsum("mkf,mlf->mkl", of_directions, of_directions),
            energy=most_active.mean(-1),
        )

    def combine(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """The score and its parts when image m occurs counts[m] times. Copies of an image are not compared."""
        share = counts / counts.sum()
        energy = share @ self.energy
        activities = energy / (1 + energy)

        pairs = np.outer(counts, counts) * (1 - np.eye(len(counts)))
        consistencies = share @ self.step_cosines
        if pairs.any():
            between = np.einsum("kmn,mn->k", self.image_cosines, pairs) / pairs.sum()
            consistencies = np.sqrt(np.clip(consistencies, 0, 1) * np.clip(between, 0, 1))  # rounding may leave [0, 1]

        similarity = np.einsum("m,mkl->kl", share, self.direction_cosines)
        overlap = np.where(np.eye(len(similarity), dtype=bool), 0, similarity * activities)
        independences = np.clip(1 - overlap.max(1), 0, 1)

        weights = activities / max(activities.sum(), 1e-9)
        means = {
            "consistency": weights @ consistencies,
            "independence": weights @ independences,
            "activity": activities.mean(),
        }
        return {
            "score": hmean(list(means.values())),
            **means,
            "consistencies": consistencies,
            "independences": independences,
            "activities": activities,
            "similarity": similarity,
        }


def content_tracking(
    decode: Decoder, codes: np.ndarray, directions: np.ndarray, *, seed: int = 0, bootstrap: int = 1000, **settings
) -> dict[str, Any]:
    """The `summary` of `measure(decode, codes, directions, **settings)`."""
    return measure(decode, codes, directions, **settings).summary(seed, bootstrap)


def measure(
    decode: Decoder,
    codes: np.ndarray,
    directions: np.ndarray,
    *,
    frames: int = 9,
    span: float = SPAN,
    tracker: str | Tracker = "lk",
    checkpoint: str | None = None,
    grid: int = 20,
    keep: int = 4,
    workers: int | None = None,
    progress: bool = False,
) -> Tracking:
    """Traverse every direction from every code, and track the points.

    Args:
      decode: from codes float32 [N, D] and image ids int [N] to images [N, H, W, 1 or 3], float in [-1, 1] or uint8. N
        is the same in every call. The ids are rows of `codes`; a decoder needs them if it uses x_T of the image.
      codes: [M, D], the codes of the middle frames.
      directions: [K, D]; a shift of one unit adds the direction once.
      frames: frames of a traversal, an odd number.
      span: the shifts run from -span to +span.
      tracker: a name in `trackers.TRACKERS`, or a Tracker.
      checkpoint: the path of TAPIR's weights.
      grid: points per side.
      keep: the number of images, at least 1, whose frames and tracks are kept for pictures.
      workers: threads for tracking.

    Raises:
      ValueError: fewer than two directions, images smaller than the tracker's window, or other invalid arguments.
    """
    codes, directions = np.asarray(codes, np.float32), np.asarray(directions, np.float32)
    _check(codes, directions, frames, span, grid, keep)
    name = tracker if isinstance(tracker, str) else type(tracker).__name__
    track = make_tracker(tracker, checkpoint) if isinstance(tracker, str) else tracker

    shifts = np.linspace(-span, span, frames, dtype=np.float32)
    outer = np.delete(shifts, frames // 2)  # the middle frame is shared by all directions
    offsets = (outer[None, :, None] * directions[:, None]).reshape(-1, codes.shape[1])
    offsets = np.concatenate([np.zeros_like(offsets[:1]), offsets])
    rates, decoding = [], 0.0
    started = time.perf_counter()
    with _one_thread_of_opencv(), ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        pending = []
        for i in tqdm(range(len(codes)), "content tracking", unit="image", disable=not progress or None):
            before = time.perf_counter()
            images = to_unit_rgb(decode(codes[i] + offsets, np.full(len(offsets), i)))
            decoding += time.perf_counter() - before
            sides = images[1:].reshape(len(directions), frames - 1, *images.shape[1:])
            middles = np.broadcast_to(images[:1], (len(directions), 1, *images.shape[1:]))
            traversals = np.concatenate([sides[:, : frames // 2], middles, sides[:, frames // 2 :]], 1)
            rates += [job.result() for job in pending]
            pending = [pool.submit(_track, traversal, track, grid, i < keep) for traversal in traversals]
        rates += [job.result() for job in pending]

    step = shifts[1] - shifts[0]
    shape = len(codes), len(directions)
    kept = [rate[2] for rate in rates if rate[2] is not None]
    kept_frames, tracks, visible = (np.stack(part).reshape(-1, shape[1], *part[0].shape) for part in zip(*kept))
    return Tracking(
        motion=np.stack([rate[0] for rate in rates]).reshape(*shape, *rates[0][0].shape) / step,
        colour=np.stack([rate[1] for rate in rates]).reshape(*shape, *rates[0][1].shape) / step,
        frames=kept_frames,
        tracks=tracks,
        visible=visible,
        shifts=shifts,
        tracker=name,
        seconds={
            "decoding": decoding,
            "tracking_in_threads": sum(rate[3] for rate in rates),
            "total": time.perf_counter() - started,
        },
    )


@contextlib.contextmanager
def _one_thread_of_opencv() -> Iterator[None]:
    """Switch OpenCV's own threads off, because each traversal is tracked in a thread of ours."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _track(traversal: np.ndarray, tracker: Tracker, grid: int, keep: bool):
    """(motion [S - 1, P, 2], colour change [S - 1, P], (frames, tracks, visible) or None, seconds of this thread)."""
    started = time.thread_time()
    height, width = traversal.shape[1:3]
    factor = max(1.0, tracker.min_size / min(height, width))
    size = round(width * factor), round(height * factor)
    if factor > 1:
        traversal = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in traversal])
        traversal = traversal.clip(0, 1)
    frames = np.rint(traversal * 255).astype(np.uint8)
    centres = (np.arange(grid, dtype=np.float32) + 0.5) / grid
    points = np.stack(np.meshgrid(centres * size[0], centres * size[1]), -1).reshape(-1, 2) - 0.5
    tracks, visible = tracker(frames, points.astype(np.float32))

    # A lost point has no motion. Changes at its last position count as changes of colour.
    both = visible[1:] & visible[:-1]
    motion = np.where(both[..., None], np.diff(tracks, axis=0), 0) * (100 / min(size))
    lab = [cv2.cvtColor(cv2.GaussianBlur(frame, (0, 0), COLOUR_BLUR), cv2.COLOR_RGB2Lab) for frame in traversal]
    colours = np.stack([sample(frame, at) for frame, at in zip(lab, tracks)])
    colour = np.linalg.norm(np.diff(colours, axis=0), axis=-1)
    kept = (frames, tracks, visible) if keep else None
    return motion, colour, kept, time.thread_time() - started


def to_unit_rgb(images: np.ndarray) -> np.ndarray:
    """Images [N, H, W, 1 or 3], float in [-1, 1] or uint8, as float32 RGB in [0, 1].

    Raises:
      ValueError: another shape, images smaller than the tracker's window, or values that are not finite.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"the decoder must return images [N, H, W, 1 or 3], got shape {images.shape}")
    if min(images.shape[1:3]) < WINDOW:
        raise ValueError(
            f"images of {images.shape[2]}x{images.shape[1]} pixels are smaller than the window of {WINDOW}"
        )
    whole = images.dtype == np.uint8
    images = images.astype(np.float32) / 255 if whole else (images.astype(np.float32) + 1) / 2
    if not np.isfinite(images).all():
        raise ValueError("the decoder returned values that are not finite")
    return np.repeat(images, 3, -1).clip(0, 1) if images.shape[-1] == 1 else images.clip(0, 1)


def _check(codes: np.ndarray, directions: np.ndarray, frames: int, span: float, grid: int, keep: int) -> None:
    if codes.ndim != 2 or len(codes) < 1:
        raise ValueError(f"codes must be [images, dims] with at least one image, got shape {codes.shape}")
    if directions.ndim != 2 or directions.shape[1] != codes.shape[1]:
        raise ValueError(f"directions must be [directions, {codes.shape[1]}] like the codes, got {directions.shape}")
    if len(directions) < 2:
        raise ValueError(f"content tracking compares directions: give at least 2, got {len(directions)}")
    if not (np.isfinite(codes).all() and np.isfinite(directions).all()):
        raise ValueError("codes and directions must be finite")
    if frames < 3 or frames % 2 == 0:
        raise ValueError(f"frames must be odd and at least 3, so that there is a middle frame, got {frames}")
    if not (np.isfinite(span) and span > 0):
        raise ValueError(f"span must be positive, got {span}")
    if grid < CELLS:
        raise ValueError(f"grid must be at least {CELLS} points per side, got {grid}")
    if keep < 1:
        raise ValueError(f"keep must be at least 1 image, got {keep}")


def _cells(num_points: int) -> np.ndarray:
    """The matrix [CELLS^2, P] that averages points over cells."""
    grid = round(num_points**0.5)
    place = np.arange(grid) * CELLS // grid
    member = (place[:, None] * CELLS + place).ravel() == np.arange(CELLS**2)[:, None]
    return member / member.sum(1, keepdims=True)


def _bootstrap_counts(num_images: int, num_draws: int, seed: int) -> np.ndarray:
    """How often each image is drawn [num_draws, num_images]. Each draw has two different images if possible."""
    rng = np.random.default_rng(seed)
    share = np.full(num_images, 1 / num_images)
    counts = rng.multinomial(num_images, share, size=num_draws)
    while num_images > 1 and (single := counts.max(axis=1) == num_images).any():
        counts[single] = rng.multinomial(num_images, share, size=single.sum())
    return counts


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors along the last axis, scaled to length 1. Vectors of length 0 stay 0."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values, dtype=np.float64).mean()))
