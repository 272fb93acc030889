"""The start of every command: flags, configs by name, several processes. A mistake of the user becomes one line."""

import ast
import errno
import inspect
import logging as logging_levels
import os
import pathlib
import runpy
import signal
import sys
import traceback
from collections.abc import Callable

import jax
from absl import app, flags, logging
from ml_collections import config_flags

import cldis_jax
from cldis_jax import configs
from cldis_jax.runtime import compilation_cache, report
from cldis_jax.runtime.errors import UserError

os.environ["MPLBACKEND"] = "agg"  # that of a notebook, which its children inherit, may not be installed

DISTRIBUTED = flags.DEFINE_bool("distributed", False, "join other processes, found in the environment of the launcher")
COORDINATOR = flags.DEFINE_string("coordinator", None, "host:port of process 0, where the environment does not give it")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "with --coordinator: how many there are")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "with --coordinator: number of this one, from 0")

NO_COMMANDS = ("__init__", "cli", "config")
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Modules whose exceptions epath raises about a bucket.
BUCKET_ERRORS = ("gcsfs.", "google.auth.exceptions", "google.api_core.exceptions", "tensorflow.python.framework.errors")


def fail(error: BaseException | str) -> None:
    """Print an error on stderr, without a traceback, and exit with status 1."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    raise SystemExit(1)


def shipped_configs() -> dict[str, pathlib.Path]:
    """The configs that come with the package, by name."""
    files = sorted(pathlib.Path(configs.__path__[0]).glob("*.py"))
    return {file.stem: file for file in files if "\ndef get_config(" in file.read_text()}


def find_config(text: str) -> str:
    """A value of --config (`celeba`, `scenes:cpu`, `configs/celeba.py`, `my/own.py`), with the path of its file.

    `NAME` without an ending is a shipped config. So is `configs/NAME.py` if no such file exists.

    Raises:
      UserError: there is no such file.
    """
    name, colon, argument = text.partition(":")
    shipped, file = shipped_configs(), pathlib.Path(name)
    if name in shipped:
        return f"{shipped[name]}{colon}{argument}"
    if file.is_file():
        return text
    if file.parent == pathlib.Path("configs") and file.suffix == ".py" and file.stem in shipped:
        return f"{shipped[file.stem]}{colon}{argument}"
    raise UserError(f"--config={text}: there is no such file; the shipped configs are {', '.join(shipped)}")


def _make_config(text: str) -> None:
    """Call `get_config` of a config file, given as `FILE` or `FILE:ARGUMENT`."""
    file, *argument = text.split(":", 1)
    get_config = runpy.run_path(file).get("get_config")
    if get_config is None:
        raise UserError(f"--config={text}: the file has no function get_config")
    try:
        inspect.signature(get_config).bind(*argument)
    except TypeError as error:
        raise UserError(f"--config={text}: what follows the colon does not fit get_config: {error}") from error
    get_config(*argument)


def _with_config_file(argv: list[str]) -> list[str]:
    """The command line, where --config has the path of a file.

    This also calls `get_config` once, before the flags are parsed, so that its errors keep their type and traceback.
    """
    for i, word in enumerate(argv):
        flag, equals, value = word.partition("=")
        if flag in ("--config", "-config") and (equals or i + 1 < len(argv)):
            end = i + (1 if equals else 2)
            found = find_config(value if equals else argv[end - 1])
            _make_config(found)
            return [*argv[:i], f"{flag}={found}", *argv[end:]]
    return argv


def _with_home(argv: list[str]) -> list[str]:
    """The command line with `~` replaced in every value, also in lists: a shell leaves that of --workdir=~/runs."""
    found = []
    for word in argv:
        flag, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
        found.append(flag + equals + ",".join(map(os.path.expanduser, value.split(","))))
    return found


def _parse(argv: list[str]) -> list[str]:
    argv = [argv[0], *_with_home(argv[1:])]
    try:
        argv = _with_config_file(argv) if "config" in flags.FLAGS else argv
    except UserError as error:
        fail(error)
    try:
        return flags.FLAGS(argv)
    except (AttributeError, KeyError) as error:  # KeyError(text), or AttributeError(KeyError(text))
        reason = error.args[0]
        reason = reason.args[0] if isinstance(reason, KeyError) else reason
        fail(f"the config has no field {' '.join(str(reason).split())}")
    except (flags.Error, TypeError, ValueError) as error:
        fail(" ".join(str(error).split()))


def _join_processes() -> None:
    """Join the processes that the flags ask for, if they do, before anything touches a device."""
    if not (DISTRIBUTED.value or COORDINATOR.value):
        compilation_cache.use_default()  # the launchers of several processes choose a folder that these share
        for flag in (NUM_PROCESSES, PROCESS_ID):
            if flag.value is not None:
                raise UserError(
                    f"--{flag.name}={flag.value} needs --coordinator=HOST:PORT of process 0, or --distributed where a "
                    "launcher gives it"
                )
        return
    try:
        jax.distributed.initialize(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    except ValueError as error:  # JAX raises it for wrong flags
        raise UserError(f"--coordinator, --num_processes, --process_id: {error}") from error


def _accident(error: Exception) -> str:
    """One line about an accident of the machine, such as a full disk; empty for every other error."""
    message = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return f"the disk is full, or the quota: {message}"
    if type(error).__module__.startswith(BUCKET_ERRORS):
        return f"a file can't be read or written: {message}"
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    if isinstance(error, RuntimeError | AssertionError) and "/jax/" in raised_in:
        try:
            jax.devices()
        except (RuntimeError, AssertionError) as reason:  # one of them without a text
            platforms = os.environ.get("JAX_PLATFORMS", "")
            return f"JAX finds no device for JAX_PLATFORMS={platforms}: {' '.join(str(reason).split())}".rstrip(": ")
    return ""


def _is_for_users(record: logging_levels.LogRecord) -> bool:
    """Whether a log record is shown: of Orbax and its tasks only errors, and none with a traceback: it raises these."""
    if "orbax/checkpoint" in record.pathname or record.name == "asyncio":
        return record.levelno >= logging_levels.ERROR and not record.exc_info
    return True


def _unraisable(found) -> None:
    """As Python's own hook, but silent about what TensorStore still has for a save of Orbax that has failed."""
    if not (isinstance(found.exc_value, RuntimeError) and str(found.exc_value) == "Event loop is closed"):
        sys.__unraisablehook__(found)


