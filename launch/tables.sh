#!/usr/bin/env bash
# Runs the cells of a results table (method x data set x seed) side by side, then prints the table.
#
#   bash launch/tables.sh [--dry-run] --table=main|ablation|composition|celeba --out=DIR [options]
#
# Options
#   --scale=cpu|long|full  the small study, the same with three times the steps, or the configs' full sizes (default cpu)
#   --jobs=N           cells that run at the same time on this machine (default 1)
#   --gpus             job i uses GPU i of this machine alone
#   --machines=M       number of machines that run this command with the same DIR (default 1)
#   --machine=J        the number of this machine, 0 to M-1; the table is complete when all machines have finished
#   --only=REGEX, --seeds=N|A-B, --steps=N, --data=NAME=PATH, --inception_weights=FILE, --lpips_weights=FILE,FILE
#                      passed to python -m cldis_jax.tables; paths must be absolute
#
# The same command again runs only the missing cells.
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
((!gpus)) || run export EXTRAS="${EXTRAS:-gpu,tfds}"
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
  trap 'kill -TERM "${pids[@]}" 2>/dev/null || true' INT TERM # the cells save a checkpoint
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  wait # after a signal the waits above end before the cells have saved
fi
((failed == 0)) || { echo "tables.sh: a job failed; its message is above. The same command again continues from there." >&2 && exit 1; }
run "${tables[@]}" --collect
