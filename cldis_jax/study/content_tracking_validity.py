"""Does the content-tracking metric measure disentanglement? A study with the renderer as a perfect decoder.

    python -m cldis_jax.study.content_tracking_validity --out=DIR [--quick]

The codes are the true factors of rendered scenes in units of their standard deviations, so a rotated basis mixes
factors, e.g. the wall's hue with the camera's orientation. The shape varies between the images but is not a direction:
it has four values and nothing between them. The study asks four questions. Do the true factors score high? Does the
score fall at each step of a rotation of two factors? Do a duplicated factor, a dead one and pixel noise lower it? How
many images and frames does a stable score need?
"""

import itertools
from typing import Any

import numpy as np
from absl import flags
from etils import epath
from scipy.stats import spearmanr

from cldis_jax import cli
from cldis_jax.data.scenes import Scenes
from cldis_jax.evaluation import content_tracking_pictures
from cldis_jax.metrics import trackers
from cldis_jax.metrics.content_tracking import SPAN, Tracking, measure
from cldis_jax.runtime import files, report, visualize

FACTORS = ("floor_hue", "wall_hue", "object_hue", "scale", "orientation")
COLUMNS = [Scenes.factor_names.index(name) for name in FACTORS]
SIZES = np.array(Scenes.factor_sizes)
STD = np.sqrt((SIZES**2 - 1) / 12)  # of a factor that is uniform over its values
SHAPE = Scenes.factor_names.index("shape")

ANGLES = np.linspace(0, 45, 9)  # degrees
NOISE = (0.0, 0.01, 0.03, 0.1, 0.3)  # standard deviation, for pixels in [0, 1]
STABLE = 0.02  # half-width of the interval
SEED = 0

QUICK = {"image_size": 32, "images": 4, "frames": 5, "grid": 20, "planes": 3}
FULL = {"image_size": 64, "images": 8, "frames": 9, "grid": 20, "planes": 10}
MANY_IMAGES = 64
FRAMES = (3, 5, 7, 9, 13)


class SceneDecoder:
    """Draws scenes from standardised factors [N, 5], in the order of `FACTORS`; each image keeps its shape."""

    def __init__(self, image_size: int, num_images: int, noise: float = 0.0):
        rng = np.random.default_rng(SEED)
        factors = rng.integers(0, SIZES, (num_images, len(SIZES)))
        self._source = Scenes(image_size)
        self._shapes = factors[:, SHAPE]
        self._noise, self._rng = noise, rng
        self.codes = ((factors - (SIZES - 1) / 2) / STD)[:, COLUMNS]

    def __call__(self, codes: np.ndarray, image_ids: np.ndarray) -> np.ndarray:
        factors = np.zeros((len(codes), len(SIZES)))
        factors[:, COLUMNS] = codes
        factors = factors * STD + (SIZES - 1) / 2
        factors[:, SHAPE] = self._shapes[image_ids]
        images = self._source.raycast(factors).astype(np.float32) / 127.5 - 1
        return images + 2 * self._noise * self._rng.standard_normal(images.shape, np.float32)


def rotated(plane: tuple[int, int], degrees: float) -> np.ndarray:
    """The two directions [2, 5] of a plane of two factors, rotated within the plane."""
    basis, turn = np.eye(len(FACTORS))[list(plane)], np.deg2rad(degrees)
    return np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) @ basis


def track(
    decoder: SceneDecoder, directions: np.ndarray, setting: dict[str, int], tracker: str, checkpoint: str | None
) -> Tracking:
    """The content that moves along directions [K, 5], tracked by the settings of the study."""
    options = {"frames": setting["frames"], "grid": setting["grid"], "tracker": tracker, "checkpoint": checkpoint}
    return measure(decoder, decoder.codes, directions, **options, keep=1, progress=True)


