# shellcheck shell=bash
# What the launch scripts share: usage from the script's own head, --dry-run, paths. Sourced, never run.
set -euo pipefail

dry_run=0
script=$(realpath "$0")
caller_dir=$PWD # relative paths on the command line are the caller's

# Prints the comment at the top of the calling script.
usage() {
  awk '/^#(!|SBATCH)/ { next } !/^#/ { exit } { sub(/^# ?/, ""); print }' "$script"
}

# refuse MESSAGE...: one line of what is wrong, the usage, exit status 2.
refuse() {
  echo "${0##*/}: $*" >&2
  usage >&2
  exit 2
}

# require NAME...: refuses when one of these variables is empty; NAME is the option --NAME.
require() {
  local _variable # no option bears this name: it would hide the caller's
  for _variable in "$@"; do
    [[ -n ${!_variable} ]] || refuse "--$_variable=... is missing"
  done
}

# absolute PATH: PATH as seen from the caller's directory; URLs (gs://...) stay as they are.
absolute() {
  case $1 in
    /* | *://*) echo "$1" ;;
    *) echo "$caller_dir/$1" ;;
  esac
}

# quote WORD...: the words as one line that a shell reads back as the same words.
quote() {
  local word line=''
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || word=${word@Q}
    line+="$word "
  done
  echo "${line% }"
}

# run WORD...: runs the command, or under --dry-run prints it.
run() {
  if ((dry_run)); then quote "$@"; else "$@"; fi
}

# note TEXT: progress on stderr; under --dry-run a comment between the printed commands.
note() {
  if ((dry_run)); then echo "# $*"; else echo "${0##*/}: $*" >&2; fi
}

# The environment of a run on NVIDIA GPUs.
gpu_environment() {
  # Collectives of the backward pass overlap its compute.
  run export XLA_FLAGS="${XLA_FLAGS:+$XLA_FLAGS }--xla_gpu_enable_latency_hiding_scheduler=true"
  # A restart loads its programs in place of compiling them again.
  run export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$PWD/.venv/xla-cache}"
}
