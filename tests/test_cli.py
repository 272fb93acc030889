"""How commands start and fail: which errors become one line, configs by name, the console command."""

import os
import pathlib
import subprocess
import sys

import pytest

from cldis_jax import cli, configs
from cldis_jax.configs import celeba, scenes
from cldis_jax.runtime.errors import UserError
from tests import doors
from tests.doors import ROOT

COMMAND = """
import jax.numpy as jnp
from cldis_jax import cli
from cldis_jax.runtime.errors import UserError

def main():
    {body}

config = cli.define_config()
cli.run(main)
"""


@pytest.fixture
def command(tmp_path):
    """Runs a command whose `main` has the given body, in a folder of its own; `fresh`: in a new interpreter."""

    def start(body, *arguments, fresh=False):
        file = tmp_path / "command.py"
        file.write_text(COMMAND.format(body=body))
        if not fresh:
            return doors.run(file, *arguments, cwd=tmp_path)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run([sys.executable, file], capture_output=True, text=True, cwd=tmp_path, env=environment)

    return start


def one_line(done):
    """The error of a command that failed as it should for a user."""
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line.removeprefix("error: ")


def test_a_user_error_is_one_line_or_if_verbose_a_traceback(command):
    body = "raise UserError('data.path is empty')"
    assert one_line(command(body)) == "data.path is empty"
    verbose = command(body, "--verbosity=1")
    assert verbose.returncode == 1
    assert "Traceback" in verbose.stderr
    assert "data.path is empty" in verbose.stderr
    assert one_line(command("pass", "--coordinator=localhost:1234")).startswith("--coordinator, --num_processes")


@pytest.mark.parametrize("flag", ["--num_processes=2", "--process_id=0"])
def test_a_number_of_processes_without_their_coordinator_is_refused(command, flag):
    assert one_line(command("pass", flag)).startswith(f"{flag} needs --coordinator=HOST:PORT")


def test_a_shape_error_of_jax_keeps_its_traceback(command):
    done = command("jnp.broadcast_to(jnp.zeros(3), (2, 4))")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ValueError: Incompatible types for broadcasting" in done.stderr
    assert not any(line.startswith("error: ") for line in done.stderr.splitlines())


def test_shipped_configs_are_those_of_the_folder():
    folder = pathlib.Path(configs.__path__[0])
    shipped = cli.shipped_configs()
    assert {"celeba", "scenes", "default", "quickstart"} <= shipped.keys()
    assert all(file == folder / f"{name}.py" for name, file in shipped.items())


def test_a_config_by_name_or_by_file(tmp_path, monkeypatch):
    folder = pathlib.Path(configs.__path__[0])
    monkeypatch.chdir(tmp_path)
    for text in ("celeba", "configs/celeba.py", "./configs/celeba.py"):
        assert cli.find_config(text) == str(folder / "celeba.py")
    assert cli.find_config("scenes:cpu") == f"{folder / 'scenes.py'}:cpu"
    assert cli.find_config("configs/scenes.py:cpu") == f"{folder / 'scenes.py'}:cpu"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "celeba.py").touch()
    assert cli.find_config("configs/celeba.py:x") == "configs/celeba.py:x"
    assert cli.find_config("celeba") == str(folder / "celeba.py")


@pytest.mark.parametrize(
    "text", ["nothing", "celeba.py", "other/celeba.py", "configs/nothing.py", "/nowhere/own.py:cpu"]
)
def test_the_error_for_a_missing_config_names_the_shipped_ones(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"there is no such file; the shipped configs are .*celeba, .*scenes") as error:
        cli.find_config(text)
    assert f"--config={text}: " in str(error.value)


# Parses several command lines in one process and prints each result.
CASES = """
import sys
from absl import flags
from cldis_jax import cli

config = cli.define_config()
for arguments in {cases!r}:
    sys.argv = ["command", *arguments]
    try:
        cli._parse(sys.argv)
        print(config.value.data.source, config.value.data.image_size, config.value.train.seed, file=sys.stderr)
    except SystemExit as error:
        assert error.code == 1
    flags.FLAGS.unparse_flags()
    for name in [name for name in flags.FLAGS if name.startswith("config.")]:
        delattr(flags.FLAGS, name)
"""


