"""setup.sh: refuses unsuitable interpreters and installs only after a change."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from stand_ins import executable

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "launch").mkdir()
    shutil.copy(ROOT / "launch" / "setup.sh", tmp_path / "launch")
    for name in ("setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def setup(checkout, **environment):
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHON", "EXTRAS")}
    return subprocess.run(
        ["bash", str(checkout / "launch" / "setup.sh")], env=inherited | environment, capture_output=True, text=True
    )


def installations(checkout):
    log = checkout / "log"
    return [line for line in log.read_text().splitlines() if "install" in line] if log.exists() else []


@pytest.mark.parametrize(
    ("interpreter", "complaint"),
    [
        ("[[ $1 == --version ]] && echo Python 3.9.2; exit 1", "Python 3.9.2 is too old; Python 3.11 or newer"),
        (
            'case "$*" in *ensurepip*) exit 1 ;; *venv*) echo python3.13-venv ;; esac',
            "apt-get install python3.13-venv",
        ),
    ],
)
def test_an_unsuitable_interpreter_is_refused(checkout, interpreter, complaint):
    executable(checkout / "python", interpreter)
    result = setup(checkout, PYTHON=str(checkout / "python"))
    assert result.returncode == 1
    assert complaint in result.stderr
    assert not (checkout / ".venv").exists()


def test_a_missing_interpreter_is_named(checkout):
    result = setup(checkout, PYTHON="python-of-nowhere")
    assert result.returncode == 1
    assert "there is no 'python-of-nowhere' here" in result.stderr


def test_installs_only_when_something_changed(checkout):
    executable(checkout / ".venv" / "bin" / "python", f'echo "$*" >> {checkout}/log')
    assert setup(checkout).returncode == 0
    again = setup(checkout)
    assert (again.returncode, again.stderr) == (0, "")
    assert [line.split()[-1] for line in installations(checkout)] == [".[test]"]
    assert setup(checkout, EXTRAS="gpu").returncode == 0
    assert setup(checkout).returncode == 0
    assert [line.split()[-1] for line in installations(checkout)] == [".[test]", ".[gpu]"]
    with (checkout / "setup.cfg").open("a") as file:
        file.write("    another-package\n")
    assert setup(checkout).returncode == 0
    assert len(installations(checkout)) == 3


def test_the_package_alone_is_part_of_every_installation(checkout):
    executable(checkout / ".venv" / "bin" / "python", f'echo "$*" >> {checkout}/log')
    for _ in range(2):
        assert setup(checkout, EXTRAS="").returncode == 0
    assert [line.split()[-1] for line in installations(checkout)] == ["."]
    assert setup(checkout).returncode == 0
    assert [line.split()[-1] for line in installations(checkout)] == [".", ".[test]"]
    (checkout / ".venv" / ".installed-").unlink()
    assert setup(checkout, EXTRAS="").returncode == 0
    assert len(installations(checkout)) == 2
    with (checkout / "setup.cfg").open("a") as file:
        file.write("    another-package\n")
    assert setup(checkout, EXTRAS="").returncode == 0
    assert len(installations(checkout)) == 3


def test_a_failed_installation_is_tried_again(checkout):
    executable(checkout / ".venv" / "bin" / "python", f'echo "$*" >> {checkout}/log; [[ $* != *install* ]]')
    for attempt in (1, 2):
        result = setup(checkout)
        assert result.returncode == 1
        assert "the installation failed" in result.stderr
        assert len(installations(checkout)) == attempt
