#!/usr/bin/env bash
# Builds the documentation into site/; a dead link or anchor fails.
#
#   bash launch/docs.sh [mkdocs arguments]      e.g. --site-dir=/tmp/site
#
# Open site/index.html. EXTRAS names what setup.sh installs first (default docs).
source "$(dirname "${BASH_SOURCE[0]}")/command.sh"

case ${1:-} in -h | --help) usage && exit ;; esac
export EXTRAS=${EXTRAS:-docs} NO_MKDOCS_2_WARNING=1 # the theme's advertisement
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
exec python -m mkdocs build --strict "$@"