def test_command_lines(tmp_path):
    (tmp_path / "own.py").write_text(
        "from cldis_jax.runtime.errors import UserError\n\n"
        "def get_config(size):\n    raise UserError(f'there is no size {size}')\n"
    )
    (tmp_path / "empty.txt").touch()
    tiny = scenes.get_config("tiny").data.image_size
    expected = {
        ("--config=celeba", "--config.train.seed=5"): f"tfds {celeba.get_config().data.image_size} 5",
        ("--config", "scenes:tiny", "--config.train.seed=6"): f"scenes {tiny} 6",
        ("--config=nowhere.py",): "error: --config=nowhere.py: there is no such file; the shipped configs are",
        ("--config=own.py:huge",): "error: there is no size huge",
        ("--config=default:cpu",): "what follows the colon does not fit get_config",
        ("--config=empty.txt",): "error: --config=empty.txt: the file has no function get_config",
        ("--config=scenes:tiny", "--config.model.latnt_dim=3"): "error: the config has no field 'latnt_dim'",
        ("--config=scenes:tiny", "--config.none.seed=3"): "error: the config has no field 'none'",
        ("--config=scenes:tiny", "--config.train.steps=many"): "error: flag --config.train.steps=many",
        ("--nothing=3",): "error: Unknown command line flag 'nothing'",
    }
    done = doors.run("-c", CASES.format(cases=list(expected)), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for line, (arguments, message) in zip(done.stderr.splitlines(), expected.items(), strict=True):
        assert message in line, arguments


def test_a_mistake_in_a_config_keeps_its_traceback(command, tmp_path):
    (tmp_path / "own.py").write_text("def get_config():\n    return {}['missing']\n")
    done = command("pass", "--config=own.py")
    assert done.returncode == 1
    assert "KeyError: 'missing'" in done.stderr
    assert 'own.py", line 2, in get_config' in done.stderr


CONSOLE = ("-c", "from cldis_jax.cli import console; console()")


def test_the_console_lists_its_commands():
    done = doors.run(*CONSOLE)
    assert done.returncode == 0, done.stderr
    listed = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith("  "))
    assert listed.keys() == cli.commands().keys()
    assert listed["sample"] == "Draw new images"
    unknown = doors.run(*CONSOLE, "trian")
    assert one_line(unknown) == "cldis has no command trian"
    assert unknown.stdout == done.stdout


def test_the_console_runs_a_command_as_python_does(tmp_path):
    arguments = ("--config=configs/scenes.py:tiny",)
    by_console = doors.run(*CONSOLE, "main", *arguments, cwd=tmp_path)
    by_module = doors.run("main", *arguments, cwd=tmp_path)
    assert one_line(by_console) == one_line(by_module) == "--workdir is required"
    shown = doors.run(*CONSOLE, "main", "--help", cwd=tmp_path)
    assert "--config: " in shown.stdout
    assert "--workdir: " in shown.stdout


def test_home_is_meant_by_a_tilde_in_every_flag(command, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    words = (
        "--workdir=~/runs",
        "--data_path",
        "~/images",
        "--workdirs=~/a,~/b,c~",
        "--config.data.path=~",
        "--only=a~",
    )
    expected = [word.replace("~/", "/home/somebody/").replace("=~", "=/home/somebody") for word in words]
    assert cli._with_home(words) == expected
    done = command("raise UserError(config.value.data.path)", "--config=scenes:tiny", "--config.data.path=~/x")
    assert one_line(done) == "/home/somebody/x"


def test_the_matplotlib_of_a_notebook_is_not_asked_for(command, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module_that_is_nowhere")
    shown = command("import matplotlib; raise UserError(matplotlib.get_backend())", fresh=True)
    assert one_line(shown).lower() == "agg"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise OSError(28, 'No space left on device', 'a.json')", "the disk is full, or the quota: [Errno 28]"),
        *(
            (
                f"raise type('E', (Exception,), dict(__module__='{module}'))('no\\nhost')",
                "a file can't be read or written: no host",
            )
            for module in ("tensorflow.python.framework.errors_impl", "gcsfs.retry")
        ),
    ],
)
def test_an_accident_of_the_machine_is_one_line(command, body, message):
    assert one_line(command(body)).startswith(message)


def test_an_interruption_is_one_line(command):
    done = command("raise KeyboardInterrupt")
    assert done.returncode == 130
    assert done.stderr.strip() == "interrupted"


@pytest.mark.parametrize("body", ["jnp.zeros(3)", "import jax; jax.devices()"])
@pytest.mark.parametrize("platform", ["rocm", "cuda"])
def test_a_device_that_is_not_there_is_one_line(command, monkeypatch, body, platform):
    if platform == "cuda" and pathlib.Path("/dev/nvidiactl").exists():
        pytest.skip("there is one")
    monkeypatch.setenv("JAX_PLATFORMS", platform)
    assert one_line(command(body, fresh=True)).startswith(f"JAX finds no device for JAX_PLATFORMS={platform}")


def test_output_that_nobody_reads_is_no_error(tmp_path):
    file = tmp_path / "command.py"
    file.write_text(COMMAND.format(body="\n    ".join(["for i in range(10**6):", "    print(i)"])))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=60) == 141, errors
    assert errors == ""


def test_what_orbax_raises_is_not_logged_as_well(command):
    """A task that failed is logged by asyncio when it is forgotten."""
    body = "\n    ".join(
        [
            "import logging",
            "logging.getLogger('asyncio').error('Task exception', exc_info=ValueError('of a task'))",
            "logging.getLogger('other').error('another', exc_info=ValueError('of another'))",
            "raise UserError('the disk is full')",
        ]
    )
    done = command(body)
    assert "of a task" not in done.stderr
    assert "of another" in done.stderr


@pytest.mark.parametrize(("text", "shown"), [("Event loop is closed", False), ("another", True)])
def test_what_is_left_of_a_failed_save_is_silent(command, text, shown):
    body = f"C = type('C', (), dict(__del__=lambda self: (_ for _ in ()).throw(RuntimeError('{text}')))); C()"
    assert ("Exception ignored" in command(body, fresh=True).stderr) == shown
