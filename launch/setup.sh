#!/usr/bin/env bash
# Makes the environment of all other scripts. They source this file; it also runs alone.
#
#   bash launch/setup.sh          makes .venv in the repository's root, with the package and the tools of the tests
#   EXTRAS=test,gpu bash launch/setup.sh
#
# PYTHON  the interpreter for .venv (default python3; 3.11 or newer)
# EXTRAS  extras of setup.cfg to install, comma-separated (default test; gpu and tpu include jax's plugins; empty: the
#         package alone)
#
# It installs only after a change: .venv/.installed-EXTRAS contains a digest of setup.cfg and pyproject.toml. After
# `source` the caller is in the repository's root, and .venv is first in PATH.
set -euo pipefail

abort() {
  echo "setup: $*" >&2
  exit 1
}

setup() {
  local python=${PYTHON:-python3} extras=${EXTRAS-test} digest stamp
  digest=$(cat setup.cfg pyproject.toml | cksum)
  for stamp in .venv/.installed-${extras:-*}; do # every installation has the package
    if [[ -f $stamp && $(<"$stamp") == "$digest" ]]; then
      return
    fi
  done

  if [[ ! -x .venv/bin/python ]] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    command -v "$python" >/dev/null || abort "there is no '$python' here; install Python 3.11 or newer, or set PYTHON=..."
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
      abort "$("$python" --version 2>&1) is too old; Python 3.11 or newer is needed (set PYTHON=... to use another one)"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
      abort "$python has no venv; on Debian and Ubuntu: apt-get install $("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    echo "setup: making .venv with $("$python" --version)" >&2
    "$python" -m venv --clear .venv
  fi
  local package=".${extras:+[$extras]}"
  echo "setup: installing cldis_jax${package#.} and what it needs (a few minutes the first time)" >&2
  .venv/bin/python -m pip install -qq --editable "$package" || abort "the installation failed; pip's message is above"
  echo "$digest" >".venv/.installed-$extras"
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
setup
export PATH="$PWD/.venv/bin:$PATH"
