"""How every binary starts and fails: flags, and one clear line with a non-zero exit for what a user can mend."""

import logging as logging_levels
import sys
from collections.abc import Callable

import jax
from absl import app, flags, logging
from ml_collections import config_flags

USER_ERRORS = (ValueError, FileNotFoundError, PermissionError, FloatingPointError)

DISTRIBUTED = flags.DEFINE_bool("distributed", False, "one of several processes, as the launcher's environment says")
COORDINATOR = flags.DEFINE_string("coordinator", None, "with --distributed, by hand: host:port of process 0")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "with --coordinator")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "with --coordinator")


def fail(error: BaseException) -> None:
    """Print one error for a person and leave with status 1."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    raise SystemExit(1)


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv, known_only=False)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        fail(ValueError(" ".join(str(error).split())))


def run(main: Callable[[], None]) -> None:
    """Parse flags, meet the other processes if there are any, call `main`, and turn what a user can mend into one line.

    Everything else keeps its traceback.
    """

    def guarded(argv):
        if len(argv) > 1:
            fail(ValueError(f"unexpected arguments: {' '.join(argv[1:])}"))
        if flags.FLAGS.verbosity <= 0:
            logging.set_verbosity(logging.WARNING)
        logging.get_absl_handler().addFilter(lambda r: "orbax" not in r.pathname or r.levelno >= logging_levels.ERROR)
        try:
            if DISTRIBUTED.value or COORDINATOR.value:  # before anything touches a device
                jax.distributed.initialize(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
            main()
        except USER_ERRORS as error:
            if logging.get_verbosity() > logging.WARNING:  # --verbosity=1 shows where an error came from
                raise
            fail(error)

    app.run(guarded, flags_parser=_parse)


def define_config(default: str | None = None):
    """The --config flag: a file of configs/, overridden by --config.any.field=value."""
    return config_flags.DEFINE_config_file(
        "config", default, "the run's configuration, e.g. configs/scenes.py", lock_config=True
    )


def define_workdir():
    return flags.DEFINE_string("workdir", None, "folder of the run: config, checkpoints, logs, pictures, results")


def define_model():
    """--workdir of a trained model, with --data_path and --data_dir for data that do not lie where its config says."""
    flags.DEFINE_string("data_path", None, "where the images lie now, in place of data.path of the model's config")
    flags.DEFINE_string("data_dir", None, "where TFDS keeps its sets now, in place of data.data_dir")
    return define_workdir()


def load(step: int | None = None):
    """The `api.Bundle` that the flags of `define_model` name: of the newest checkpoint, or of `step`."""
    from cldis_jax import api  # here, because it takes seconds to import

    values = flags.FLAGS
    return api.load(values.workdir, step, data_path=values.data_path, data_dir=values.data_dir)


def require(flag) -> None:
    """Fail with one line where a flag has no value."""
    if flag.value is None:
        raise ValueError(f"--{flag.name} is required")
