"""What a run looks at while it trains: scalars read late, losses that went wrong, a loop that stays open."""

import time

import jax
import numpy as np
from ml_collections import ConfigDict

from cldis_jax.method import feedback
from cldis_jax.runtime import report
from cldis_jax.runtime.errors import NonFiniteError

CLOSES_BY = (0.25, 1_000)  # share of a run, and its fewest steps, by which C should have left its start


class Watch:
    """Scalars on their way from the device to the report, read one interval late so that the device never waits."""

    def __init__(self, config: ConfigDict, log: report.Report, start: int):
        self._images_per_step, self._per_dispatch = config.data.batch_size, config.train.steps_per_dispatch
        self._log, self._step, self._since = log, start, time.perf_counter()
        self._recorded: list[tuple[int, dict]] = []
        self._late: tuple[int, list, dict] | None = None
        share, fewest = CLOSES_BY
        self._closes_by = max(fewest, int(share * config.train.steps))
        self._feedback = config.feedback
        self._may_stay_open = config.feedback.mode in feedback.FOLLOWING_MODES  # until it was looked at, once
        self.waited = 0.0  # seconds for data, since the last report

    def record(self, step: int, scalars: dict) -> None:
        self._recorded.append((step, scalars))
        self._log.advance(self._per_dispatch)

    def report(self, step: int) -> None:
        """At the end of a logging interval: hand on the interval before it."""
        seconds = time.perf_counter() - self._since
        speed = {
            "speed/images_per_second": (step - self._step) * self._images_per_step / seconds,
            "speed/steps_per_second": (step - self._step) / seconds,
            "speed/data_wait_fraction": self.waited / seconds,
        }
        self._hand_on()
        self._late = (step, self._recorded, speed)
        self._recorded, self.waited, self._step, self._since = [], 0.0, step, time.perf_counter()

    def flush(self) -> None:
        """Wait for everything recorded, and raise NonFiniteError if anything of it isn't finite."""
        self._hand_on()
        if self._recorded:
            self._read(self._recorded)

    def _hand_on(self) -> None:
        if self._late is None:
            return
        step, recorded, speed = self._late
        self._late = None
        means = {name: float(np.mean(v)) for name, v in self._read(recorded).items()}
        shown = {name: f"{means[name]:.4g}" for name in ("L_diff", "L_dt", "L_vae") if means.get(name)}
        if "vae/capacity" in means:
            shown["C"] = f"{means['vae/capacity']:.3g}"
        if "L_diff" in shown:
            shown["z gain"] = f"{means['feedback/z_gain']:.2f}"  # 0: z is ignored
        shown["img/s"] = f"{speed['speed/images_per_second']:.0f}"
        self._log.scalars(step, means | speed, shown)
        if self._may_stay_open and "vae/capacity" in means and step >= self._closes_by:
            self._may_stay_open = False
            if note := open_loop_note(self._feedback, step, means):
                self._log.say(note)

    def _read(self, recorded: list[tuple[int, dict]]) -> dict[str, np.ndarray]:
        """The scalars as arrays [steps]; raises at the first step at which one isn't finite."""
        fetched = jax.device_get([scalars for _, scalars in recorded])
        values = {name: np.concatenate([np.atleast_1d(s[name]) for s in fetched]) for name in fetched[0]}
        finite = np.all([np.isfinite(v) for v in values.values()], axis=0)
        if not finite.all():
            i = int(np.argmin(finite))
            terms = ", ".join(f"{name}={v[i]}" for name, v in values.items() if not np.isfinite(v[i]))
            first = recorded[0][0] - self._per_dispatch + 1
            raise NonFiniteError(f"step {first + i}: {terms}; the last checkpoint before it is kept")
        return values


def open_loop_note(feedback: ConfigDict, step: int, means: dict[str, float]) -> str:
    """What to tell of a C that still waits for the diffusion side at `step`; empty where it has moved.

    C rises with what the denoiser shows, which reads what a VAE of capacity C has to say: too low a start, and neither
    moves the other.
    """
    lead, highest, capacity = feedback.lead_capacity, feedback.max_capacity, means["vae/capacity"]
    if capacity - lead > 0.05 * (highest - lead) or lead >= highest:
        return ""
    gain, progress = (means.get(f"feedback/{name}", 0) for name in ("z_gain", "progress"))
    return (
        f"note: the loop is open: C is still {capacity:.3g} of {highest:g} nats at step {step}, for the denoiser shows "
        f"too little (z_gain {gain:.2f}, progress {progress:.2f}; feedback.reference is {feedback.reference:g}); "
        "a larger feedback.lead_capacity or a smaller vae.beta lets z say more"
    )
