"""Run on a GPU, in ten minutes, what was only ever run on CPUs: python -m tests.gpu_check --out=DIR [--tiny].

The training step of `celeba` (bfloat16; with remat; four steps a dispatch), a step of the same Diff-AE in PyTorch,
2,000 steps of `scenes` that SIGTERM interrupts, and their evaluation. Writes DIR/gpu_check.json and DIR/gpu_check.md.
The exit status is 1 if a check failed.
"""

import argparse
import dataclasses
import importlib.util
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from cldis_jax.runtime import report

ROOT = pathlib.Path(__file__).parents[1]
GOAL = 0.7  # of PyTorch's step
LEAST = 20  # seconds that must be left to begin a check
TINY_NETS = {
    "data.image_size": 16,
    "data.batch_size": 4,
    "model.base_channels": 32,
    "model.num_res_blocks": 1,
    "model.attention_resolutions": "()",
    "model.embed_dim": 32,
    "model.channel_multipliers": "(1,)",
    "model.encoder_multipliers": "(1,)",
    "feedback.probe_size": 2,
}
SAMPLES = ("--num_images=4000", "--num_train=2000", "--num_test=1000")
TINY_SAMPLES = ("--num_images=400", "--num_train=250", "--num_test=150")


class OutOfTimeError(Exception):
    """A command did not end within its time."""


class FailedError(Exception):
    """A command failed, or its result is wrong."""


@dataclasses.dataclass(frozen=True)
class Setting:
    out: pathlib.Path
    tiny: bool
    deadline: float  # of time.monotonic()

    def left(self) -> float:
        return self.deadline - time.monotonic()

    def call(self, module: str, *words: str, stop_at: Callable[[], bool] | None = None) -> tuple[int, str]:
        """(exit status, output) of `python -m MODULE WORDS`; SIGTERM is sent as soon as `stop_at()` is true."""
        log = self.out / "output.txt"
        with log.open("w") as file:
            command = [sys.executable, "-m", module, *words]
            process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
            try:
                while process.poll() is None:
                    if self.left() < 0:
                        raise OutOfTimeError
                    if stop_at and stop_at():
                        process.send_signal(signal.SIGTERM)
                        stop_at = None
                    time.sleep(0.1)
            finally:
                process.kill()  # does nothing if it has ended
                process.wait()
        return process.returncode, log.read_text()

    def succeed(self, module: str, *words: str) -> str:
        status, output = self.call(module, *words)
        if status:
            raise FailedError(last_line(output) or f"{module} ended with status {status}")
        return output


