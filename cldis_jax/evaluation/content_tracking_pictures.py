"""Pictures of content tracking: what each direction changes and where, and which directions change the same."""

from collections.abc import Sequence

import cv2
import numpy as np
from etils import epath
from matplotlib.colors import hsv_to_rgb

from cldis_jax.metrics.content_tracking import Tracking
from cldis_jax.runtime import visualize

TITLES = {  # of the two pictures that sum up all images
    "content_tracking_changes": "what each direction changes, and where",
    "content_tracking_similarity": "which directions change the same",
}
MOST_DRAWN = 32  # directions in a picture; z_sem may have hundreds of units
MAX_COLUMNS = 7  # frames of a traversal that are drawn
TILE = 192  # pixels a side of a drawn frame
SHORTEST_TRAIL = 2.5  # percent of the image's shorter side; points that moved less are not drawn
BRIGHTEST = 99  # percentile, over all directions, at which a colour scale ends


def save_all(tracking: Tracking, out_dir: epath.PathLike, names: Sequence[str] = ()) -> list[str]:
    """Write every picture of `tracking` to `out_dir`. Returns the paths.

    `names` are those of the directions. The MOST_DRAWN directions of the largest activity are drawn.
    """
    out_dir = epath.Path(out_dir)
    names = list(names) or [f"direction {k}" for k in range(tracking.motion.shape[1])]
    summary = tracking.summary()
    activity = [of_direction["activity"] for of_direction in summary["directions"]]
    drawn = np.sort(np.argsort(activity)[::-1][:MOST_DRAWN])
    tracking, names = tracking.select(drawn), [names[k] for k in drawn]
    summary["directions"] = [summary["directions"][k] for k in drawn]
    similarity = np.array(summary["similarity"])[np.ix_(drawn, drawn)]
    pictures = {
        "content_tracking_changes": changes(tracking, names, summary),
        "content_tracking_similarity": visualize.heatmap(
            similarity, names, names, "do two directions change the same content?", "cosine"
        ),
    }
    for i in range(len(tracking.frames)):
        pictures[f"content_tracking_tracks_{i}"] = strips(tracking, i, names)
    for name, picture in pictures.items():
        visualize.save_png(out_dir / f"{name}.png", picture)
    return [str(out_dir / f"{name}.png") for name in pictures]


def changes(tracking: Tracking, names: Sequence[str], summary: dict) -> np.ndarray:
    """One row a direction: an example, where it moves things and how, where it changes the colour, and its scores."""
    motion, colour = tracking.motion.mean((0, 2)), tracking.colour.mean((0, 2))
    speed = np.linalg.norm(motion, axis=-1)
    fastest, strongest = max(np.percentile(speed, BRIGHTEST), 1e-6), max(np.percentile(colour, BRIGHTEST), 1e-6)
    rows = len(names)
    figure = visualize.new_figure(9.4, 1.5 + 1.62 * rows, dpi=90)
    header, *panels = figure.subplots(rows + 1, 5, gridspec_kw={"height_ratios": [0.55] + [1] * rows})
    titles = (f"{tracking.shifts[0]:+g} units", f"{tracking.shifts[-1]:+g} units", "moves", "recolours", "score")
    for axes, title in zip(header, titles):
        axes.set_title(title, fontsize=11)
        axes.axis("off")
    _legend(header, fastest)
    shape = tracking.frames.shape[-3:-1]
    for k, (example, last, moves, recolours, bars) in enumerate(panels):
        example.imshow(tracking.frames[0, k, 0])
        last.imshow(tracking.frames[0, k, -1])
        moves.imshow(motion_colours(_as_image(motion[k], shape) / fastest))
        heat = recolours.imshow(_as_image(colour[k], shape), cmap="magma", vmin=0, vmax=strongest)
        for axes in (example, last, moves, recolours):
            axes.set_xticks([])
            axes.set_yticks([])
        example.set_ylabel(names[k], fontsize=11)
        _bars(bars, summary["directions"][k])
    figure.colorbar(heat, ax=header[3], location="bottom", fraction=0.6, aspect=9, label="dE a unit")
    interval = (
        f"   95 % interval {summary['low']:.3f} to {summary['high']:.3f}" if summary["high"] > summary["low"] else ""
    )
    figure.suptitle(f"content tracking {summary['score']:.3f}{interval}", fontsize=12)
    return visualize.render(figure)


