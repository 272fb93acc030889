# shellcheck shell=bash
# Functions that the launch scripts share: usage, --dry-run, paths. The scripts source this file.
set -euo pipefail

dry_run=0
script=$(realpath "$0")
caller_dir=$PWD # relative paths on the command line start here

# Prints the comment at the top of the calling script.
usage() {
  awk '/^#(!|SBATCH)/ { next } !/^#/ { exit } { sub(/^# ?/, ""); print }' "$script"
}

# refuse MESSAGE...: prints the message in one line and the usage; exits with status 2.
refuse() {
  echo "${0##*/}: $*" >&2
  usage >&2
  exit 2
}

# require NAME...: refuses if one of these variables is empty. NAME is the option --NAME.
require() {
  local _variable # an option of this name would be hidden by this variable
  for _variable in "$@"; do
    [[ -n ${!_variable} ]] || refuse "--$_variable=... is missing"
  done
}

# absolute PATH: PATH relative to the caller's directory. URLs (gs://...) do not change.
absolute() {
  case $1 in
    /* | *://*) echo "$1" ;;
    \~ | \~/*) echo "$HOME${1#\~}" ;; # bash does not expand it inside --workdir=~/runs
    *) echo "$caller_dir/$1" ;;
  esac
}

# quote WORD...: prints the words in one line, quoted for a shell.
quote() {
  local word line=''
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || word=${word@Q}
    line+="$word "
  done
  echo "${line% }"
}

# run WORD...: runs the command; with --dry-run prints it.
run() {
  if ((dry_run)); then quote "$@"; else "$@"; fi
}

# note TEXT: prints progress to stderr; with --dry-run prints a comment between the commands.
note() {
  if ((dry_run)); then echo "# $*"; else echo "${0##*/}: $*" >&2; fi
}

# Sets the environment of a run on NVIDIA GPUs.
gpu_environment() {
  # The collectives of the backward pass overlap with its computation.
  run export XLA_FLAGS="${XLA_FLAGS:+$XLA_FLAGS }--xla_gpu_enable_latency_hiding_scheduler=true"
  # A restart loads its programs instead of compiling them again.
  run export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$PWD/.venv/xla-cache}"
}