def last_line(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def fields(values: dict) -> list[str]:
    return [f"--config.{name}={value}" for name, value in values.items()]


def step(setting: Setting, **changes) -> dict:
    """The figures of `benchmark` for `celeba` with `changes` of the config."""
    file = setting.out / "benchmark.json"
    parts = "--parts" if not changes else "--noparts"
    nets = TINY_NETS if setting.tiny else {}
    words = [f"--steps={2 if setting.tiny else 40}", "--nodata", parts, f"--out={file}"]
    changed = fields(nets | {name.replace("__", "."): value for name, value in changes.items()})
    setting.succeed("cldis_jax.benchmark", "--config=celeba", *words, *changed)
    return report.read_json(file)


def torch_step(setting: Setting) -> dict:
    """The figures of `tests.torch_step` for `celeba`."""
    file = setting.out / "torch.json"
    nets = TINY_NETS if setting.tiny else {}
    words = [f"--steps={2 if setting.tiny else 40}", f"--out={file}", *fields(nets)]
    setting.succeed("tests.torch_step", "--config=celeba", *words)
    return report.read_json(file)


def train_and_resume(setting: Setting) -> dict:
    """Training of `scenes`, ended by SIGTERM after a quarter of the steps, and the same command again."""
    workdir, steps = setting.out / "scenes", 8 if setting.tiny else 2000
    config = "scenes:tiny" if setting.tiny else "scenes"
    changed = {
        "train.steps": steps,
        "train.log_every": steps // 8,
        "train.picture_every": steps,
        "checkpoint.every_steps": steps,
    }
    words = [f"--config={config}", f"--workdir={workdir}", *fields(changed)]
    lines = workdir / "scalars.jsonl"

    def quarter():
        return lines.exists() and len(lines.read_text().splitlines()) >= 2

    status, output = setting.call("cldis_jax.main", *words, stop_at=quarter)
    if status != 143:
        raise FailedError(f"SIGTERM ended the run with status {status}: {last_line(output)}")
    began = time.monotonic()
    output = setting.succeed("cldis_jax.main", *words)
    resumed = re.search(r"resuming .* at step (\d+)", output)
    results = report.read_json(workdir / "main.json")
    if not resumed or results["step"] != steps:
        raise FailedError(f"the second start did not go on from the first: {last_line(output)}")
    figures = {"resumed_at": int(resumed[1]), "step": results["step"], "seconds_of_the_rest": time.monotonic() - began}
    return figures | {name: value for name, value in results["scalars"].items() if name in ("L_diff", "L_vae")}


def evaluate(setting: Setting) -> dict:
    """Scores of the model that `train_and_resume` trained."""
    words = ["--metrics=dci,mig", "--seeds=1", "--floor_seeds=1", *(TINY_SAMPLES if setting.tiny else SAMPLES)]
    setting.succeed("cldis_jax.evaluate", f"--workdir={setting.out / 'scenes'}", *words)
    text = (setting.out / "scenes" / "evaluate.md").read_text()
    return {"rows": sum(line.startswith("|") for line in text.splitlines())}


CHECKS: dict[str, Callable[[Setting], dict]] = {
    "celeba": step,
    "scenes, SIGTERM, resume": train_and_resume,
    "evaluation": evaluate,
    "Diff-AE in PyTorch": torch_step,
    "celeba, remat": lambda setting: step(setting, model__remat=True),
    "celeba, 4 steps a dispatch": lambda setting: step(setting, train__steps_per_dispatch=4),
}


def attempt(check: Callable[[Setting], dict], setting: Setting) -> dict:
    """The figures of a check, with its `status` (ok | failed | out of time | not run), `seconds` and any `error`."""
    began = time.monotonic()
    if check is torch_step and importlib.util.find_spec("torch") is None:
        return {"status": "not run", "seconds": 0.0, "error": "PyTorch is not installed"}
    if setting.left() < LEAST:
        return {"status": "not run", "seconds": 0.0, "error": "no time is left"}
    try:
        found = {"status": "ok"} | check(setting)
    except OutOfTimeError:
        found = {"status": "out of time"}
    except FailedError as error:
        found = {"status": "failed", "error": str(error)}
    return found | {"seconds": time.monotonic() - began}


def against_torch(checks: dict[str, dict]) -> float | None:
    """The step of Diff-AE alone here over that in PyTorch; None if one of them was not measured."""
    ours = checks["celeba"].get("parts", {}).get("diffae", {}).get("seconds_per_step")
    theirs = checks["Diff-AE in PyTorch"].get("seconds_per_step")
    return ours / theirs if ours and theirs else None


def describe(found: dict) -> str:
    """The figures of one check in a line."""
    if "error" in found:
        return found["error"]
    texts = []
    if "seconds_per_step" in found:
        texts.append(f"{found['seconds_per_step'] * 1e3:.1f} ms a step")
    if "flops_per_second" in found:
        texts.append(f"{found['flops_per_second'] / 1e12:.3g} TFLOP/s")
    if "peak_bytes" in found:
        texts.append(f"{found['peak_bytes'] / 2**30:.2f} GiB at most, compiled in {found['compile_seconds']:.0f} s")
    if "parts" in found:
        texts.append(f"Diff-AE alone {found['parts']['diffae']['seconds_per_step'] * 1e3:.1f} ms")
    if "resumed_at" in found:
        texts.append(f"resumed at step {found['resumed_at']} of {found['step']}, L_diff {found['L_diff']:.4f}")
    if "rows" in found:
        texts.append(f"{found['rows']} rows in evaluate.md")
    return ", ".join(texts)


def table(results: dict) -> str:
    """All checks as a Markdown table."""
    rows = [
        (name, found["status"], f"{found['seconds']:.0f}", describe(found)) for name, found in results["checks"].items()
    ]
    lines = ["| check | status | s | result |", "|---|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    if results["against_torch"] is not None:
        lines += ["", f"Diff-AE's step here over PyTorch's: {results['against_torch']:.2f} (goal: at most {GOAL})."]
    return "\n".join([f"On {results['device']}, {results['seconds']:.0f} s in all.", "", *lines]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=pathlib.Path, help="a new folder for the results")
    parser.add_argument("--budget", type=float, default=570, help="seconds for all checks")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to test this program on a CPU")
    arguments = parser.parse_args()
    began = time.monotonic()
    arguments.out = arguments.out.absolute()
    arguments.out.mkdir(parents=True)
    setting = Setting(arguments.out, arguments.tiny, began + arguments.budget)
    checks = {}
    for name, check in CHECKS.items():
        checks[name] = attempt(check, setting)
        print(f"{name}: {checks[name]['status']}, {describe(checks[name])}", flush=True)
    results = {
        "device": checks["celeba"].get("device", "an unknown device"),
        "seconds": time.monotonic() - began,
        "against_torch": against_torch(checks),
        "checks": checks,
    }
    report.write_json(arguments.out / "gpu_check.json", results)
    (arguments.out / "gpu_check.md").write_text(table(results))
    print("\n" + table(results))
    return int(any(found["status"] in ("failed", "out of time") for found in checks.values()))


if __name__ == "__main__":
    raise SystemExit(main())
