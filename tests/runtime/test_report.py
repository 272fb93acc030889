"""Files that a run writes: history, results, tables, pictures."""

import json

import numpy as np
import pytest
from PIL import Image

from cldis_jax.runtime import report, visualize


def test_a_resumed_history_drops_later_steps(tmp_path):
    lines = [json.dumps({"step": s, "loss": 1.0 / s}) for s in (10, 20, 30)]
    (tmp_path / "scalars.jsonl").write_text("\n".join(lines) + '\n{"step": 40, "lo')  # truncated by a kill
    log = report.Report(str(tmp_path), total_steps=100, start_step=20)
    log.scalars(30, {"loss": 0.5}, {"loss": "0.5"})
    log.close()
    rows = [json.loads(line) for line in (tmp_path / "scalars.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20, 30]
    assert rows[-1]["loss"] == 0.5


def test_small_scalars_keep_their_digits(tmp_path):
    log = report.Report(str(tmp_path), total_steps=1, start_step=0)
    values = {"tiny": 1.23456789e-9, "third": np.float32(1 / 3), "large": 123456.789, "zero": 0.0}
    log.scalars(1, values, {})
    log.close()
    row = json.loads((tmp_path / "scalars.jsonl").read_text())
    assert row == {"step": 1, "tiny": 1.23456789e-9, "third": 0.333333343, "large": 123456.789, "zero": 0.0}
    assert np.float32(row["third"]) == values["third"]


def test_a_silent_report_writes_nothing(tmp_path):
    log = report.Report(str(tmp_path), 10, 0, enabled=False)
    log.scalars(1, {"a": 1.0}, {})
    assert log.picture(1, "p", np.zeros((4, 4, 3), np.uint8)) is None
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_results_are_complete_json(tmp_path):
    report.write_json(tmp_path / "r.json", {"a": 1.5})
    assert report.read_json(tmp_path / "r.json") == {"a": 1.5}
    with pytest.raises(ValueError, match="JSON"):
        report.write_json(tmp_path / "r.json", {"a": float("nan")})
    assert report.read_json(tmp_path / "r.json") == {"a": 1.5}


def test_table_aligns_its_columns():
    lines = report.table([("a", "1"), ("longer", "22")], ("name", "n")).splitlines()
    assert lines[0].index("n", 4) == lines[2].index("1") == lines[3].index("22")


def test_the_grid_shows_each_image_in_its_place():
    images = np.full((2, 3, 8, 8, 3), -1.0, np.float32)
    images[1, 2] = [1.0, -1.0, -1.0]
    picture = visualize.grid(images)
    assert picture.shape == (2 * 66, 3 * 66, 3)
    assert picture[66 + 30, 2 * 66 + 30].tolist() == [255, 0, 0]
    assert picture[30, 30].tolist() == [0, 0, 0]


def test_to_uint8_rounds_and_clips():
    assert visualize.to_uint8(np.array([[-2.0], [0.0], [1.0]]))[..., 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_animations_play_forward_and_backward(tmp_path, ending):
    frames = [np.full((16, 16, 3), value, np.uint8) for value in (0, 100, 200)]
    visualize.save_animation(tmp_path / f"a.{ending}", frames)
    with Image.open(tmp_path / f"a.{ending}") as picture:
        assert picture.n_frames == 4


def test_curves_draw_every_panel():
    history = [{"step": s, "a": float(s), "b": 1.0} for s in range(5)]
    picture = visualize.curves(history, {"one": ("a", "b"), "two": ("missing",)})
    assert picture.dtype == np.uint8
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


def test_a_history_in_a_bucket_grows(bucket, tmp_path):
    for start in (0, 2):
        log = report.Report(str(bucket), total_steps=4, start_step=start)
        for step in (start + 1, start + 2):
            log.scalars(step, {"loss": float(step)}, {})
        log.close()
    rows = [json.loads(line) for line in (tmp_path / "bucket/run/scalars.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
