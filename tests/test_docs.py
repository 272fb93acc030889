"""The documentation: the site builds, links and names are right, every command and the tour run at a tiny size."""

import functools
import os
import re
import subprocess
import sys

import jax
import nbclient
import nbformat
import numpy as np
import pytest
from PIL import Image

from cldis_jax.configs import default, scenes
from cldis_jax.runtime.config_json import flatten
from tests import documented, doors
from tests.documented import PAGES
from tests.doors import ROOT

COMMANDS = documented.documented()
RUN = sorted(command for command in COMMANDS if documented.reason(command) is None)
PAGE_TEXTS = {page: (ROOT / page).read_text() for page in PAGES}
LOOP = (
    "z_sem of the closed loop scores higher in DCI and MIG than its teacher, Diff-AE alone and the β-VAE alone. It is "
    "not distinguished from an open loop"
)


def call(*words):
    """Run a door with its flags; fails with what it printed."""
    done = doors.run(*words)
    assert done.returncode == 0, f"{' '.join(words)}\n{(done.stdout + done.stderr)[-3000:]}"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i, name in enumerate([*"abcdef", *map(str, range(6))]):
        pixels = np.random.default_rng(i).integers(0, 256, (24, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained tiny model with directions, for all commands that need one."""
    workdir = tmp_path_factory.mktemp("runs") / "trained"
    call("main", "--config=configs/scenes.py:tiny", f"--workdir={workdir}", *documented.TINY["main"].split())
    return workdir


@pytest.fixture(scope="module")
def directions(trained):
    """Directions where `navigate` writes them."""
    call("navigate", f"--workdir={trained}", "--decoder=x0", *documented.TINY["navigate"].split()[:-1])


# --- The commands ---


def test_every_command_runs_or_says_why_not():
    assert len(RUN) > 20
    for command in RUN:
        door = documented.normal(command).split()[0]
        known = door in documented.TINY or command.startswith("bash launch/tables.sh")
        assert known, f"{COMMANDS[command]}: {command!r} is neither run nor in NOT_RUN of tests/documented.py"
    for pattern in documented.NOT_RUN:
        assert any(re.search(pattern, documented.normal(c)) for c in COMMANDS), f"NOT_RUN: nothing matches {pattern}"


def test_flags_exist():
    """Every documented flag, config field and shipped config is one, whether the command runs in a test or not."""
    for command in COMMANDS:
        words = documented.arguments(command)
        if "cldis" in command and not command.startswith("bash "):
            call("-c", documented.PARSE_ONLY, *words)
        elif match := re.match(r"(?:bash|sbatch .*?) ?(launch/\S+)", command):
            script = (ROOT / match[1]).read_text()
            for flag in re.findall(r"(?<= )--(\w[\w-]*)", command.partition(match[1])[2]):
                assert f"--{flag}" in script, f"{command}: {match[1]} has no --{flag}"


@pytest.mark.parametrize("command", [c for c in RUN if c.startswith("bash launch/tables.sh")])
def test_script_runs(command, tmp_path):
    words = [word if not word.startswith("--out=") else f"--out={tmp_path}" for word in documented.arguments(command)]
    dry = [*words[:2], "--dry-run", *words[2:]]
    subprocess.run(dry, cwd=ROOT, check=True, capture_output=True, timeout=60)


def tiny_commands():
    """What runs, each once however often it is documented. Those that the README lacks are slow: together 6 minutes.

    The fixture `trained` already runs `main` on scenes; the files of `navigate` and `evaluate` run these.
    """
    doors = [command for command in RUN if not command.startswith("bash ")]
    often = {documented.tiny(command) for command in doors if "README.md" in COMMANDS[command]}
    for words in sorted({documented.tiny(command) for command in doors}):
        elsewhere = words[0] in ("navigate", "evaluate") or words[:2] == ("main", "--config=scenes:tiny")
        marks = () if words in often and not elsewhere else pytest.mark.slow
        yield pytest.param(words, marks=marks, id=" ".join(words))


@pytest.mark.parametrize("words", tiny_commands())
def test_command_runs(words, photos, trained, request, tmp_path):
    """Commands that are alike at their tiny size run once."""
    if any(word.startswith("--directions=") for word in words):
        request.getfixturevalue("directions")
    places = {"{photos}": photos, "{trained}": trained, "{new}": tmp_path / "new"}
    for name, place in places.items():
        words = [word.replace(name, str(place)) for word in words]
    call(*words)


# --- The words ---


def test_site_builds(tmp_path):
    """Strict: a dead link, a dead anchor or a page outside the navigation fails."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={tmp_path}"]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    reference = (tmp_path / "reference" / "metrics.html").read_text()
    for name in ("dci", "mig", "content_tracking"):
        assert f"cldis_jax.metrics.{name}.{name}" in reference
    assert "config.feedback.mode" in re.sub(r"<[^>]+>", "", (tmp_path / "configs.html").read_text())


@pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith("docs/")])
def test_links_outside_the_site(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGE_TEXTS[page]):
        if "://" not in target and not target.startswith(("#", "mailto:")):
            assert (ROOT / page).parent.joinpath(target.partition("#")[0]).exists(), f"{page}: {target}"


