"""Stored configs: their format, the differences that matter, and configs of earlier versions."""

import copy
import json
import pathlib
import re

import pytest

from cldis_jax.configs import default
from cldis_jax.runtime import checkpoint, config_json
from cldis_jax.runtime.errors import UserError

# WORKDIR/config.json of configs/default.py, as commit 5a9559b wrote it.
EARLIER = json.loads(pathlib.Path(__file__).with_name("config_5a9559b.json").read_text())


def test_json_and_back(tiny):
    again = config_json.config_from_json(json.loads(json.dumps(config_json.config_to_json(tiny))))
    assert again == tiny
    assert again.model.channel_multipliers == tiny.model.channel_multipliers
    assert isinstance(again.model.channel_multipliers, tuple)


def test_a_free_field_does_not_free_fields_with_the_same_prefix(tiny):
    saved = config_json.config_to_json(tiny)
    tiny.train.steps, tiny.checkpoint.keep, tiny.sharding.mesh.fsdp = 7, 9, 2
    assert config_json.differing_fields(saved, config_json.config_to_json(tiny)) == []
    tiny.train.steps_per_dispatch = 2
    (line,) = config_json.differing_fields(saved, config_json.config_to_json(tiny))
    assert line == "train.steps_per_dispatch: 1 in the workdir, 2 asked for"


def test_the_number_of_steps_is_free_unless_the_rate_depends_on_it(tiny):
    tiny.train.steps, tiny.train.decay_share = 60, 0.4
    saved = config_json.config_to_json(tiny)
    tiny.train.steps = 90
    (line,) = config_json.differing_fields(saved, config_json.config_to_json(tiny))
    assert line == "train.steps: 60 in the workdir, 90 asked for"
    saved["train"]["decay_share"] = tiny.train.decay_share = 0.0
    assert config_json.differing_fields(saved, config_json.config_to_json(tiny)) == []


def test_the_name_of_the_preset_is_free():
    assert config_json.differing_fields(EARLIER, EARLIER | {"preset": "best"}) == []


def test_a_config_of_an_earlier_version_is_upgraded():
    assert EARLIER["vae"]["warmup_steps"] == 0
    assert config_json.differing_fields(EARLIER, config_json.config_to_json(default.get_config())) == []
    upgraded = config_json.upgrade(EARLIER)
    assert not {"warmup_steps", "likelihood", "gaussian_std"} & upgraded["vae"].keys()
    assert EARLIER["vae"]["warmup_steps"] == 0  # the argument does not change
    today = config_json.flatten(default.get_config()).keys()
    assert config_json.flatten(upgraded).keys() == today - {"preset"}  # earlier versions did not have this name


@pytest.mark.parametrize(
    ("name", "value", "commit"),
    [
        ("vae.warmup_steps", 500, "5a9559b"),
        ("vae.likelihood", "gaussian", "f791804"),
        ("vae.gaussian_std", 0.3, "f791804"),
        ("model.num_heads", 2, "f791804"),
        ("model.encoder_head", "flatten", "1918b29"),
    ],
)
def test_a_retired_option_that_was_in_use_is_refused(name, value, commit):
    earlier = copy.deepcopy(EARLIER)
    section, field = name.split(".")
    earlier[section][field] = value
    message = re.escape(f"{name}={value!r}, an option that this version no longer has; commit {commit} of cldis_jax")
    with pytest.raises(UserError, match=message):
        config_json.upgrade(earlier)
    with pytest.raises(UserError, match=message):
        config_json.differing_fields(earlier, config_json.config_to_json(default.get_config()))


def test_an_added_field_gets_the_value_that_changes_nothing(monkeypatch):
    monkeypatch.setattr(config_json, "ADDED", {"vae.dropout": 0.0, "absent.field": 1})
    upgraded = config_json.upgrade(EARLIER)
    assert upgraded["vae"]["dropout"] == 0.0
    assert "absent" not in upgraded
    assert config_json.upgrade({"vae": {"dropout": 0.5}})["vae"]["dropout"] == 0.5


def test_an_added_section_gets_the_values_that_change_nothing():
    assert config_json.upgrade(EARLIER)["independence"] == {"weight": 0.0, "form": "cosines"}
    used = EARLIER | {"independence": {"weight": 1e-3}}
    assert config_json.upgrade(used)["independence"] == {"weight": 1e-3, "form": "cosines"}
    assert config_json.upgrade({"navigation": {}}) == {"navigation": {}}


def test_a_run_of_before_the_weight_while_listening_had_one_weight():
    upgraded = config_json.upgrade({"distillation": {"weight": 3e-4, "listen_steps": 4_000}})
    assert upgraded["distillation"]["listen_weight"] == 3e-4
    both = {"weight": 3e-4, "listen_weight": 1e-2}
    assert config_json.upgrade({"distillation": dict(both)})["distillation"] == both
    assert config_json.upgrade({}) == {}


def test_cross_attention_is_where_it_was():
    """Earlier versions had it in the levels up to the largest side with self-attention."""
    for conditioning, sides, side in (("cross_attention", [16, 8], 16), ("cross_attention", [], 0), ("adagn", [8], 16)):
        model = EARLIER["model"] | {"conditioning": conditioning, "attention_resolutions": sides}
        assert config_json.upgrade(EARLIER | {"model": model})["model"]["cross_attention_side"] == side


@pytest.mark.parametrize("changes", [{"weight": 0.0}, {"weight": 3e-3}])
def test_runs_without_listening_can_be_resumed(changes):
    """The weight while z_sem listens is not used there, and is not a difference."""
    config = default.get_config()
    config.distillation.update(changes)
    earlier = EARLIER | {"distillation": EARLIER["distillation"] | changes}
    assert config_json.differing_fields(earlier, config_json.config_to_json(config)) == []


def test_a_vae_alone_has_no_encoder_that_could_be_retired():
    alone = EARLIER | {"diffusion": EARLIER["diffusion"] | {"weight": 0.0}}
    alone["model"] = EARLIER["model"] | {"encoder_head": "flatten"}
    assert config_json.upgrade(alone)["model"]["encoder"] == "unet"


def test_checkpoints_of_an_earlier_version_give_a_config_of_this_one(tmp_path):
    def stored(values):
        workdir = str(tmp_path / str(values["vae"]["warmup_steps"]))
        with checkpoint.Checkpoints(workdir) as checkpoints:
            checkpoints.save(1, config_json.config_from_json(values), ema=None)
            checkpoints.wait()
            return checkpoints.config()

    assert stored(EARLIER) == config_json.config_from_json(config_json.upgrade(EARLIER))
    earlier = copy.deepcopy(EARLIER)
    earlier["vae"]["warmup_steps"] = 500
    with pytest.raises(UserError, match=r"commit 5a9559b"):
        stored(earlier)
