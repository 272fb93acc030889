"""The layout of the package: what is at the top level, and which room may import which."""

import ast
import graphlib
import pathlib

import pytest

from cldis_jax import cli

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "cldis_jax"
MOST_AT_THE_TOP = 16  # files: 13 commands, cli, config and the package itself
MOST_LINES = 400  # of a file

BASICS = ("method", "models", "data", "runtime")
# Room -> the rooms that it may import. `door` stands for the commands, `configs` for the shipped configs.
ALLOWED = {
    "metrics": (),
    "models": (),
    "runtime": (),
    "configs": ("runtime",),
    "method": ("models",),
    "data": ("runtime",),
    "config": BASICS,
    "api": BASICS,
    "cli": ("runtime", "configs", "api"),
    "prior": ("api", *BASICS),
    "navigation": ("api", *BASICS),
    "training": ("config", "api", *BASICS),
    "evaluation": ("navigation", "metrics", "api", *BASICS),
    "planning": ("training", "config", "configs", "api", *BASICS),
    "diffae_import": ("prior", "config", "api", *BASICS),
    "exporting": ("prior", "evaluation", "api", *BASICS),
    "explorer": ("planning", "prior", "evaluation", "metrics", "api", *BASICS),
    # cli, because its two studies of the metric are commands.
    "study": ("evaluation", "navigation", "metrics", "config", "configs", "cli", "api", *BASICS),
}
ALLOWED["door"] = tuple(ALLOWED)
# Library -> the files that may import it.
ONLY_IN = {
    "orbax": {"runtime/checkpoint.py"},
    "torch": {"runtime/torch_files.py", "metrics/weights.py"},
    "tensorflow_datasets": {"data/tfds.py"},
    "grain": {"data/loader.py"},
    "safetensors": {"runtime/exported.py"},
    "wandb": {"runtime/wandb_log.py"},
}


def all_files():
    """Module name -> file, of the package and the shipped configs."""
    files = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return files | {f"cldis_jax.configs.{file.stem}": file for file in sorted((ROOT / "configs").glob("*.py"))}


FILES = all_files()
TREES = {module: ast.parse(file.read_text()) for module, file in FILES.items()}


def imports(tree):
    """(module, whether it is imported at the top of the file), for every import."""
    at_the_top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in at_the_top
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                is_module = name in FILES or node.module == "cldis_jax"
                yield name if is_module else node.module, id(node) in at_the_top


def room(module):
    parts = module.split(".")
    if len(parts) == 1:
        return None  # the package itself, which imports nothing
    return "door" if parts[1] in cli.commands() else parts[1]


def arrows():
    """(importing module, imported module of the project, whether at the top of the file)."""
    for module, tree in TREES.items():
        for imported, at_the_top in imports(tree):
            if imported.partition(".")[0] == "cldis_jax" and room(imported) and module != imported:
                yield module, imported, at_the_top


def test_the_top_level_holds_only_commands():
    top = {file.stem for file in PACKAGE.glob("*.py")}
    assert len(top) <= MOST_AT_THE_TOP
    assert top == {"__init__", "cli", "config"} | cli.commands().keys()
    assert {file.stem for file in PACKAGE.iterdir() if file.is_dir() and file.stem != "__pycache__"} <= ALLOWED.keys()


@pytest.mark.parametrize("name", sorted(cli.commands()))
def test_a_command_says_what_it_is_and_runs(name):
    tree = TREES[f"cldis_jax.{name}"]
    assert f"python -m cldis_jax.{name} " in ast.get_docstring(tree)
    last = ast.unparse(tree.body[-1])
    assert last.startswith("if __name__ == '__main__':\n")
    assert last.endswith("\n    cli.run(main)")


@pytest.mark.parametrize("importer", sorted(ALLOWED))
def test_a_room_imports_only_the_rooms_below_it(importer):
    allowed = {importer, *ALLOWED[importer]} - {"door"}
    upwards = [
        f"{module} imports {imported}"
        for module, imported, _ in arrows()
        if room(module) == importer and room(imported) not in allowed
    ]
    assert upwards == []


def test_cli_imports_the_api_late():
    """Otherwise the error message for a wrong flag takes seconds."""
    early = [imported for module, imported, at_the_top in arrows() if module == "cldis_jax.cli" and at_the_top]
    assert {room(imported) for imported in early} <= {"runtime", "configs"}


def test_there_is_no_import_cycle():
    for level in (room, str):
        graph = {}
        for module, imported, _ in arrows():
            if level(module) != level(imported):
                graph.setdefault(level(module), set()).add(level(imported))
        graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_a_library_is_used_through_one_place(library):
    users = {
        str(FILES[module].relative_to(PACKAGE))
        for module, tree in TREES.items()
        for imported, _ in imports(tree)
        if imported.partition(".")[0] == library
    }
    assert users == ONLY_IN[library]


def test_no_file_is_long():
    lines = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in FILES.values()}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_what_a_command_refuses_is_a_user_error():
    """In the flag checks of a command. Users would see any other error as a traceback."""
    raised = [
        f"{name}, line {node.lineno}: {ast.unparse(node.exc.func)}"
        for name in cli.commands()
        for node in ast.walk(TREES[f"cldis_jax.{name}"])
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
    ]
    assert [line for line in raised if line.endswith(("ValueError", "FileNotFoundError"))] == []
