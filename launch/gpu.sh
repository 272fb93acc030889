#!/usr/bin/env bash
# Trains on one machine with NVIDIA GPUs: one process uses all GPUs.
#
#   bash launch/gpu.sh [--dry-run] --config=FILE --workdir=DIR [--config.field=value ...]
#
#   bash launch/gpu.sh --config=configs/celeba.py --workdir=runs/celeba --config.data.data_dir=/data/tfds
#   CUDA_VISIBLE_DEVICES=0,1 bash launch/gpu.sh --config=configs/scenes.py --workdir=runs/scenes
#
# The same command resumes a run. SIGTERM and Ctrl-C save a checkpoint first.
source "$(dirname "${BASH_SOURCE[0]}")/command.sh"

config='' workdir=''
overrides=()
for arg in "$@"; do
  case $arg in
    -h | --help) usage && exit ;;
    --dry-run) dry_run=1 ;;
    --config=*) config=${arg#*=} ;;
    --workdir=*) workdir=$(absolute "${arg#*=}") ;;
    --config.*=*) overrides+=("$arg") ;;
    *) refuse "unknown argument $arg" ;;
  esac
done
require config workdir

cd "$(dirname "${BASH_SOURCE[0]}")/.."
run export EXTRAS="${EXTRAS:-gpu,tfds}"
run source launch/setup.sh
gpu_environment
run exec python -m cldis_jax.main --config="$config" --workdir="$workdir" ${overrides[@]+"${overrides[@]}"}
