#!/usr/bin/env bash
# Trains on TPU slices of a GKE cluster with xpk (pip install xpk; it needs gcloud, kubectl and docker).
#
#   bash launch/xpk.sh [--dry-run] ACTION --cluster=CLUSTER --zone=ZONE [options] [--config.field=value ...]
#
# ACTION
#   cluster  create the cluster or change its size                     needs --type
#   run      start the workload, unless it runs; resumes the run in WORKDIR   needs --name, --type, --config, --workdir
#   list     list the workloads of the cluster
#   delete   stop the workload                                         needs --name
# Options
#   --name=NAME         the name of the workload
#   --type=TYPE         a TPU slice: v4-32, v5litepod-16, v5p-128, v6e-8, ...
#   --slices=N          number of slices of this type (default 1)
#   --config=FILE       configs/celeba.py, ...
#   --workdir=gs://...  on Google Cloud Storage, because the pods share no disk
#   --project=PROJECT   default: gcloud's default
#   --image=IMAGE       the base image, with Python 3.11 or newer (default python:3.12)
#   --restarts=N        most restarts after preemptions and lost nodes (default 100)
#   --spot              use spot capacity
#
#   bash launch/xpk.sh run --cluster=pods --zone=us-east5-b --name=celeba --type=v6e-16 \
#     --config=configs/celeba.py --workdir=gs://BUCKET/celeba
#
# The workload runs the committed code (HEAD).
source "$(dirname "${BASH_SOURCE[0]}")/command.sh"

action='' cluster='' zone='' name='' type='' config='' workdir='' slices=1 image=python:3.12 restarts=100
where=() capacity=() overrides=()
for arg in "$@"; do
  case $arg in
    -h | --help) usage && exit ;;
    --dry-run) dry_run=1 ;;
    --cluster=*) cluster=${arg#*=} ;;
    --zone=*) zone=${arg#*=} ;;
    --name=*) name=${arg#*=} ;;
    --type=*) type=${arg#*=} ;;
    --slices=*) slices=${arg#*=} ;;
    --config=*) config=${arg#*=} ;;
    --workdir=*) workdir=${arg#*=} ;;
    --project=*) where+=("$arg") ;;
    --image=*) image=${arg#*=} ;;
    --restarts=*) restarts=${arg#*=} ;;
    --spot) capacity=("$arg") ;;
    --config.*=*) overrides+=("$arg") ;;
    cluster | run | list | delete) action=$arg ;;
    *) refuse "unknown argument $arg" ;;
  esac
done
[[ -n $action ]] || refuse "ACTION is missing"
require cluster zone
case $action in run | delete) require name ;; esac
case $action in run | cluster) require type ;; esac
if [[ $action == run ]]; then
  require config workdir
  [[ $workdir == gs://* ]] || refuse "--workdir=$workdir is not on gs://; the pods share no disk"
fi
where=(--cluster="$cluster" --zone="$zone" ${where[@]+"${where[@]}"})
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Succeeds if a workload of this name is queued or running.
is_active() {
  local status list found
  for status in QUEUED RUNNING; do
    list=(xpk workload list "${where[@]}" --filter-by-job="$name" --filter-by-status="$status")
    if ((dry_run)); then
      quote "${list[@]}"
    elif ! found=$("${list[@]}"); then
      echo "xpk.sh: xpk can't list the workloads, so whether $name runs is not known; nothing was done" >&2
      exit 1
    elif grep -E "^${name}[[:space:]]" <<<"$found" >/dev/null; then
      return 0
    fi
  done
  return 1
}

start() {
  local code="${TMPDIR:-/tmp}/cldis_jax-$name" command
  if is_active; then
    note "$name is already queued or running"
    return
  fi
  run rm -rf "$code"
  run git clone --quiet --depth=1 "file://$PWD" "$code" # without .venv, runs/ and uncommitted changes
  # With exec the SIGTERM before a preemption reaches the run, which then saves.
  command="export EXTRAS=tpu,tfds JAX_COMPILATION_CACHE_DIR=$(quote "${workdir%/}/xla-cache"); bash launch/setup.sh && exec .venv/bin/$(
    quote python -m cldis_jax.main --distributed --config="$config" --workdir="$workdir" ${overrides[@]+"${overrides[@]}"}
  )"
  run xpk workload delete "${where[@]}" --workload="$name" --force # delete a finished workload of this name
  run xpk workload create "${where[@]}" --workload="$name" --tpu-type="$type" --num-slices="$slices" \
    ${capacity[@]+"${capacity[@]}"} --base-docker-image="$image" --script-dir="$code" --max-restarts="$restarts" \
    --termination-grace-period-seconds=120 --command="$command"
}

case $action in
  cluster) run xpk cluster create "${where[@]}" --tpu-type="$type" --num-slices="$slices" ${capacity[@]+"${capacity[@]}"} ;;
  run) start ;;
  list) run xpk workload list "${where[@]}" ;;
  delete) run xpk workload delete "${where[@]}" --workload="$name" --force ;;
esac
