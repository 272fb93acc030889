"""What the page is made of, without Gradio: names, images, edits, commands, the files of a run."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cldis_jax import api
from cldis_jax.api.edits import edit
from cldis_jax.configs import beta_vae
from cldis_jax.data import files
from cldis_jax.explorer import drawing, naming, run_files, serving, static_page
from cldis_jax.explorer.editing import edited, visit
from cldis_jax.explorer.model import Explored, Images, explored
from cldis_jax.method import train_step
from cldis_jax.runtime import report
from cldis_jax.runtime.errors import UserError
from tests import random_params


@pytest.fixture(scope="module")
def bundle(untrained_workdir):
    return api.load(untrained_workdir)


@pytest.fixture(scope="module")
def model(bundle):
    return explored(bundle, num_images=3)


def test_held_out_images_and_units_by_their_deviation(model):
    assert model.images.pixels.shape == (3, 16, 16, 3)
    assert all(name.startswith("held out ") for name in model.images.names)
    assert model.order == list(range(9, -1, -1))  # the fixture's deviations ascend
    assert model.label(4) == "unit 4"


def test_images_of_another_set_are_not_called_held_out(bundle):
    other = dataclasses.replace(bundle, trained_on={"num_images": 12, "names_sha256": "another"})
    model = explored(other, num_images=3)
    assert all(name.startswith("other ") for name in model.images.names)
    assert model.images.note == "The model was trained on other images: scenes has 480000 images, not 12"


def test_own_files_and_a_file_that_is_no_image(bundle, tmp_path):
    Image.new("I;16", (30, 20), 40_000).save(tmp_path / "grey.png")
    (tmp_path / "notes.txt").write_text("no image")
    model = explored(bundle, [tmp_path / "grey.png"])
    assert model.images.names == ("grey",)
    assert model.read(str(tmp_path / "grey.png")).shape == (1, 16, 16, 3)
    with pytest.raises(UserError, match=r"notes\.txt can't be read as an image"):
        model.read(str(tmp_path / "notes.txt"))


def test_a_model_whose_data_are_elsewhere_has_no_images(bundle):
    config = bundle.config.copy_and_resolve_references()
    config.data.source, config.data.path = "folder", "/nowhere"
    model = explored(dataclasses.replace(bundle, functions=dataclasses.replace(bundle.functions, config=config)))
    assert len(model.images.pixels) == 0
    assert "not here" in model.images.note


def test_edits_and_the_command_that_makes_the_same_picture(model, monkeypatch, tmp_path):
    """The command's picture is that of the page, with the image's own x_T and with a random one."""
    monkeypatch.setattr(Explored, "encode_steps", 2)  # the command takes it as a flag
    Image.fromarray(((model.images.pixels[0] + 1) * 127.5).round().astype(np.uint8)).save(tmp_path / "a.png")
    seen = visit(model, "a", str(tmp_path / "a.png"), model.images.pixels[:1])
    for seed in (None, 3):
        before, after = edited(model, seen, {9: 2.0, 0: 0.0}, 3, seed)
        assert np.abs(after - before).max() > 1e-3
        words = model.command(seen.file, {9: 2.0}, 3, seed).split()
        given = dict(word.removeprefix("--").split("=", 1) for word in words[3:])
        assert given["workdir"] == model.bundle.workdir
        edit(
            model.bundle,
            model.axes,
            files.find(given["images"]),
            str(tmp_path / f"out{seed}"),
            shifts=given["set"],
            encode_steps=int(given["encode_steps"]),
            decode_steps=int(given["num_steps"]),
            x_T=given.get("x_T", "inferred"),
            seed=int(given.get("seed", 0)),
        )
        found = np.asarray(Image.open(tmp_path / f"out{seed}" / "a_set.png"), np.float32) / 127.5 - 1
        np.testing.assert_allclose(found, after, atol=0.01)
    assert edited(model, seen, {}, 3)[0] is edited(model, seen, {9: 0.0}, 3)[1]  # no shift, no second decoding


def test_a_vae_alone_has_neither_x_T_nor_steps():
    config = beta_vae.get_config("tiny")
    ones = jnp.ones(config.model.latent_dim)
    moments = train_step.Moments(weight=jnp.ones(()), first=0 * ones, second=ones)
    model = explored(random_params.bundle(config, z_disen=moments), num_images=1)
    seen = visit(model, "a", "a.png", model.images.pixels)
    before, after = edited(model, seen, {2: 3.0}, 20)
    moved = seen.code.z + 3 * np.eye(len(ones), dtype=np.float32)[2]
    np.testing.assert_allclose(before, model.bundle.decode_vae(seen.code.z)[0], atol=1e-5)
    np.testing.assert_allclose(after, model.bundle.decode_vae(moved)[0], atol=1e-5)
    assert model.command("a.png", {2: 3.0}, 20, None).endswith("--images=a.png --out=edited --set=2=+3")


def test_names(tmp_path):
    axes = api.Axes(np.eye(3), [0, 1, 2], "unit", "z_sem")
    assert naming.names(axes, str(tmp_path)) == ["", "", ""]
    shares = {"wall_hue": [0.9, 0.3, 0.0], "scale": [0.1, 0.05, 0.02]}
    tracked = [{"motion_percent": 0.1, "colour_delta_e": 0.1}] * 2 + [{"motion_percent": 3.0, "colour_delta_e": 3.0}]
    results = {
        "mig": {"details": {"information_shares": shares}},
        "content_tracking": {"details": {"directions": tracked}},
        "settings": {"latent": "z_sem", "directions": "axes"},
    }
    report.write_json(tmp_path / "evaluate.json", results)
    assert naming.names(axes, str(tmp_path)) == ["wall hue", "", "moves"]  # unit 1 has a third of unit 0's
    assert naming.names(axes._replace(latent="z_disen"), str(tmp_path)) == ["", "", ""]
    (tmp_path / "navigation").mkdir()
    found = {"factor_changes": {"navigation": [[0.0, 0.4], [0.02, 0.01], [0.5, 0.1]]}}
    found["probe_accuracy"] = {"originals": {"wall_hue": 1.0, "scale": 1.0}}
    report.write_json(tmp_path / "navigation/navigation.json", found)
    assert naming.names(axes._replace(kind="direction"), str(tmp_path)) == ["scale", "", "wall hue"]
    other = str(tmp_path / "other/directions.npz")  # of another search, of which nothing is known
    assert naming.names(axes._replace(kind="direction"), str(tmp_path), other) == ["", "", ""]
    report.write_json(tmp_path / "evaluate.json", {"attributes": {"details": {"auroc": {"Smiling": [0.5, 0.9, 0.6]}}}})
    assert naming.names(axes, str(tmp_path)) == ["", "Smiling", ""]


def test_files_of_a_run(tmp_path, tiny):
    assert run_files.scalars(str(tmp_path)) == []
    assert run_files.pictures(str(tmp_path)) == {}
    rows = [{"step": step, "L_diff": 1 / step} for step in range(1, 1002)]
    (tmp_path / "scalars.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 11')
    found = run_files.scalars(str(tmp_path))
    assert len(found) <= run_files.MOST_POINTS + 1
    assert found[0] == rows[0]
    assert found[-1] == rows[-1]
    points = run_files.points(found[:2], ("L_diff", "absent"))
    assert points == {"step": [1, 4], "value": [1.0, 0.25], "scalar": ["L_diff", "L_diff"]}
    (tmp_path / "pictures").mkdir()
    for step in (20, 3):
        (tmp_path / f"pictures/curves_{step:08d}.png").write_bytes(b"")
    assert list(run_files.pictures(str(tmp_path))["curves"]) == [3, 20]
    assert any(row[0] == "data.image_size" for row in run_files.config_rows(tiny))


def test_texts_of_visitors_are_escaped():
    picture = np.zeros((2, 2, 3), np.uint8)
    for text in (drawing.row({"<script>": picture}), drawing.download(picture, '"><script>', "<script>")):
        assert "<script>" not in text


def test_where_it_changed():
    before, after = np.zeros((4, 4, 3)), np.zeros((4, 4, 3))
    after[0, 0] = 1.0
    heat = drawing.heat(before, after)
    assert heat[0, 0].sum() > 600
    assert heat[1:].sum() < 100


def test_the_tunnel_over_ssh(monkeypatch):
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    assert serving.tunnel(7860) == []
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 50000 10.0.0.2 22")
    (line,) = serving.tunnel(7860)
    assert "ssh -N -L 7860:localhost:7860" in line
    assert "@10.0.0.2" in line


def test_without_images_there_is_nothing_to_export(model, tmp_path):
    empty = Images((), np.zeros((0, 16, 16, 3), np.float32), (), "they are elsewhere")
    with pytest.raises(UserError, match="no images to show: they are elsewhere; give some with --images"):
        static_page.write(tmp_path / "page.html", dataclasses.replace(model, images=empty))
    assert not (tmp_path / "page.html").exists()


def test_the_page_as_one_file(model, tmp_path, monkeypatch):
    monkeypatch.setattr(Explored, "encode_steps", 2)
    monkeypatch.setattr(static_page, "SHIFTS", np.array([-2.0, 0.0, 2.0]))
    monkeypatch.setattr(static_page, "MOST_UNITS", 2)
    content = static_page.content(model, 2)
    assert content["units"] == ["unit 9", "unit 8"]
    assert content["facts"] == "z_sem, step 3, decoded in 2 DDIM steps"
    assert static_page.content(model, 2, "CC BY 4.0")["facts"] == "z_sem, step 3, decoded in 2 DDIM steps. CC BY 4.0"
    sprite = content["images"][0]["sprite"]
    assert sprite.startswith("data:image/jpeg;base64,")
    names = Images(("</script><script>alert(1)", *model.images.names[1:]), *model.images[1:])
    monkeypatch.setattr(static_page, "content", lambda *_: content | {"images": [{"name": names.names[0]}]})
    size = static_page.write(tmp_path / "page.html", model)
    page = (tmp_path / "page.html").read_text()
    assert size == len(page.encode())
    assert page.count("</script>") == 1
    assert static_page.MARK not in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_scores_of_reconstructions_have_a_table_of_their_own():
    results = {"reconstruction": {"mse, inferred x_T, T = 10": {"mean": 0.25, "std": None}}}
    text = static_page._scores(results)
    assert text.count("<table>") == 1
    assert "<td>ours, inferred x_T</td><td>0.25</td>" in text
    both = static_page._scores(results | {"mig": {"mig": {"mean": 0.5, "std": 0.1, "floors": {"untrained": 0.2}}}})
    assert both.count("<table>") == 2
    assert static_page._scores({}) == ""
