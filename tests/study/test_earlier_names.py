"""The two content-tracking studies under their earlier names, in metrics/."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[2] / "cldis_jax"
FLAGS = {"content_tracking_models": "--evaluations", "content_tracking_validity": "--[no]quick"}


@pytest.mark.parametrize("study", FLAGS)
def test_the_earlier_command_starts(study):
    command = [sys.executable, "-m", f"cldis_jax.metrics.{study}", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shown.returncode == 1  # absl commands exit with 1 after --help
    assert FLAGS[study] in shown.stdout
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("study", FLAGS)
def test_the_earlier_name_imports_nothing_of_the_project(study):
    tree = ast.parse((PACKAGE / f"metrics/{study}.py").read_text())
    imported = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imported == ["import runpy"]
