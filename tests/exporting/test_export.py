"""An exported folder is the model: commands read it, training refuses it, and it names no path of this machine."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
from PIL import Image

from cldis_jax import api
from cldis_jax.exporting.folder import export
from cldis_jax.navigation.results import Directions
from cldis_jax.prior import method as prior_method
from cldis_jax.prior import store
from cldis_jax.runtime import checkpoint, config_json, exported, report
from cldis_jax.runtime.errors import UserError
from tests import doors

SCORE = {"mean": 0.5, "std": 0.1, "floors": {"untrained": 0.2}}


@pytest.fixture(scope="module")
def workdir(untrained_workdir, tmp_path_factory):
    """A workdir with a model, scores, pictures, directions and a latent prior."""
    folder = tmp_path_factory.mktemp("private") / "run"
    (folder / "pictures").mkdir(parents=True)
    (folder / "navigation").mkdir()
    (folder / "checkpoints").symlink_to(f"{untrained_workdir}/checkpoints")
    settings = {"latent": "z_sem", "step": 3, "workdir": str(folder), "workdirs": [str(folder)], "data": "scenes"}
    settings |= {"metrics": ["mig"], "published_set": ""}
    report.write_json(folder / "evaluate.json", {"mig": {"mig": SCORE}, "settings": settings})
    for step in (1, 2):
        Image.new("RGB", (8, 8)).save(folder / f"pictures/traversals_z_sem_{step:08d}.png")
    Directions(np.eye(10), np.ones(10), np.arange(10), np.ones(10), "z_sem", 3).save(
        folder / "navigation/directions.npz"
    )
    config = prior_method.default_config(10)
    config.model.num_layers, config.model.hidden_dim = 2, 8
    store.save(str(folder), config, prior_method.create_state(config, np.zeros(10), np.ones(10)).ema, 5)
    return folder


@pytest.fixture(scope="module")
def shared(workdir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("public") / "my-model"
    names = export(api.load(str(workdir)), folder)
    assert {"README.md", "config.json", "model.safetensors", "evaluate.json", "evaluate.md"} <= set(names)
    assert "latent_prior/model.safetensors" in names
    return folder


def same(one, other):
    return jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b) and a.dtype == b.dtype, one, other))


def test_it_is_the_model(workdir, shared):
    first, second = api.load(str(workdir)), api.load(str(shared))
    assert same(first.ema, second.ema)
    assert second.step == 3
    assert config_json.config_to_json(first.config) == config_json.config_to_json(second.config)
    assert same(store.load(str(workdir)).averages, store.load(str(shared)).averages)
    assert same(second.at(None).ema, second.ema)
    assert checkpoint.kept_steps(str(shared)) == [3]
    with pytest.raises(checkpoint.CheckpointError, match="holds step 3 alone, not 7"):
        api.load(str(shared), 7)
    loaded = Directions.load(shared / "navigation/directions.npz", second)
    np.testing.assert_array_equal(loaded.A, np.eye(10))


def test_it_can_be_exported_again_and_by_the_command(shared, tmp_path):
    done = doors.run("export", f"--workdir={shared}", f"--out={tmp_path / 'again'}")
    assert done.returncode == 0, done.stderr
    assert same(api.load(str(tmp_path / "again")).ema, api.load(str(shared)).ema)
    refused = doors.run("export", f"--workdir={shared}", f"--out={shared}")
    assert refused.returncode == 1
    assert "exists and is not an empty folder" in refused.stderr


def test_the_card(workdir, shared):
    card = (shared / "README.md").read_text()
    front = re.match(r"---\n(.*?)\n---\n", card, re.S)[1]
    assert "library_name: cldis_jax" in front
    assert "license: apache-2.0" in front
    assert "| mig | mig | 0.5 ± 0.1 | 0.2 |" in card
    assert "rendered by cldis_jax" in card
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", card)
    assert pictures == ["pictures/traversals_z_sem_00000002.png"]  # the newest
    assert all((shared / picture).exists() for picture in pictures)


def test_what_is_of_another_step_is_left_out(workdir, tmp_path, capsys):
    other = dataclasses.replace(api.load(str(workdir)), step=1)
    names = export(other, tmp_path / "early")
    assert not {"evaluate.json", "evaluate.md"} & set(names)
    assert "pictures/traversals_z_sem_00000001.png" in names
    assert "evaluate.json is of step 3, not 1, and is left out" in capsys.readouterr().out
    assert "Scores" not in (tmp_path / "early/README.md").read_text()


def test_the_card_of_the_folder_where_the_user_is(workdir, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    export(api.load(str(workdir)), ".")
    assert 'load("here")' in (tmp_path / "here/README.md").read_text()


def test_it_names_no_folder_of_this_machine(workdir, shared):
    private = str(workdir.parent).encode()
    for file in shared.rglob("*"):
        assert file.is_dir() or private not in file.read_bytes(), file


def test_own_images_need_a_word_about_their_terms(tiny):
    from cldis_jax.exporting import card, folder

    tiny.data.source, tiny.data.path, tiny.data.data_dir = "folder", "/home/me/cats", "/data"
    assert "say here whose images these are" in card.terms(tiny.data).sentence
    assert folder.without_paths(tiny).data.path == "cats"
    assert folder.without_paths(tiny).data.data_dir == ""


def test_training_refuses_it(shared, tiny):
    with pytest.raises(checkpoint.CheckpointError, match=r"no optimiser state.*--config.init_from="):
        checkpoint.claim(shared, config_json.config_to_json(tiny), "a run")


def test_damaged_files(shared, tmp_path):
    for content in (b"", b"\x10\0\0\0\0\0\0\0not json at all!", (shared / "model.safetensors").read_bytes()[:-9]):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(UserError, match="is not an exported model"):
            api.load(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes((shared / "model.safetensors").read_bytes())
    with pytest.raises(UserError, match=r"config\.json can't be read"):
        api.load(str(tmp_path))
    values = json.loads((shared / "config.json").read_text())
    values["model"]["latent_dim"] = 7
    report.write_json(tmp_path / "config.json", values)
    with pytest.raises(UserError, match=r"does not fit its config\.json: .* not float32"):
        exported.Exported(tmp_path).restore_ema(api.abstract_averages(exported.Exported(tmp_path).config()))
