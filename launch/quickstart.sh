#!/usr/bin/env bash
# Trains the closed loop on rendered scenes in minutes, on any CPU. Prints a table and writes pictures.
#
#   bash launch/quickstart.sh [WORKDIR] [--config.field=value ...]
#
# WORKDIR (default runs/quickstart) receives checkpoints, pictures, TensorBoard events and main.json. The same command
# continues a stopped run; for a finished run it only prints the table. PYTHON is the interpreter for .venv (default
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
# With exec a signal to this script reaches the run, which then saves.
exec python -m cldis_jax.main --config=configs/quickstart.py --workdir="$workdir" ${overrides[@]+"${overrides[@]}"}
