"""Commands of cells: their errors, their signals, and the paths of the package and its configs."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from cldis_jax.study import children, running
from tests.study.fabricated import make

CHECKOUT = pathlib.Path(__file__).parents[2]


def test_a_failed_command_is_quoted_by_its_error(tmp_path):
    def run(code):
        with children.Children() as runner:
            runner.run([sys.executable, "-c", code], tmp_path / "log.txt")

    run("print('fine')")
    with pytest.raises(children.CellError, match=r"^no such thing$"):
        run("print('error: no such thing'); print('bye'); raise SystemExit(1)")
    with pytest.raises(children.CellError, match="ZeroDivisionError"):
        run("1 / 0")
    with pytest.raises(children.CellError, match="killed by signal 9; last line: no output"):
        run("import os; os.kill(os.getpid(), 9)")
    assert "fine" in (tmp_path / "log.txt").read_text()


def test_sigterm_is_forwarded_and_ends_the_run(tmp_path):
    log = tmp_path / "log.txt"
    code = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit('saved'));"
        "print('ready', flush=True); time.sleep(30)"
    )

    def stop_when_ready():
        while not log.exists() or "\nready" not in log.read_text():
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop_when_ready)
    before = signal.getsignal(signal.SIGTERM)
    with children.Children() as runner:
        thread.start()
        with pytest.raises(SystemExit) as stopped:
            runner.run([sys.executable, "-c", code], log)
        with pytest.raises(SystemExit):
            runner.run([sys.executable, "-c", "print('never')"], log)
    thread.join()
    assert stopped.value.code == 143
    assert log.read_text().endswith("saved\n")
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_checkout_runs_its_own_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert children.CHECKOUT == CHECKOUT
    with children.Children() as runner:
        runner.run([sys.executable, "-c", "import cldis_jax; print(cldis_jax.__file__)"], tmp_path / "log.txt")
    assert (tmp_path / "log.txt").read_text().splitlines()[1] == str(CHECKOUT / "cldis_jax/__init__.py")


def test_an_installed_package_finds_its_configs_from_anywhere(tmp_path):
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CHECKOUT / "cldis_jax", tmp_path / "site/cldis_jax", ignore=ignore)
    shutil.copytree(CHECKOUT / "configs", tmp_path / "site/cldis_jax/configs", ignore=ignore)
    code = (
        "import sys; from absl import flags; from cldis_jax import main\n"
        "from cldis_jax.study import cells, children, running\n"
        "cell = cells.make_table('main', 'cpu', cells.Options()).cells[0]\n"
        "command = running.training_command(cell, cell.folder(children.CONFIGS), children.CONFIGS)\n"
        "sys.argv = ['main', *command[3:]]\n"
        "flags.FLAGS(sys.argv)\n"
        "print(children.CHECKOUT, repr(running.commit()), main.CONFIG.value.train.steps, main.__file__)\n"
    )
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "elsewhere",
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["None", "''", "6000", str(tmp_path / "site/cldis_jax/main.py")], done.stderr
    cell = make().cells[0]
    recorded = running.commands(cell, pathlib.Path("/c"))[0]
    assert recorded[3] == "--config=configs/scenes.py:cpu"  # as in a checkout
