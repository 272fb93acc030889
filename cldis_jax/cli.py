"""How every binary starts and fails: flags, and one clear line with a non-zero exit for what a user can mend."""

import logging as logging_levels
import sys
from collections.abc import Callable

from absl import app, flags, logging
from ml_collections import config_flags

USER_ERRORS = (ValueError, FileNotFoundError, PermissionError, FloatingPointError)


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
    """Parse flags, call `main`, and turn what a user can mend into one line; everything else keeps its traceback."""

    def guarded(argv):
        if len(argv) > 1:
            fail(ValueError(f"unexpected arguments: {' '.join(argv[1:])}"))
        if flags.FLAGS.verbosity <= 0:
            logging.set_verbosity(logging.WARNING)
        logging.get_absl_handler().addFilter(lambda r: "orbax" not in r.pathname or r.levelno >= logging_levels.ERROR)
        try:
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


def require(flag) -> None:
    """Fail with one line where a flag has no value."""
    if flag.value is None:
        raise ValueError(f"--{flag.name} is required")
