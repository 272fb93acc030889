"""Ends a tiny training at random moments, and goes on with it: python -m tests.soak --kills=100 [--workdir=DIR].

Ends are SIGKILL, SIGTERM, SIGHUP, a full disk (a limit on the size of files, set while the process runs) and SIGKILL
with a damaged newest checkpoint. Every start must go on from the newest checkpoint that is whole. At the end the
parameters are bit-equal to those of a run that nobody ended, no row of scalars is missing or double, and no half
checkpoint is left. Prints a table.
"""

import argparse
import collections
import dataclasses
import json
import os
import pathlib
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from subprocess import PIPE, STDOUT

ROOT = pathlib.Path(__file__).parents[1]
KINDS = ("SIGKILL", "SIGTERM", "SIGHUP", "full disk", "damage")
EVERY = 3  # steps between checkpoints, and between rows of scalars
LIMIT = 1200  # seconds in which a start must save, and an end must come, also on a busy machine


@dataclasses.dataclass
class Life:
    """One start of the training, until it was ended."""

    kind: str
    expected: int  # the newest whole checkpoint before the start; 0: none
    resumed: int | None  # where it went on; None: it ended before that, or began at 0
    saved: int  # the newest checkpoint at its end
    status: int
    seconds: float
    faults: list[str]


def steps(workdir: pathlib.Path) -> list[int]:
    folder = workdir / "checkpoints"
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.exists() else []


def start(workdir: pathlib.Path, num_steps: int, every: int) -> subprocess.Popen:
    settings = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache/jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, "-m", "cldis_jax.main", "--config=scenes:tiny", f"--workdir={workdir}"]
    fields = {
        "train.steps": num_steps,
        "train.log_every": EVERY,
        "train.num_pictures": 2,
        "checkpoint.every_steps": every,
    }
    command += [f"--config.{name}={value}" for name, value in fields.items()]
    environment = cache | dict(os.environ) | settings
    previous = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where this program runs under nohup
    try:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=PIPE, stderr=STDOUT, text=True)
    finally:
        signal.signal(signal.SIGHUP, previous)


def finish(workdir: pathlib.Path, num_steps: int, every: int) -> dict:
    """What `main.json` holds of a run that is not disturbed."""
    process = start(workdir, num_steps, every)
    output, _ = process.communicate(timeout=3600)
    if process.returncode:
        raise RuntimeError(output)
    return json.loads((workdir / "main.json").read_text())


def damage(checkpoint: pathlib.Path) -> None:
    """Cut every file of the state in half."""
    for path in (checkpoint / "state").rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)


def strike(process: subprocess.Popen, kind: str) -> None:
    if kind == "full disk":
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, hard))
    else:
        process.send_signal(signal.SIGKILL if kind == "damage" else signal.Signals[kind])


