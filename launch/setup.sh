#!/usr/bin/env bash
# Makes the environment that everything else here runs in; sourced by the other scripts or run by itself.
#
#   bash launch/setup.sh          .venv in the repository's root, with the package and its tests' tools
#   EXTRAS=test,gpu bash launch/setup.sh
#
# PYTHON  the interpreter to build .venv from (default python3; 3.11 or newer)
# EXTRAS  extras of setup.cfg to install, comma-separated (default test; gpu and tpu bring jax's own plugins)
#
# Installs only when something changed: .venv/.installed-EXTRAS holds a digest of setup.cfg and pyproject.toml.
# Sourced, it leaves the caller in the repository's root with .venv first in PATH.
set -euo pipefail

abort() {
  echo "setup: $*" >&2
  exit 1
}

setup() {
  local python=${PYTHON:-python3} extras=${EXTRAS:-test} digest
  local stamp=.venv/.installed-$extras
  digest=$(cat setup.cfg pyproject.toml | cksum)
  if [[ -f $stamp && $(<"$stamp") == "$digest" ]]; then
    return
  fi

  if [[ ! -x .venv/bin/python ]] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    command -v "$python" >/dev/null || abort "there is no '$python' here; install Python 3.11 or newer, or name one with PYTHON=..."
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
      abort "$("$python" --version 2>&1) is too old; Python 3.11 or newer is needed (name another one with PYTHON=...)"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
      abort "$python has no venv; on Debian and Ubuntu: apt-get install $("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    echo "setup: making .venv with $("$python" --version)" >&2
    "$python" -m venv --clear .venv
  fi
  echo "setup: installing cldis_jax[$extras] and what it needs (a few minutes the first time)" >&2
  .venv/bin/python -m pip install -qq --editable ".[$extras]" || abort "the installation failed; pip's message is above"
  echo "$digest" >"$stamp"
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
setup
export PATH="$PWD/.venv/bin:$PATH"
