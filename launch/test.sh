#!/usr/bin/env bash
# Sets up .venv if need be, checks style with ruff, runs the tests.
#
#   bash launch/test.sh [pytest arguments]      e.g. tests/models, -k capacity, -m slow
#
# TEST_PROCESSES  pytest workers (default 2; 0 runs in this process). A file's tests stay on one worker, so that what it
#                 compiles once is compiled once.
source "$(dirname "${BASH_SOURCE[0]}")/command.sh"

case ${1:-} in -h | --help) usage && exit ;; esac
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
ruff check .
ruff format --check .
exec python -m pytest --numprocesses="${TEST_PROCESSES:-2}" --dist=loadfile "$@"
