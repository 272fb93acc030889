#!/usr/bin/env bash
# Trains the closed loop on rendered scenes in minutes, on any CPU, writes pictures, and prints its scores.
#
#   bash launch/quickstart.sh [WORKDIR] [--config.field=value ...]
#
# WORKDIR (default runs/quickstart) receives checkpoints, pictures, TensorBoard events, main.json, and evaluate.md with
# FactorVAE's score, DCI and MIG beside their floors, from few samples. The same command continues a stopped run; for a
# finished run it prints the table and measures the scores again. PYTHON is the interpreter for .venv (default
# python3; 3.11 or newer).
source "$(dirname "${BASH_SOURCE[0]}")/command.sh"

workdir=
overrides=()
for arg in "$@"; do
  case $arg in
    -h | --help) usage && exit ;;
    --config.*=*) overrides+=("$arg") ;;
    -*) refuse "unknown argument $arg" ;;
    *) [[ -z $workdir ]] || refuse "more than one WORKDIR: $workdir and $arg"
      workdir=$(absolute "$arg") ;;
  esac
done

source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
workdir=${workdir:-$PWD/runs/quickstart}
echo "Everything goes to $workdir: pictures/ (reconstructions, traversals, curves), main.json (the numbers)."
echo "Curves live: $PWD/.venv/bin/tensorboard --logdir=$(quote "$workdir")"
python -m cldis_jax.main --config=configs/quickstart.py --workdir="$workdir" ${overrides[@]+"${overrides[@]}"} &
run=$! stopped=0 status=0
trap 'stopped=1; kill -TERM "$run" 2>/dev/null || true' INT TERM # the run saves a checkpoint
wait "$run" || status=$?
if ((stopped)); then
  wait "$run" && exit 0 # the first wait ended with the signal, before the run had saved
  exit "$?"
fi
((status == 0)) || exit "$status"
few=(--seeds=1 --num_train=2000 --num_test=1000 --num_votes=200 --num_images=4000)
exec python -m cldis_jax.evaluate --workdir="$workdir" --metrics=factor_vae,dci,mig "${few[@]}"
