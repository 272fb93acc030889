"""The launch scripts with stand-ins for the programs that they call: output, errors, commands and repetitions."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stand_ins import executable

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(p.name for p in (ROOT / "launch").iterdir() if p.suffix in (".sh", ".sbatch"))
TPU = ["--name=cldis", "--zone=us-central2-b"]
XPK = ["--cluster=pods", "--zone=us-east5-b"]
RUN = ["--config=configs/celeba.py", "--workdir=gs://bucket/run"]


def launch(script, *arguments, cwd=ROOT, root=ROOT, **environment):
    """Run a launch script, without the variables of an enclosing SLURM job."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    return subprocess.run(
        ["bash", str(root / "launch" / script), *map(str, arguments)],
        cwd=cwd,
        env=inherited | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def commands(result):
    """The commands that a dry run printed, split into words, without comments."""
    assert result.returncode == 0, result.stderr
    return [shlex.split(line) for line in result.stdout.splitlines() if not line.startswith("#")]


@pytest.fixture
def tree(tmp_path):
    """A checkout that needs no set-up: launch/ with an empty setup.sh, and a folder of stand-ins in PATH."""
    root = tmp_path / "checkout"
    shutil.copytree(ROOT / "launch", root / "launch")
    (root / "launch" / "setup.sh").write_text('cd "$(dirname "${BASH_SOURCE[0]}")/.."\n')
    (tmp_path / "bin").mkdir()
    return root


def stand_ins(tree):
    return f"{tree.parent / 'bin'}:{os.environ['PATH']}"