def test_named_files_and_fields_exist():
    """`method/feedback.py` and `feedback.mode` in the documentation are a file and a field."""
    fields = flatten(default.get_config())
    sections = {name.partition(".")[0] for name in fields if "." in name}
    for page, text in PAGE_TEXTS.items():
        if page == "CHANGELOG.md":  # names what is gone, too
            continue
        prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
        for span in re.findall(r"`([^`\n]+)`", prose):
            if re.fullmatch(r"[\w./]+/[\w.]+\.(py|sh|sbatch|csv|jsonl)", span):
                found = (ROOT / span).exists() or (ROOT / "cldis_jax" / span).exists()
                assert found, f"{page}: there is no {span}"
            match = re.fullmatch(r"((\w+)\.(?!py|csv)\w+)( = .*)?", span)
            if match and match[2] in sections:
                assert any(f"{name}.".startswith(f"{match[1]}.") for name in fields), f"{page}: there is no {span}"


def test_every_config_is_listed():
    listed = re.findall(r"`(\w+\.py)`", PAGE_TEXTS["docs/configs.md"])
    missing = {path.name for path in (ROOT / "configs").glob("*.py")} - {*listed, "__init__.py"}
    assert not missing


def test_does_the_loop_help_has_one_answer():
    for page in ("README.md", "docs/index.md", "docs/results.md"):
        assert LOOP in " ".join(PAGE_TEXTS[page].split()), page


def test_readme_is_short():
    assert len(PAGE_TEXTS["README.md"].splitlines()) <= 150


def test_python_of_the_readme_runs(untrained_workdir, monkeypatch):
    from cldis_jax import api

    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE_TEXTS["README.md"], re.S | re.M)
    monkeypatch.setattr(api, "load", functools.partial(_load_instead, api.load, untrained_workdir))
    config = scenes.get_config("tiny")
    side = config.data.image_size
    images = np.random.default_rng(0).uniform(-1, 1, (2, side, side, 3)).astype(np.float32)
    names = {"images": images}
    with jax.numpy_rank_promotion("allow"):  # as for a user
        exec(block, names)
    assert names["edited"].shape == images.shape


def _load_instead(load, workdir, path):
    assert path == "runs/quickstart"
    return load(workdir)


@pytest.mark.slow
def test_tour_runs(tmp_path):
    """All cells, with a model that the tour trains itself."""
    notebook = nbformat.read(ROOT / "docs" / "tour.ipynb", as_version=4)
    environment = {k: v for k, v in os.environ.items() if k != "CLDIS_WORKDIR"} | {"PYTHONPATH": str(ROOT)}
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute(env=environment)
    printed = [o.get("text", "") for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    assert any("z_sem: MIG" in text for text in printed)


def test_tour_is_committed_with_small_outputs():
    notebook = nbformat.read(ROOT / "docs" / "tour.ipynb", as_version=4)
    assert any(cell.outputs for cell in notebook.cells if cell.cell_type == "code")
    assert (ROOT / "docs" / "tour.ipynb").stat().st_size < 200_000
