"""A folder belongs to the config that was first run in it."""

import json

import pytest
from ml_collections import ConfigDict

from cldis_jax.runtime import checkpoint

ASKED = {"model": {"width": 8}, "train": {"steps": 5}}


def test_an_empty_folder_is_free(tmp_path):
    checkpoint.claim(tmp_path / "absent", ASKED, "a run")
    (tmp_path / "config.json").write_text("{}")  # from a run that ended before its first checkpoint
    checkpoint.claim(tmp_path, ASKED, "a run")


@pytest.mark.parametrize("recorded", ["in config.json", "in the checkpoint"])
def test_another_config_is_refused_with_the_fields_that_differ(tmp_path, recorded):
    with checkpoint.Checkpoints(str(tmp_path)) as checkpoints:
        checkpoints.save(1, ConfigDict(ASKED), None)
        checkpoints.wait()
    if recorded == "in config.json":
        (tmp_path / "config.json").write_text(json.dumps(ASKED))
    checkpoint.claim(tmp_path, ASKED | {"train": {"steps": 9}}, "a run")  # a run may be made longer
    with pytest.raises(checkpoint.CheckpointError, match=r"(?s)a run of another config.*model\.width: 8 .*, 9 asked"):
        checkpoint.claim(tmp_path, ASKED | {"model": {"width": 9}}, "a run")


def test_a_refused_training_says_how_to_go_on_with_other_settings(tmp_path):
    (tmp_path / "main.json").write_text("{}")
    (tmp_path / "config.json").write_text(json.dumps(ASKED | {"init_from": ""}))
    asked = ASKED | {"model": {"width": 9}, "init_from": ""}
    onward = f"to start from its parameters with this config, add --config.init_from={tmp_path} and a new workdir; or"
    with pytest.raises(checkpoint.CheckpointError) as training:
        checkpoint.claim(tmp_path, asked, "a run")
    assert onward in str(training.value)
    with pytest.raises(checkpoint.CheckpointError) as search:
        checkpoint.claim(tmp_path, {"model": {"width": 9}}, "a search")  # whose config has no such field
    assert "--config.init_from" not in str(search.value)
