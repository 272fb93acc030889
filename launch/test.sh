#!/usr/bin/env bash
# Makes .venv if needed, checks the style with ruff and runs the tests.
#
#   bash launch/test.sh [pytest arguments]      e.g. tests/models, -k capacity, -m slow
#
# TEST_PROCESSES  pytest workers (default 2; 0 runs the tests in this process). One worker runs all tests of a file, so
#                 that programs of a file are compiled once.
source "$(dirname "${BASH_SOURCE[0]}")/command.sh"

case ${1:-} in -h | --help) usage && exit ;; esac
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
ruff check .
ruff format --check .
exec python -m pytest --numprocesses="${TEST_PROCESSES:-2}" --dist=loadfile "$@"
