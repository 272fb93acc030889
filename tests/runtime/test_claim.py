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
