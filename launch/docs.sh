#!/usr/bin/env bash
# Builds the documentation into site/; a dead link or anchor fails.
#
#   bash launch/docs.sh
#
# Open site/index.html. EXTRAS names what setup.sh installs first (default docs).
source "$(dirname "${BASH_SOURCE[0]}")/command.sh"

for arg in "$@"; do
  case $arg in
    -h | --help) usage && exit ;;
    *) refuse "unknown argument $arg" ;;
  esac
done
export EXTRAS=${EXTRAS:-docs}
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
exec python -m mkdocs build --strict