def study_basis(
    setting: dict[str, int], tracker: str, checkpoint: str | None
) -> tuple[dict[str, Any], dict[str, Tracking]]:
    """(results, tracked content for the pictures) of true, rotated, duplicated and dead directions."""
    planes = list(itertools.combinations(range(len(FACTORS)), 2))
    chosen = np.random.default_rng(SEED).choice(len(planes), setting["planes"], replace=False)
    planes = [planes[i] for i in sorted(chosen)]
    true = list(range(len(FACTORS)))
    dead = len(FACTORS)
    directions = [np.eye(len(FACTORS)), np.zeros((1, len(FACTORS)))]
    bases = {plane: [true] for plane in planes}  # for every angle, the rows of `directions` that form the basis
    for plane, degrees in itertools.product(planes, ANGLES[1:]):
        basis = list(true)
        basis[plane[0]], basis[plane[1]] = np.arange(2) + sum(map(len, directions))
        bases[plane].append(basis)
        directions.append(rotated(plane, degrees))
    decoder = SceneDecoder(setting["image_size"], setting["images"])
    tracked = track(decoder, np.concatenate(directions), setting, tracker, checkpoint)

    def score(rows: list[int]) -> float:
        return tracked.select(rows).summary(bootstrap=0)["score"]

    by_plane = {plane: [score(basis) for basis in bases[plane]] for plane in planes}
    mean = np.mean(list(by_plane.values()), 0)
    duplicated = {FACTORS[k]: score([*true, k]) for k in true}
    result = {
        "true_factors": tracked.select(true).summary(SEED),
        "rotation": {
            "angles": ANGLES.tolist(),
            "scores": mean.tolist(),
            "spearman": float(spearmanr(ANGLES, mean)[0]),
            "planes": {
                f"{FACTORS[a]} and {FACTORS[b]}": {"scores": scores, "spearman": float(spearmanr(ANGLES, scores)[0])}
                for (a, b), scores in by_plane.items()
            },
        },
        "duplicated": {"score": float(np.mean(list(duplicated.values()))), "factors": duplicated},
        "dead": {"score": score([*true, dead])},
    }
    example = planes[-1]
    return result, {"true_factors": tracked.select(true), "turned_by_45_degrees": tracked.select(bases[example][-1])}


def study_noise(setting: dict[str, int], tracker: str, checkpoint: str | None, without: float) -> dict[str, Any]:
    """The score at each level of noise; `without` is the score without noise."""
    scores = [without]
    for noise in NOISE[1:]:
        decoder = SceneDecoder(setting["image_size"], setting["images"], noise)
        tracked = track(decoder, np.eye(len(FACTORS)), setting, tracker, checkpoint)
        scores.append(tracked.summary(bootstrap=0)["score"])
    return {"sigmas": list(NOISE), "scores": scores, "spearman": float(spearmanr(NOISE, scores)[0])}


def study_stability(setting: dict[str, int]) -> dict[str, Any]:
    """The half-width of the bootstrap interval by number of images, and the score by number of frames."""
    half_widths, by_frames = {}, {}
    decoder = SceneDecoder(setting["image_size"], MANY_IMAGES)
    for frames in FRAMES:
        tracked = measure(decoder, decoder.codes, np.eye(len(FACTORS)), frames=frames, keep=1, progress=True)
        summary = tracked.summary(SEED)
        by_frames[frames] = {name: summary[name] for name in ("score", "low", "high")}
        if frames == setting["frames"]:
            seconds = summary["seconds"]
            for images in (4, 8, 16, 32, 64):
                subsets = [range(start, start + images) for start in range(0, MANY_IMAGES, images)]
                parts = [tracked.select(slice(None), list(rows)).summary(SEED, 300) for rows in subsets]
                half_widths[images] = float(np.mean([(part["high"] - part["low"]) / 2 for part in parts]))
    enough = [images for images, half_width in half_widths.items() if half_width <= STABLE]
    return {
        "half_width_by_images": half_widths,
        "images_needed": min(enough) if enough else None,
        "score_by_frames": by_frames,
        "seconds": seconds,
    }


def verdicts(result: dict[str, Any]) -> dict[str, bool]:
    """Whether each test passed: the score falls as the basis or the images get worse.

    In a rotation by nine angles, two neighbours may be exchanged: Spearman's correlation is then -.983.
    """
    true, rotation = result["true_factors"]["score"], result["rotation"]
    spearmans = [plane["spearman"] for plane in rotation["planes"].values()]
    return {
        "rotation": max(rotation["spearman"], *spearmans) <= -0.95,
        "duplicated": max(result["duplicated"]["factors"].values()) < true,
        "dead": result["dead"]["score"] < true,
        "noise": bool(np.all(np.diff(result["noise"]["scores"]) < 0)),
    }


def plots(result: dict[str, Any]) -> np.ndarray:
    """One uint8 picture: scores by angle for every plane, by noise, and of three worse bases."""
    figure = visualize.new_figure(12.5, 3.8)
    turning, noisy, bars = figure.subplots(1, 3)
    rotation, noise = result["rotation"], result["noise"]
    for name, plane in rotation["planes"].items():
        turning.plot(rotation["angles"], plane["scores"], linewidth=1, marker=".", label=name.replace("_", " "))
    turning.plot(rotation["angles"], rotation["scores"], color="black", linewidth=2.4, label="mean")
    turning.set_title(f"a plane of two factors, turned (Spearman {rotation['spearman']:+.3f})", fontsize=10)
    turning.set_xlabel("degrees")
    turning.legend(fontsize=7)
    noisy.plot(noise["sigmas"], noise["scores"], marker="o", color="black")
    noisy.set_xscale("symlog", linthresh=0.01)
    noisy.set_xticks(noise["sigmas"], [f"{sigma:g}" for sigma in noise["sigmas"]])
    noisy.set_title("pixel noise on every frame", fontsize=10)
    noisy.set_xlabel("standard deviation, pixels in [0, 1]")
    values = {
        "true factors": result["true_factors"]["score"],
        "one duplicated": result["duplicated"]["score"],
        "one dead": result["dead"]["score"],
        "plane at 45°": rotation["scores"][-1],
    }
    drawn = bars.bar(values.keys(), values.values(), color=["tab:green", *["tab:red"] * 3])
    bars.bar_label(drawn, fmt="%.3f", fontsize=9)
    bars.tick_params(axis="x", labelsize=8)
    bars.set_title("the true basis and three worse ones", fontsize=10)
    for axes in (turning, noisy, bars):
        axes.set_ylim(0, 1)
        axes.set_ylabel("score")
        axes.grid(alpha=0.3)
    return visualize.render(figure)