def test_shellcheck_finds_nothing():
    beside_python = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shellcheck = shutil.which("shellcheck", path=beside_python) or pytest.fail(
        "shellcheck is not installed; it is in the extra 'test'"
    )
    files = [str(ROOT / "launch" / name) for name in SCRIPTS] + [str(ROOT / ".ci" / "run")]
    result = subprocess.run([shellcheck, "-x", "-P", "SCRIPTDIR", *files], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("script", [s for s in SCRIPTS if s not in ("command.sh", "setup.sh")])
def test_help_is_the_comment_at_the_top_of_the_script(script, tmp_path):
    result = launch(script, "--help", cwd=tmp_path)
    assert result.returncode == 0
    assert f"launch/{script} " in result.stdout
    assert "#" not in result.stdout


@pytest.mark.parametrize(
    ("script", "arguments", "complaint"),
    [
        ("gpu.sh", [], "--config=... is missing"),
        ("gpu.sh", ["--config=configs/celeba.py"], "--workdir=... is missing"),
        ("gpu.sh", [*RUN, "--frobnicate"], "unknown argument --frobnicate"),
        ("gpu_check.sh", [], "--out=... is missing"),
        ("gpu_check.sh", ["--out=/tmp"], "--out=/tmp exists"),
        ("slurm.sbatch", [], "--config=... is missing"),
        ("slurm.sbatch", RUN, "submit it with sbatch"),
        ("tpu_vm.sh", [], "ACTION is missing"),
        ("tpu_vm.sh", ["train"], "--name=... is missing"),
        ("tpu_vm.sh", ["create", *TPU], "--type=... is missing"),
        ("tpu_vm.sh", ["run", *TPU, RUN[0], "--workdir=runs/x"], "--workdir=runs/x is not on gs://"),
        ("xpk.sh", ["run", "--cluster=pods"], "--zone=... is missing"),
        ("xpk.sh", ["run", *XPK, "--name=a", "--type=v4-8"], "--config=... is missing"),
        ("tables.sh", ["--table=main"], "--out=... is missing"),
        ("tables.sh", ["--table=main", "--out=o", "--jobs=0"], "--jobs=0 is not a positive number"),
        ("tables.sh", ["--table=main", "--out=o", "--machines=2", "--machine=2"], "--machine=2 is not one of"),
        ("quickstart.sh", ["one", "two"], "more than one WORKDIR"),
    ],
)
def test_bad_arguments_are_refused_with_usage(script, arguments, complaint):
    result = launch(script, *arguments)
    assert result.returncode == 2
    assert complaint in result.stderr.splitlines()[0]
    assert f"launch/{script} " in result.stderr
    assert result.stdout == ""


def test_gpu_machine_runs_one_process_and_quotes_its_arguments(tmp_path):
    lines = commands(
        launch("gpu.sh", "--dry-run", "--config=c.py", "--workdir=my runs", "--config.data.path=a'b", cwd=tmp_path)
    )
    main = ["exec", "python", "-m", "cldis_jax.main"]
    assert lines[-1] == [*main, "--config=c.py", f"--workdir={tmp_path}/my runs", "--config.data.path=a'b"]
    assert ["source", "launch/setup.sh"] in lines


def test_a_tilde_is_the_home_of_the_user(tmp_path):
    lines = commands(launch("gpu.sh", "--dry-run", "--config=c.py", "--workdir=~/runs/x", HOME=str(tmp_path)))
    assert f"--workdir={tmp_path}/runs/x" in lines[-1]


def test_gpu_machine_keeps_the_callers_flags():
    lines = commands(launch("gpu.sh", "--dry-run", *RUN, XLA_FLAGS="--mine=1", JAX_COMPILATION_CACHE_DIR="/cache"))
    assert ["export", "XLA_FLAGS=--mine=1 --xla_gpu_enable_latency_hiding_scheduler=true"] in lines
    assert ["export", "JAX_COMPILATION_CACHE_DIR=/cache"] in lines


def test_tpu_dry_run_gives_every_worker_the_same_command():
    lines = commands(
        launch("tpu_vm.sh", "--dry-run", "train", *TPU, *RUN, "--type=v5p-128", "--spot", "--config.train.steps=9")
    )
    assert [line[4] for line in lines if line[3] == "queued-resources"] == ["describe", "create", "describe"]
    create = next(line for line in lines if line[4] == "create")
    assert {"--accelerator-type=v5p-128", "--runtime-version=v2-alpha-tpuv5", "--spot"} <= set(create)
    on_workers = [line for line in lines if line[:4] == ["gcloud", "compute", "tpus", "tpu-vm"]]
    assert [line[4] for line in on_workers] == ["scp", "ssh", "ssh"]
    assert all("--worker=all" in line for line in on_workers)
    train = on_workers[-1][-1]
    for part in ("cldis_jax.main", "--distributed", *RUN, "--config.train.steps=9", "flock"):
        assert part in train


@pytest.mark.parametrize(
    ("slice_type", "version"),
    [("v4-8", "tpu-ubuntu2204-base"), ("v5litepod-16", "v2-alpha-tpuv5-lite"), ("v6e-8", "v2-alpha-tpuv6e")],
)
def test_tpu_image_follows_the_slice_type(slice_type, version):
    lines = commands(launch("tpu_vm.sh", "--dry-run", "create", *TPU, f"--type={slice_type}"))
    assert f"--runtime-version={version}" in lines[1]


# A cloud with one slice, in files. `state` is the state of the request. Each run removes the next outcome from
# `outcomes`; each describe removes a line from `outages`, as long as there are any.
GCLOUD = """
echo "$*" >> "$CLOUD/log"
case "$4 ${*: -1}" in
  create*) [[ ! -e $CLOUD/state ]] && echo WAITING_FOR_RESOURCES > "$CLOUD/state" ;;
  describe*)
    [[ -s $CLOUD/outages ]] && { sed -i 1d "$CLOUD/outages"; echo "ERROR: UNAVAILABLE: no network" >&2; exit 1; }
    [[ -e $CLOUD/state ]] || { echo "ERROR: (gcloud.compute.tpus) NOT_FOUND: no such resource" >&2; exit 1; }
    cat "$CLOUD/state" && sed -i s/WAITING_FOR_RESOURCES/ACTIVE/ "$CLOUD/state" ;;
  delete*) rm "$CLOUD/state" ;;
  ssh*cldis_jax.main*)
    outcome=$(head -n 1 "$CLOUD/outcomes"); sed -i 1d "$CLOUD/outcomes"
    [[ $outcome == preempted ]] && echo SUSPENDED > "$CLOUD/state"
    [[ $outcome == finished ]] ;;
esac
"""


def train_on_tpu(tree, outcomes, *arguments):
    """(result, the actions of gcloud except describe) of one `tpu_vm.sh train`."""
    cloud = tree.parent
    executable(cloud / "bin" / "gcloud", GCLOUD)
    executable(cloud / "bin" / "git", "exit 0")
    (cloud / "outcomes").write_text("".join(f"{outcome}\n" for outcome in outcomes))
    result = launch(
        "tpu_vm.sh",
        *["train", *TPU, *RUN, "--type=v4-32", *arguments],
        root=tree,
        CLOUD=str(cloud),
        POLL_SECONDS="0",
        PATH=stand_ins(tree),
    )
    log = (cloud / "log").read_text().splitlines()
    verbs = ["run" if "cldis_jax.main" in line else line.split()[3] for line in log]
    return result, [verb for verb in verbs if verb != "describe"]


def test_tpu_run_resumes_on_a_new_slice_after_preemption(tree):
    result, verbs = train_on_tpu(tree, ["preempted", "finished"])
    assert result.returncode == 0, result.stderr
    begin = ["create", "scp", "ssh", "run"]
    assert verbs == [*begin, "delete", *begin]
    assert "was preempted" in result.stderr


def test_tpu_run_again_finds_the_existing_slice(tree):
    (tree.parent / "state").write_text("ACTIVE\n")
    result, verbs = train_on_tpu(tree, ["finished"])
    assert result.returncode == 0, result.stderr
    assert verbs == ["scp", "ssh", "run"]


def test_tpu_failures_on_a_healthy_slice_end(tree):
    result, verbs = train_on_tpu(tree, ["failed"] * 9, "--retries=2")
    assert result.returncode == 1
    assert verbs.count("run") == 3
    assert verbs.count("create") == 1
    assert "failed 3 times on a healthy slice" in result.stderr


def test_tpu_slice_that_gcloud_cannot_describe_is_not_created_again(tree):
    (tree.parent / "state").write_text("ACTIVE\n")
    (tree.parent / "outages").write_text("once\ntwice\n")
    result, verbs = train_on_tpu(tree, ["finished"])
    assert result.returncode == 0, result.stderr
    assert verbs == ["scp", "ssh", "run"]

    (tree.parent / "log").unlink()
    (tree.parent / "outages").write_text("again\n" * 9)
    result, verbs = train_on_tpu(tree, ["finished"], "--retries=2")
    assert result.returncode == 1
    assert verbs == []
    assert "gcloud can't say how cldis is: ERROR: UNAVAILABLE: no network" in result.stderr


XPK_STAND_IN = """
echo "$*" >> "$CLOUD/log"
[[ $2 == list ]] && grep -q "filter-by-status=$STATUS" <<< "$*" && echo "celeba  2026-01-01  medium"
exit 0
"""


@pytest.mark.parametrize(("status", "starts"), [("RUNNING", False), ("QUEUED", False), ("FINISHED", True)])
def test_xpk_starts_a_workload_once(tree, status, starts):
    executable(tree.parent / "bin" / "xpk", XPK_STAND_IN)
    executable(tree.parent / "bin" / "git", "exit 0")
    environment = {"CLOUD": str(tree.parent), "STATUS": status, "PATH": stand_ins(tree), "TMPDIR": str(tree.parent)}
    result = launch("xpk.sh", "run", *XPK, *RUN, "--name=celeba", "--type=v6e-16", root=tree, **environment)
    assert result.returncode == 0, result.stderr
    assert ("workload create" in (tree.parent / "log").read_text()) == starts


def test_xpk_changes_nothing_if_it_can_not_list_the_workloads(tree):
    executable(tree.parent / "bin" / "xpk", 'echo "$*" >> "$CLOUD/log"; exit 1')
    environment = {"CLOUD": str(tree.parent), "PATH": stand_ins(tree), "TMPDIR": str(tree.parent)}
    result = launch("xpk.sh", "run", *XPK, *RUN, "--name=celeba", "--type=v6e-16", root=tree, **environment)
    assert result.returncode == 1
    assert "xpk can't list the workloads" in result.stderr
    assert "delete" not in (tree.parent / "log").read_text()


def test_xpk_dry_run():
    lines = commands(launch("xpk.sh", "--dry-run", "run", *XPK, *RUN, "--name=a", "--type=v6e-16", "--slices=2"))
    create = lines[-1]
    assert create[:3] == ["xpk", "workload", "create"]
    assert {"--tpu-type=v6e-16", "--num-slices=2", "--max-restarts=100"} <= set(create)
    assert "exec .venv/bin/python -m cldis_jax.main --distributed" in create[-1]


def test_slurm_dry_run_is_one_step_over_all_tasks():
    lines = commands(launch("slurm.sbatch", "--dry-run", "--config=configs/celeba.py", "--workdir=/scratch/x"))
    main = ["srun", "python", "-m", "cldis_jax.main", "--distributed", "--config=configs/celeba.py"]
    assert [*main, "--workdir=/scratch/x"] in lines
    assert lines[-1] == ["scontrol", "requeue", "JOB"]
    head = (ROOT / "launch" / "slurm.sbatch").read_text()
    for directive in ("--ntasks-per-node=8", "--gres=gpu:8", "--requeue", "--signal=B:TERM@120"):
        assert f"#SBATCH {directive}\n" in head


def start_job(tree, srun, tmp_path):
    """Start the batch script as SLURM does: a copy in a spool folder, submitted from the checkout."""
    executable(tree.parent / "bin" / "srun", f'echo $$ > "$CLOUD/step"; {srun}')
    executable(tree.parent / "bin" / "scancel", '[[ $* == "--signal=TERM 7" ]] && kill -TERM $(<"$CLOUD/step")')
    executable(tree.parent / "bin" / "scontrol", 'echo "$*" > "$CLOUD/requeued"')
    spooled = shutil.copy(ROOT / "launch" / "slurm.sbatch", tmp_path / "slurm_script")
    slurm = {"SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(tree), "CLOUD": str(tree.parent)}
    return subprocess.Popen(
        ["bash", spooled, "--config=c.py", "--workdir=w"],
        cwd=tree,
        env=os.environ | slurm | {"PATH": stand_ins(tree)},
        stdin=subprocess.DEVNULL,
    )


def test_slurm_job_saves_and_requeues_on_sigterm(tree, tmp_path):
    saves = 'trap \'sleep 0.5; touch "$CLOUD/saved"; exit 143\' TERM; touch "$CLOUD/began"; while :; do sleep 0.1; done'
    job = start_job(tree, saves, tmp_path)
    deadline = time.monotonic() + 20
    while not (tree.parent / "began").exists():
        assert time.monotonic() < deadline, "srun was never started"
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=20) == 143
    assert (tree.parent / "saved").exists()
    assert (tree.parent / "requeued").read_text() == "requeue 7\n"


def test_slurm_job_that_fails_by_itself_stays_failed(tree, tmp_path):
    assert start_job(tree, "exit 3", tmp_path).wait(timeout=20) == 3
    assert not (tree.parent / "requeued").exists()


def test_tables_are_split_over_jobs_and_machines():
    lines = commands(
        launch(
            "tables.sh", "--dry-run", "--table=main", "--out=/o", "--jobs=2", "--gpus", "--machines=3", "--machine=1"
        )
    )
    shards = [word for line in lines for word in line if word.startswith("--shard=")]
    assert shards == ["--shard=2/6", "--shard=3/6"]
    assert [line[1] for line in lines if line[0] == "env"] == ["CUDA_VISIBLE_DEVICES=0", "CUDA_VISIBLE_DEVICES=1"]


def test_tables_pass_the_options_of_the_command():
    options = ["--seeds=1", "--steps=20", "--data=cars3d=/my data", "--inception_weights=/i.pth"]
    lines = commands(launch("tables.sh", "--dry-run", "--table=main", "--out=/o", *options))
    runs = [line for line in lines if "cldis_jax.tables" in line]
    assert len(runs) == 2  # one job, then --collect
    assert all(set(options) <= set(line) for line in runs)


def test_tables_fail_when_a_cell_fails_after_the_others_have_finished(tree):
    executable(tree.parent / "bin" / "python", 'echo "$*" >> "$CLOUD/log"; [[ $* != *--shard=0/2* ]]')
    environment = {"CLOUD": str(tree.parent), "PATH": stand_ins(tree)}
    result = launch("tables.sh", "--table=main", "--out=o", "--jobs=2", root=tree, **environment)
    assert result.returncode == 1
    assert "a job failed" in result.stderr
    assert len((tree.parent / "log").read_text().splitlines()) == 2


def test_quickstart_takes_a_relative_workdir_from_the_callers_directory(tree, tmp_path):
    executable(tree.parent / "bin" / "python", 'printf "%s\\n" "$PWD" "$@"')
    path = stand_ins(tree)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    given = launch("quickstart.sh", "my run", "--config.train.steps=3", cwd=elsewhere, root=tree, PATH=path)
    assert given.returncode == 0, given.stderr
    assert str(tree) in given.stdout.splitlines()
    assert f"--workdir={elsewhere}/my run" in given.stdout.splitlines()
    assert "--config.train.steps=3" in given.stdout.splitlines()
    default = launch("quickstart.sh", cwd=elsewhere, root=tree, PATH=path)
    assert f"--workdir={tree}/runs/quickstart" in default.stdout.splitlines()


def test_quickstart_ends_with_the_scores_and_a_page(tree):
    executable(tree.parent / "bin" / "python", 'echo "$2 $3 $4"')
    done = launch("quickstart.sh", root=tree, PATH=stand_ins(tree))
    assert [line for line in done.stdout.splitlines() if line.startswith("cldis_jax")] == [
        f"cldis_jax.main --config=configs/quickstart.py --workdir={tree}/runs/quickstart",
        f"cldis_jax.evaluate --workdir={tree}/runs/quickstart --metrics=factor_vae,dci,mig",
        f"cldis_jax.explore --workdir={tree}/runs/quickstart --export={tree}/runs/quickstart/page.html",
    ]
    assert f"A page of the model, to look at and to send: {tree}/runs/quickstart/page.html" in done.stdout


def test_quickstart_fails_when_the_run_fails(tree):
    executable(tree.parent / "bin" / "python", 'echo "$2"; exit 7')
    done = launch("quickstart.sh", root=tree, PATH=stand_ins(tree))
    assert done.returncode == 7
    assert "cldis_jax.evaluate" not in done.stdout


def test_a_signal_to_quickstart_reaches_the_run_and_no_scores_follow(tree):
    """The script waits until the run has saved."""
    trap = "trap 'sleep 0.3; echo saved >> $CLOUD; exit 3' TERM; echo ready >> $CLOUD; while :; do sleep 0.05; done"
    executable(tree.parent / "bin" / "python", f'echo "$2" >> $CLOUD; {trap}')
    log = tree.parent / "log"
    environment = os.environ | {"PATH": stand_ins(tree), "CLOUD": str(log)}
    process = subprocess.Popen(["bash", str(tree / "launch" / "quickstart.sh")], env=environment)
    deadline = time.monotonic() + 30
    while not (log.exists() and "ready" in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 3
    assert log.read_text().split() == ["cldis_jax.main", "ready", "saved"]