def strips(tracking: Tracking, image: int, names: Sequence[str]) -> np.ndarray:
    """The traversals of one of the kept images, with the paths of the points from the middle frame."""
    num_frames = len(tracking.shifts)
    middle = num_frames // 2
    stride = -(-(num_frames - 1) // (MAX_COLUMNS - 1))
    columns = sorted(
        {middle + i for i in range(-(middle // stride) * stride, middle + 1, stride)} | {0, num_frames - 1}
    )
    rows = [
        [_with_trails(tracking, image, k, frame, middle) for frame in columns] for k in range(tracking.motion.shape[1])
    ]
    labels = [f"{tracking.shifts[frame]:+.2g}" for frame in columns]
    tiles = np.array(rows, np.float32) / 127.5 - 1
    return visualize.grid(tiles, names, labels, "colour of a trail: where to, per unit of the direction")


def motion_colours(motion: np.ndarray) -> np.ndarray:
    """Colours [..., 3] in [0, 1] of displacements [..., 2]: hue is direction, white no motion, length 1 saturated."""
    angle = (np.arctan2(-motion[..., 1], motion[..., 0]) / (2 * np.pi)) % 1  # counter-clockwise from the right
    length = np.linalg.norm(motion, axis=-1).clip(0, 1)
    return hsv_to_rgb(np.stack([angle, length, np.ones_like(length)], -1))


def _with_trails(tracking: Tracking, image: int, k: int, frame: int, middle: int) -> np.ndarray:
    picture = tracking.frames[image, k, frame]
    height, width = picture.shape[:2]
    scale = TILE / min(height, width)
    picture = cv2.resize(picture, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_CUBIC)
    if frame == middle:
        return picture
    outward = 1 if frame > middle else -1
    path = tracking.tracks[image, k, middle : (frame + outward if frame + outward >= 0 else None) : outward]
    travelled = path[-1] - path[0]
    seen = tracking.visible[image, k, frame]
    far = np.linalg.norm(travelled, axis=-1) * 100 / min(height, width) > SHORTEST_TRAIL
    colours = (motion_colours(_unit(travelled) * outward) * 255).astype(int).tolist()
    for p in np.flatnonzero(seen & far):
        trail = np.rint((path[:, p] + 0.5) * scale * 16).astype(np.int32)  # 4 fractional bits
        cv2.polylines(picture, [trail], False, (0, 0, 0), 3, cv2.LINE_AA, shift=4)
        cv2.polylines(picture, [trail], False, colours[p], 1, cv2.LINE_AA, shift=4)
        cv2.circle(picture, trail[-1].tolist(), 2 * 16, colours[p], -1, cv2.LINE_AA, shift=4)
    return picture


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _as_image(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Values [P, ...] on the square grid of points, enlarged to `shape`."""
    grid = round(len(values) ** 0.5)
    values = values.reshape(grid, grid, *values.shape[1:]).astype(np.float32)
    return cv2.resize(values, shape[::-1], interpolation=cv2.INTER_LINEAR)


def _legend(header: np.ndarray, fastest: float) -> None:
    """The colour wheel above the column of motion."""
    y, x = np.mgrid[-1:1:101j, -1:1:101j]
    wheel = motion_colours(np.stack([x, y], -1))
    wheel[np.hypot(x, y) > 1] = 1
    header[2].imshow(wheel)
    header[2].text(
        0.5,
        -0.05,
        f"rim: {fastest:.2g} % of a side a unit",
        ha="center",
        va="top",
        fontsize=8,
        transform=header[2].transAxes,
    )


def _bars(axes, parts: dict) -> None:
    shown = ("activity", "consistency", "independence")
    axes.barh(shown, [parts[name] for name in shown], color=["0.6", "tab:blue", "tab:orange"], height=0.7)
    for i, name in enumerate(shown):
        axes.text(0.03, i, f"{name} {parts[name]:.2f}", va="center", fontsize=8)
    axes.set_xlim(0, 1)
    axes.invert_yaxis()
    axes.set_yticks([])
    axes.set_xticks([0, 0.5, 1])
    axes.tick_params(labelsize=7)
