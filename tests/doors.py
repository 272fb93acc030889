"""Run commands in children of one warm process, so that their imports are paid once."""

import functools
import importlib.machinery
import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
HIDDEN = ("tensorflow", "tensorflow_datasets")


class WithoutTensorFlow(importlib.machinery.PathFinder):
    """Python's finder of modules, as where the packages of HIDDEN are not installed."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else super().find_spec(name, path, target)


@functools.cache
def warm():
    """The warm process, one for all tests of this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.warm"])
    return context


def run(*words, cwd: str | os.PathLike = ROOT, timeout: float = 300) -> subprocess.CompletedProcess:
    """The result of `python -m cldis_jax.WORDS`, of `python FILE.py ...` or of `python -c PROGRAM ...`, as text.

    The child has the environment of this process; what an import reads of it, the warm process read when it started.
    There is no TensorFlow in it: no command needs it.
    """
    words = [str(word) for word in words]
    with tempfile.TemporaryDirectory() as folder:
        files = [os.path.join(folder, name) for name in ("stdout", "stderr")]
        child = warm().Process(target=_child, args=(words, files, cwd, dict(os.environ)))
        child.start()
        child.join(timeout)
        if child.is_alive():
            child.kill()
            child.join()
        shown = [pathlib.Path(file).read_text() if os.path.exists(file) else "" for file in files]
    return subprocess.CompletedProcess(words, child.exitcode, *shown)


def _child(words, files, cwd, environment):
    for descriptor, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.chdir(cwd)
    os.environ.update(environment)
    assert not set(HIDDEN) & set(sys.modules)
    sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = WithoutTensorFlow
    if words[0] == "-c":
        _, program, *arguments = words
        sys.argv = ["-c", *arguments]
        exec(program, {"__name__": "__main__"})
        return
    sys.argv = words
    if words[0].endswith(".py"):
        runpy.run_path(words[0], run_name="__main__")
    else:
        runpy.run_module(f"cldis_jax.{words[0]}", run_name="__main__", alter_sys=True)
