#!/usr/bin/env bash
# Checks and measures training on one machine with an NVIDIA GPU, and prints a table. Meant to take ten minutes.
#
#   bash launch/gpu_check.sh [--dry-run] --out=DIR [--budget=SECONDS] [--installed] [--tiny]
#
# DIR (new) receives gpu_check.json and gpu_check.md: the training step of celeba (time, TFLOP/s, memory, compilation),
# a step of the same Diff-AE in PyTorch, 2,000 steps of scenes with SIGTERM and resume, and their evaluation.
#
#   --budget=SECONDS  time for all checks, without the installation (default 570)
#   --installed       use the `python` in PATH, which must have the package's libraries, in place of making .venv
#   --tiny            tiny sizes, to test the script on a CPU
#
# PyTorch is compared if it is installed; EXTRAS=gpu,torch installs it. The exit status is 1 if a check failed.
source "$(dirname "${BASH_SOURCE[0]}")/command.sh"

out='' budget=570 installed=0 tiny=()
for arg in "$@"; do
  case $arg in
    -h | --help) usage && exit ;;
    --dry-run) dry_run=1 ;;
    --out=*) out=$(absolute "${arg#*=}") ;;
    --budget=*) budget=${arg#*=} ;;
    --installed) installed=1 ;;
    --tiny) tiny=(--tiny) ;;
    *) refuse "unknown argument $arg" ;;
  esac
done
require out budget
[[ ! -e $out ]] || refuse "--out=$out exists; name a new folder"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ((!installed)); then
  run export EXTRAS="${EXTRAS:-gpu}"
  run source launch/setup.sh
fi
((${#tiny[@]})) || gpu_environment
run exec python -m tests.gpu_check --out="$out" --budget="$budget" ${tiny[@]+"${tiny[@]}"}