def run(main: Callable[[], None]) -> None:
    """Parse the flags, join the other processes if there are any, and call `main`.

    A `UserError` and an accident of the machine become one line and exit status 1. Every other error keeps its
    traceback; with --verbosity=1 these keep it too. If nobody reads the output any more, the exit status is that of
    SIGPIPE.
    """

    def guarded(argv):
        if len(argv) > 1:
            fail(f"unexpected arguments: {' '.join(argv[1:])}")
        if flags.FLAGS.verbosity <= 0:
            logging.set_verbosity(logging.WARNING)
        logging.get_absl_handler().addFilter(_is_for_users)
        sys.unraisablehook = _unraisable
        try:
            _join_processes()
            main()
            sys.stdout.flush()
        except BrokenPipeError:
            report.drop_output()
            raise SystemExit(128 + signal.SIGPIPE) from None
        except KeyboardInterrupt:
            if logging.get_verbosity() > logging.WARNING:
                raise
            print("interrupted", file=sys.stderr)
            raise SystemExit(128 + signal.SIGINT) from None
        except Exception as error:
            message = error if isinstance(error, UserError) else _accident(error)
            if logging.get_verbosity() > logging.WARNING or not str(message):
                raise
            fail(message)

    # --help shows only flags of the command's own file, so these are registered for it.
    for flag in ("config", "workdir", "data_path", "data_dir"):
        if flag in flags.FLAGS:
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[flag])
    app.run(guarded, flags_parser=_parse)


def commands() -> dict[str, pathlib.Path]:
    """The file of each command, by name: every module at the top of the package except NO_COMMANDS."""
    files = sorted(pathlib.Path(cldis_jax.__file__).parent.glob("*.py"))
    return {file.stem: file for file in files if file.stem not in NO_COMMANDS}


def console() -> None:
    """The console command `cldis`: `cldis main --config=...` is `python -m cldis_jax.main --config=...`."""
    command = sys.argv[1] if len(sys.argv) > 1 else None
    if command in commands():
        del sys.argv[1]
        runpy.run_module(f"cldis_jax.{command}", run_name="__main__", alter_sys=True)
        return
    print("usage: cldis COMMAND [--flag=value ...]; cldis COMMAND --help lists the flags\n")
    for name, file in commands().items():
        docstring = ast.get_docstring(ast.parse(file.read_text()))
        print(f"  {name:14}{docstring.splitlines()[0].partition(': python -m')[0].rstrip('.')}")
    if command not in (None, "help", "--help", "-h"):
        fail(f"cldis has no command {command}")


def define_config():
    """Define --config: the name of a shipped config or a file. --config.any.field=value overrides a field."""
    return config_flags.DEFINE_config_file("config", None, "a shipped config, e.g. scenes:cpu, or a file of your own")


def define_workdir():
    return flags.DEFINE_string("workdir", None, "folder of the run: config, checkpoints, logs, pictures, results")


def define_model():
    """Define --workdir of a trained model, and --data_path and --data_dir for data that have moved since training."""
    flags.DEFINE_string("data_path", None, "where the images are now; replaces data.path of the model's config")
    flags.DEFINE_string("data_dir", None, "where the TFDS sets are now; replaces data.data_dir")
    return define_workdir()


def load(step: int | None = None):
    """Load the `api.Bundle` named by the flags of `define_model`: the newest checkpoint, or that of `step`."""
    from cldis_jax import api  # takes seconds to import

    values = flags.FLAGS
    return api.load(values.workdir, step, data_path=values.data_path, data_dir=values.data_dir)


def require(flag) -> None:
    """Raise UserError if a flag has no value."""
    if flag.value is None:
        raise UserError(f"--{flag.name} is required")
