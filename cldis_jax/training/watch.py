"""The scalars of a run: read late, checked to be finite, averaged for the report; and a note if the loop stays open."""

import time

import jax
import numpy as np
from ml_collections import ConfigDict

from cldis_jax.method import feedback
from cldis_jax.runtime import report
from cldis_jax.runtime.errors import NonFiniteError

CLOSED_AFTER = (0.25, 1_000)  # C should have risen after this share of the run, and at least so many steps


class Watch:
    """Takes scalars from the device to the report, one interval late so that the device never waits.

    A run that starts in the middle of an interval goes on from what `unfinished` returned there.
    """

    def __init__(self, config: ConfigDict, log: report.Report, start: int, unfinished: dict[str, list[float]]):
        self._images_per_step, self._per_dispatch = config.data.batch_size, config.train.steps_per_dispatch
        self._log, self._step, self._since = log, start, time.perf_counter()
        self._recorded: list[tuple[int, dict]] = []  # a dispatch's last step, and its scalars
        if unfinished:
            values = {name: np.array(values, np.float32) for name, values in unfinished.items()}
            first = start - len(next(iter(values.values()))) + 1
            self._recorded.append((first + self._per_dispatch - 1, values))
        self._pending: tuple[int, list, dict] | None = None
        share, fewest = CLOSED_AFTER
        self._check_from = max(fewest, int(share * config.train.steps))
        self._feedback = config.feedback
        self._may_stay_open = config.feedback.mode in feedback.FOLLOWING_MODES  # until it is checked, once
        self.waited = 0.0  # seconds spent waiting for data since the last report

    def record(self, step: int, scalars: dict) -> None:
        self._recorded.append((step, scalars))
        self._log.advance(self._per_dispatch)

    def report(self, step: int) -> None:
        """End a logging interval; reports the interval before it."""
        seconds = time.perf_counter() - self._since
        speed = {
            "speed/images_per_second": (step - self._step) * self._images_per_step / seconds,
            "speed/steps_per_second": (step - self._step) / seconds,
            "speed/data_wait_fraction": self.waited / seconds,
        }
        self._report_pending()
        self._pending = (step, self._recorded, speed)
        self._recorded, self.waited, self._step, self._since = [], 0.0, step, time.perf_counter()

    def flush(self) -> None:
        """Wait for all recorded scalars; raises NonFiniteError if one isn't finite."""
        self._report_pending()
        if self._recorded:
            self._read(self._recorded)

    def unfinished(self) -> dict[str, list[float]]:
        """The scalars of the steps since the last report, as JSON values."""
        if not self._recorded:
            return {}
        return {name: values.tolist() for name, values in self._read(self._recorded).items()}

    def _report_pending(self) -> None:
        if self._pending is None:
            return
        step, recorded, speed = self._pending
        self._pending = None
        means = {name: float(np.mean(v)) for name, v in self._read(recorded).items()}
        shown = {name: f"{means[name]:.4g}" for name in ("L_diff", "L_dt", "L_ind", "L_vae") if means.get(name)}
        if "vae/capacity" in means:
            shown["C"] = f"{means['vae/capacity']:.3g}"
        if "L_diff" in shown:
            shown["z gain"] = f"{means['feedback/z_gain']:.2f}"  # 0: z is ignored
        shown["img/s"] = f"{speed['speed/images_per_second']:.0f}"
        self._log.scalars(step, means | speed, shown)
        if self._may_stay_open and "vae/capacity" in means and step >= self._check_from:
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
    """A note on a C that has not risen by `step`; empty if it has.

    C rises as the denoiser uses z, and z carries at most what a VAE of capacity C encodes. If C starts too low, neither
    rises.
    """
    lead, highest, capacity = feedback.lead_capacity, feedback.max_capacity, means["vae/capacity"]
    if capacity - lead > 0.05 * (highest - lead) or lead >= highest:
        return ""
    gain, progress = (means.get(f"feedback/{name}", 0) for name in ("z_gain", "progress"))
    return (
        f"note: the loop is open: C is still {capacity:.3g} of {highest:g} nats at step {step}: the denoiser uses z "
        f"too little (z_gain {gain:.2f}, progress {progress:.2f}; feedback.reference is {feedback.reference:g}). "
        "A larger feedback.lead_capacity or a smaller vae.beta lets z carry more information"
    )