def live(workdir: pathlib.Path, kind: str, expected: int, chance: random.Random) -> Life:
    """Start the training, let it save a few times (or be about to start), and end it."""
    began, saves = time.time(), chance.choice([0, 1, 1, 2, 3])
    newest, faults = max(steps(workdir), default=0), []
    process, output = start(workdir, 1_000_000, EVERY), []
    reader = threading.Thread(target=lambda: output.extend(process.stdout))  # through a pipe: a full disk lets it pass
    reader.start()
    while process.poll() is None and max(steps(workdir), default=0) < newest + saves * EVERY:
        time.sleep(0.005)
        if time.time() - began > LIMIT:
            faults.append(f"no checkpoint after {LIMIT} s")
            break
    time.sleep(chance.uniform(0, 0.3) if saves else chance.uniform(0, 12))
    if process.poll() is not None:
        faults.append(f"ended by itself with status {process.returncode}")
    else:
        strike(process, kind)
    try:
        status = process.wait(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        faults.append(f"did not end {LIMIT} s after {kind}")
        process.kill()
        status = process.wait()
    reader.join()
    output = "".join(output)
    resumed = re.search(r"resuming .* at step (\d+)", output)
    resumed = int(resumed[1]) if resumed else None
    if kind == "full disk" and not re.search("^error: ", output, re.MULTILINE):
        faults.append("no line about the full disk")
    saved = steps(workdir)
    if resumed not in (None, expected):
        faults.append(f"resumed at step {resumed}, not {expected}")
    if max(saved, default=0) < expected:
        faults.append(f"step {expected} is lost: {saved}")
    stopped = re.search(r"stopped at step (\d+) and saved", output)
    if stopped and int(stopped[1]) != saved[-1]:
        faults.append(f"said that step {stopped[1]} was saved, but there are {saved}")
    if status not in {"SIGTERM": (143, -15), "SIGHUP": (129, -1), "full disk": (1,)}.get(kind, (-9,)):
        faults.append(f"status {status}")
    if "Traceback" in output:
        faults.append("a traceback")
    if faults:
        faults.append(output[-3000:])
    return Life(kind, expected, resumed, max(saved, default=0), status, time.time() - began, faults)


def soak(folder: pathlib.Path, kills: int, seed: int = 0) -> tuple[list[Life], list[str]]:
    """(the lives, what was wrong at the end) of a run in `folder` that is ended `kills` times."""
    chance, lives, faults = random.Random(seed), [], []
    workdir, expected = folder / "soak", 0
    kinds = [KINDS[i % len(KINDS)] for i in range(kills)]
    chance.shuffle(kinds)
    for i, kind in enumerate(kinds):
        life = live(workdir, kind, expected, chance)
        lives.append(life)
        print(f"{i + 1}/{kills} {kind}: resumed {life.resumed}, saved {life.saved}, status {life.status}", flush=True)
        print("\n".join(life.faults), end="\n" if life.faults else "", flush=True)
        saved = steps(workdir)
        if life.resumed is not None or expected == 0:  # otherwise it ended before it looked at the checkpoints
            expected = life.saved
        if kind == "damage" and len(saved) > 1:
            damage(workdir / "checkpoints" / str(saved[-1]))
            expected = saved[-2]
    total = max(steps(workdir), default=0) + EVERY + 1
    disturbed, undisturbed = finish(workdir, total, EVERY), finish(folder / "undisturbed", total, 1_000_000)
    if disturbed["params_sha256"] != undisturbed["params_sha256"]:
        faults.append("the parameters differ from those of an undisturbed run")
    rows = [json.loads(line)["step"] for line in (workdir / "scalars.jsonl").read_text().splitlines()]
    wanted = [json.loads(line)["step"] for line in (folder / "undisturbed/scalars.jsonl").read_text().splitlines()]
    if rows != wanted:
        faults.append(f"rows of scalars: missing {sorted(set(wanted) - set(rows))}, {len(rows)} of {len(wanted)}")
    left = [path.name for path in (workdir / "checkpoints").iterdir() if not path.name.isdigit()]
    if left or (workdir / "lock").exists():
        faults.append(f"left behind: {left}, lock {(workdir / 'lock').exists()}")
    print(
        f"{total} steps; parameters {disturbed['params_sha256'][:16]}, undisturbed {undisturbed['params_sha256'][:16]}"
    )
    return lives, faults


def table(lives: list[Life]) -> str:
    lines = [f"{'end':10} {'times':>5} {'nothing new':>11} {'steps saved':>11} {'faults':>6}  status"]
    for kind in KINDS:
        those = [life for life in lives if life.kind == kind]
        early = sum(life.saved == life.expected for life in those)
        gained = sum(life.saved - life.expected for life in those)
        status = ", ".join(f"{s} x {n}" for s, n in sorted(collections.Counter(life.status for life in those).items()))
        faulty = sum(bool(life.faults) for life in those)
        lines.append(f"{kind:10} {len(those):5} {early:11} {gained:11} {faulty:6}  {status}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workdir", type=pathlib.Path, default=None)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.workdir or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        lives, faults = soak(folder, asked.kills, asked.seed)
    print(table(lives), *faults, sep="\n")
    sys.exit(bool(faults) or any(life.faults for life in lives))


if __name__ == "__main__":
    main()
