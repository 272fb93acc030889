#!/usr/bin/env bash
# Trains the closed loop on rendered scenes in minutes, on any CPU, writes pictures, and prints its scores.
#
#   bash launch/quickstart.sh [WORKDIR] [--config.field=value ...]
#
# WORKDIR (default runs/quickstart) receives checkpoints, pictures, TensorBoard events, main.json, and evaluate.md with
# FactorVAE's score, DCI and MIG beside their floors, from few samples, and page.html, which shows the model in a
# browser. The same command continues a stopped run; for a finished run it prints the table, measures the scores and
# writes the page again. PYTHON is the interpreter for .venv (default
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

EXTRAS=${EXTRAS-} source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" # the tools of the tests are not needed
workdir=${workdir:-$PWD/runs/quickstart}
echo "Everything goes to $workdir: pictures/ (reconstructions, traversals, curves), main.json (the numbers)."
echo "Curves live: $PWD/.venv/bin/tensorboard --logdir=$(quote "$workdir")"

# follow WORD...: runs the command, which gets the signals of this script; ends the script if it fails or is stopped.
follow() {
  local status=0
  "$@" &
  run=$!
  wait "$run" || status=$?
  if ((stopped)); then
    wait "$run" && exit 0 # the first wait ended with the signal, before the run had saved
    exit "$?"
  fi
  ((status == 0)) || exit "$status"
}
run='' stopped=0
trap 'stopped=1; kill -TERM "$run" 2>/dev/null || true' INT TERM # the run saves a checkpoint

follow python -m cldis_jax.main --config=configs/quickstart.py --workdir="$workdir" ${overrides[@]+"${overrides[@]}"}
few=(--seeds=1 --num_train=2000 --num_test=1000 --num_votes=200 --num_images=4000)
follow python -m cldis_jax.evaluate --workdir="$workdir" --metrics=factor_vae,dci,mig "${few[@]}"
echo "A page of the model, to look at and to send: $workdir/page.html"
exec python -m cldis_jax.explore --workdir="$workdir" --export="$workdir/page.html"