def run(out: epath.PathLike, quick: bool, checkpoint: str | None = None) -> dict[str, Any]:
    """The whole study; writes its JSON and pictures to `out`."""
    out = epath.Path(out)
    files.check_writable(out / "content_tracking_validity.json")
    setting = QUICK if quick else FULL
    names = ["lk"] if quick else ["lk", "dis"]
    names += ["tapir"] if checkpoint else []
    by_tracker, pictures = {}, {}
    for name in names:
        by_tracker[name], tracked = study_basis(setting, name, checkpoint)
        by_tracker[name]["noise"] = study_noise(setting, name, checkpoint, by_tracker[name]["true_factors"]["score"])
        by_tracker[name]["passed"] = verdicts(by_tracker[name])
        pictures = pictures or tracked
    result = {"setting": setting | {"span": SPAN}, **by_tracker[names[0]]}
    if len(names) > 1:
        result["trackers"] = by_tracker
    if not quick:
        result["stability"] = study_stability(setting)
    report.write_json(out / "content_tracking_validity.json", result)
    visualize.save_png(out / "content_tracking_validity.png", plots(result))
    for name, tracking in pictures.items():
        content_tracking_pictures.save_all(tracking, out / name, FACTORS)
    return result


def rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """The study as lines of a table."""
    true, rotation, noise, passed = (result[name] for name in ("true_factors", "rotation", "noise", "passed"))

    def verdict(name: str) -> str:
        return "passed" if passed[name] else "FAILED"

    lines = [
        ("true factors", f"{true['score']:.3f} [{true['low']:.3f}, {true['high']:.3f}]", ""),
        ("  consistency, independence", f"{true['consistency']:.3f}, {true['independence']:.3f}", ""),
        (f"planes turned 0 to {ANGLES[-1]:g} degrees", " ".join(f"{score:.3f}" for score in rotation["scores"]), ""),
        ("  Spearman, mean and worst plane", _mean_and_worst(rotation), verdict("rotation")),
        ("one factor duplicated", f"{result['duplicated']['score']:.3f}", verdict("duplicated")),
        ("one factor dead", f"{result['dead']['score']:.3f}", verdict("dead")),
        ("noise " + " ".join(f"{s:g}" for s in NOISE), " ".join(f"{s:.3f}" for s in noise["scores"]), verdict("noise")),
    ]
    if "stability" in result:
        widths = result["stability"]["half_width_by_images"]
        lines.append(("half-width by images", "  ".join(f"{n}: {width:.3f}" for n, width in widths.items()), ""))
        frames = result["stability"]["score_by_frames"]
        lines.append(("score by frames", "  ".join(f"{n}: {part['score']:.3f}" for n, part in frames.items()), ""))
    for name, part in result.get("trackers", {}).items():
        worst = "passed" if all(part["passed"].values()) else "FAILED"
        lines.append(
            (f"tracker {name}", f"{part['true_factors']['score']:.3f}, {_mean_and_worst(part['rotation'])}", worst)
        )
    return lines


def _mean_and_worst(rotation: dict[str, Any]) -> str:
    return f"{rotation['spearman']:+.3f}, {max(plane['spearman'] for plane in rotation['planes'].values()):+.3f}"


def main() -> None:
    cli.require(OUT)
    if CHECKPOINT.value:
        trackers.make_tracker("tapir", CHECKPOINT.value)  # raises for a wrong checkpoint before any work
    result = run(OUT.value, QUICK_FLAG.value, CHECKPOINT.value)
    print(report.table(rows(result), ("test", "score", "")))


if __name__ == "__main__":
    OUT = flags.DEFINE_string("out", None, "folder for the results and pictures")
    QUICK_FLAG = flags.DEFINE_bool(
        "quick", False, "few images and frames; only Lucas-Kanade, and TAPIR with --tapir_checkpoint: within 50 s"
    )
    CHECKPOINT = flags.DEFINE_string("tapir_checkpoint", None, "also study TAPIR, with this checkpoint")
    cli.run(main)
