#!/usr/bin/env bash
# Trains on a Cloud TPU slice: requests TPU VMs as a queued resource and runs the same command on every worker.
#
#   bash launch/tpu_vm.sh [--dry-run] ACTION --name=NAME --zone=ZONE [options] [--config.field=value ...]
#
# ACTION
#   train    create, setup and run; after a preemption again, until the run has finished
#   create   request the slice, unless it exists, and wait for it       needs --type
#   setup    copy the committed code (HEAD) to every worker, install it
#   run      train on all workers; resumes the run in WORKDIR           needs --config, --workdir
#   delete   delete the slice
# Options
#   --type=TYPE         v4-32, v5litepod-16, v5p-128, v6e-8, ...
#   --config=FILE       configs/celeba.py, ...
#   --workdir=gs://...  on Google Cloud Storage, because the workers share no disk and lose theirs on preemption
#   --project=PROJECT   default: gcloud's default
#   --spot, --reserved  the kind of capacity (default: on demand)
#   --version=VERSION   the VM's image (default: the one for TYPE)
#   --retries=N         most failures without a preemption, or of gcloud, before the script gives up (default 3)
#
#   bash launch/tpu_vm.sh train --name=cldis --zone=us-central2-b --type=v4-32 --spot \
#     --config=configs/celeba.py --workdir=gs://BUCKET/celeba
source "$(dirname "${BASH_SOURCE[0]}")/command.sh"

poll_seconds=${POLL_SECONDS:-60}
action='' name='' zone='' type='' config='' workdir='' version='' retries=3
where=() capacity=() overrides=()
for arg in "$@"; do
  case $arg in
    -h | --help) usage && exit ;;
    --dry-run) dry_run=1 ;;
    --name=*) name=${arg#*=} ;;
    --zone=*) zone=${arg#*=} ;;
    --type=*) type=${arg#*=} ;;
    --config=*) config=${arg#*=} ;;
    --workdir=*) workdir=${arg#*=} ;;
    --project=*) where+=("$arg") ;;
    --spot | --reserved) capacity=("$arg") ;;
    --version=*) version=${arg#*=} ;;
    --retries=*) retries=${arg#*=} ;;
    --config.*=*) overrides+=("$arg") ;;
    train | create | setup | run | delete) action=$arg ;;
    *) refuse "unknown argument $arg" ;;
  esac
done
[[ -n $action ]] || refuse "ACTION is missing"
require name zone
case $action in create | train) require type ;; esac
case $action in
  run | train)
    require config workdir
    [[ $workdir == gs://* ]] || refuse "--workdir=$workdir is not on gs://; the workers share no disk"
    ;;
esac
case $type in # https://cloud.google.com/tpu/docs/runtimes
  v6e-*) version=${version:-v2-alpha-tpuv6e} ;;
  v5p-*) version=${version:-v2-alpha-tpuv5} ;;
  v5litepod-*) version=${version:-v2-alpha-tpuv5-lite} ;;
  *) version=${version:-tpu-ubuntu2204-base} ;;
esac
where=(--zone="$zone" ${where[@]+"${where[@]}"})
cd "$(dirname "${BASH_SOURCE[0]}")/.."

abort() {
  echo "tpu_vm.sh: $*" >&2
  exit 1
}

# observe STATE: sets `state` to the state of the request, or to '' if there is no request; in a dry run to STATE. If
# gcloud fails (no network, no permission) the query is repeated up to `retries` times; then the script gives up.
observe() {
  local describe=(gcloud compute tpus queued-resources describe "$name" "${where[@]}" --format="value(state.state)")
  local errors failed_queries=0
  state=$1
  if ((dry_run)); then
    quote "${describe[@]}"
    return
  fi
  errors=$(mktemp)
  until state=$("${describe[@]}" 2>"$errors") || grep -q NOT_FOUND "$errors"; do
    ((++failed_queries <= retries)) || abort "gcloud can't say how $name is: $(<"$errors")"
    note "gcloud can't say how $name is; trying again"
    sleep "$poll_seconds"
  done
  rm "$errors"
}

create() {
  observe ''
  until [[ $state == ACTIVE ]]; do
    case $state in
      '')
        run gcloud compute tpus queued-resources create "$name" --node-id="$name" "${where[@]}" \
          --accelerator-type="$type" --runtime-version="$version" ${capacity[@]+"${capacity[@]}"} ||
          abort "the request for $type in $zone was refused; gcloud's message is above"
        ;;
      SUSPENDING | SUSPENDED) # preempted: this request never becomes active again
        note "$name was preempted; requesting another slice"
        delete || true
        ;;
      FAILED) abort "the request for $type failed; see: gcloud compute tpus queued-resources describe $name --zone=$zone" ;;
      *) note "waiting for $name: $state" ;;
    esac
    ((dry_run)) || sleep "$poll_seconds"
    observe ACTIVE
  done
}

delete() {
  run gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet
}

on_workers() {
  run gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker=all --command="$1"
}

setup() {
  local archive="${TMPDIR:-/tmp}/cldis_jax-$name.tar.gz"
  run git archive --format=tar.gz --output="$archive" HEAD &&
    run gcloud compute tpus tpu-vm scp "$archive" "$name:cldis_jax.tar.gz" "${where[@]}" --worker=all &&
    # The image's own python3 is 3.10.
    on_workers "set -e; python3.11 -c 'import ensurepip' 2>/dev/null || { sudo apt-get -o DPkg::Lock::Timeout=600 update -qq; \
sudo apt-get -o DPkg::Lock::Timeout=600 install -y -qq python3.11-venv; }; \
mkdir -p cldis_jax; tar -xzf cldis_jax.tar.gz -C cldis_jax; PYTHON=python3.11 EXTRAS=tpu,tfds bash cldis_jax/launch/setup.sh"
}

# A lost connection does not end the run (because of tee -p). The next run waits at the lock until it has ended, and
# resumes it unless it has finished.
train() {
  local command
  command=$(quote python -m cldis_jax.main --distributed --config="$config" --workdir="$workdir" \
    ${overrides[@]+"${overrides[@]}"})
  on_workers "set -eo pipefail; cd cldis_jax; export JAX_COMPILATION_CACHE_DIR=$(quote "${workdir%/}/xla-cache"); \
flock run.lock .venv/bin/$command 2>&1 | tee -p -a train.log"
}

case $action in
  create) create ;;
  setup) setup ;;
  run) train ;;
  delete) delete ;;
  train)
    failures=0
    until create && setup && train; do
      observe ACTIVE
      if [[ $state == ACTIVE ]]; then
        ((++failures <= retries)) || abort "failed $failures times on a healthy slice; see cldis_jax/train.log on its workers"
        note "failure $failures of $retries; trying again"
      fi
      sleep "$poll_seconds"
    done
    note "finished; the slice still exists; to delete it: bash launch/tpu_vm.sh delete --name=$name --zone=$zone"
    ;;
esac
