#!/usr/bin/env bash
# Runs the cells of a results table (method x data set x seed) side by side, then prints the table.
#
#   bash launch/tables.sh [--dry-run] --table=main|ablation|celeba --out=DIR [options]
#
# Options
#   --scale=cpu|long|full  the small study, the same for three times as long, or the paper's sizes (default cpu)
#   --jobs=N           cells at a time on this machine (default 1)
#   --gpus             job i has GPU i of this machine to itself
#   --machines=M       machines that share DIR, each running this very command
#   --machine=J        which of them this one is, 0 to M-1; the table is complete when all are through
#   --only=REGEX, --seeds=N, --steps=N, --data=NAME=PATH, --inception_weights=FILE, --lpips_weights=FILE,FILE
#                      passed on to python -m cldis_jax.tables; paths are absolute
#
# Running it again runs only what is missing.
#
#   bash launch/tables.sh --table=main --out=results --jobs=2
#   sbatch --array=0-3 --gres=gpu:8 --wrap 'bash launch/tables.sh --table=celeba --out=/scratch/celeba --scale=full
#     --jobs=8 --gpus --machines=4 --machine=$SLURM_ARRAY_TASK_ID'
source "$(dirname "${BASH_SOURCE[0]}")/command.sh"

table='' out='' scale=cpu jobs=1 machines=1 machine=0 gpus=0 passed_on=()
for arg in "$@"; do
  case $arg in
    -h | --help) usage && exit ;;
    --dry-run) dry_run=1 ;;
    --table=*) table=${arg#*=} ;;
    --out=*) out=$(absolute "${arg#*=}") ;;
    --scale=*) scale=${arg#*=} ;;
    --jobs=*) jobs=${arg#*=} ;;
    --machines=*) machines=${arg#*=} ;;
    --machine=*) machine=${arg#*=} ;;
    --gpus) gpus=1 ;;
    --only=* | --seeds=* | --steps=* | --data=* | --inception_weights=* | --lpips_weights=*) passed_on+=("$arg") ;;
    *) refuse "unknown argument $arg" ;;
  esac
done
require table out
[[ $jobs =~ ^[1-9][0-9]*$ ]] || refuse "--jobs=$jobs is not a positive number"
[[ $machines =~ ^[1-9][0-9]*$ && $machine =~ ^[0-9]+$ && $machine -lt $machines ]] ||
  refuse "--machine=$machine is not one of 0 to M-1 for --machines=$machines"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
((!gpus)) || run export EXTRAS=gpu
run source launch/setup.sh
tables=(python -m cldis_jax.tables --table="$table" --out="$out" --scale="$scale" ${passed_on[@]+"${passed_on[@]}"})
pids=()
for ((job = 0; job < jobs; job++)); do
  device=()
  ((!gpus)) || device=(env CUDA_VISIBLE_DEVICES="$job")
  cell=(${device[@]+"${device[@]}"} "${tables[@]}" --shard="$((machine * jobs + job))/$((machines * jobs))")
  if ((dry_run)); then
    echo "$(quote "${cell[@]}") &"
  else
    "${cell[@]}" &
    pids+=($!)
  fi
done
failed=0
if ((dry_run)); then
  echo wait
else
  trap 'kill -TERM "${pids[@]}" 2>/dev/null || true' INT TERM # the cells save what they have
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  wait # a signal ends the waits above before the cells have saved
fi
((failed == 0)) || { echo "tables.sh: a job failed; its message is above. Running this again goes on from there." >&2 && exit 1; }
run "${tables[@]}" --collect
