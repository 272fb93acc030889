"""The loop: how the diffusion side sets the VAE's information capacity C.

The paper's rule: C rises with the information that the reverse denoising process carries. The paper leaves open how to
measure this information and how C follows it. `feedback.mode` selects a rule; each rule is a function in `RULES`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from ml_collections import ConfigDict

from cldis_jax.method import diffusion
from cldis_jax.method.independence import UnitStatistics, initial_statistics
from cldis_jax.method.prediction import Prediction, prediction_of
from cldis_jax.models import Networks


@struct.dataclass
class Feedback:
    """The state of the loop. It is part of the train state."""

    capacity: jax.Array  # C in nats []; it never decreases
    progress: jax.Array  # moving average of `Signals.progress` []
    gain: jax.Array  # moving average of `Signals.gain` []
    zero_gain: jax.Array  # moving average of `Signals.zero_gain` []

    @property
    def units(self) -> UnitStatistics | None:
        """None: no L_ind. This is no field, so that the checkpoints without L_ind have the layout that they had."""
        return None


@struct.dataclass
class FeedbackWithUnits(Feedback):
    """The same with L_ind, whose averages travel here because each step renews them, too. C does not depend on them."""

    units: UnitStatistics = struct.field(default=None)  # moving average of `Signals.units`


@struct.dataclass
class Signals:
    """Measurements on one batch: of the denoiser, and of the units of z_sem for L_ind."""

    progress: jax.Array  # share of the information that the denoiser recovers along the reverse process []
    gain: jax.Array  # log(error with z shuffled in the batch / error with the right z) []; NaN: not measured
    zero_gain: jax.Array  # the same with z = 0 instead of the shuffled z []
    units: UnitStatistics | None = None  # of the batch's z_sem; None: no L_ind


def initial_feedback(config: ConfigDict) -> Feedback:
    """The state before the first step: signals of 0, and C = C_lead (C = C_max in the mode `fixed`)."""
    c = config.feedback
    capacity = c.max_capacity if c.mode == "fixed" else c.lead_capacity
    zero = jnp.float32(0)
    averages = {"capacity": jnp.float32(capacity), "progress": zero, "gain": zero, "zero_gain": zero}
    if config.independence.weight == 0 or config.diffusion.weight == 0:  # a VAE alone has no z_sem
        return Feedback(**averages)
    return FeedbackWithUnits(**averages, units=initial_statistics(config))


# --- The rules ---


def by_progress(c: ConfigDict, average: Feedback, step: jax.Array) -> jax.Array:
    """C follows the information that the denoiser recovers."""
    return average.progress / c.reference


def by_gain(c: ConfigDict, average: Feedback, step: jax.Array) -> jax.Array:
    """C follows the contribution of z to the denoiser. This closes the loop through z."""
    return average.gain / c.reference


def annealed(c: ConfigDict, average: Feedback, step: jax.Array) -> jax.Array:
    """Open loop: C rises linearly with the step [Burgess et al. 2018]."""
    return (step + 1) / c.anneal_steps


def constant(c: ConfigDict, average: Feedback, step: jax.Array) -> jax.Array:
    """C = C_max, for `fixed`. In the mode `timestep` each sample has its own C instead; see `timestep_capacity`."""
    return 1.0


# feedback.mode -> function (config.feedback, averaged signals, step) -> u [], where C = C_lead + (C_max - C_lead) u
RULES: dict[str, Callable[[ConfigDict, Feedback, jax.Array], jax.Array]] = {
    "timestep": constant,
    "progress": by_progress,
    "gain": by_gain,
    "anneal": annealed,
    "fixed": constant,
}
FOLLOWING_MODES = ("progress", "gain")  # closed loop: C follows the denoiser
OPEN_LOOP_MODES = ("anneal", "fixed")


def close_loop(config: ConfigDict, feedback: Feedback, signals: Signals, step: jax.Array) -> Feedback:
    """The feedback after a step: moving averages of the signals, and C = C_lead + (C_max - C_lead) clip(u)."""
    c = config.feedback

    def average(old, new, steps=1):  # `steps`: training steps between two measurements
        decay = c.ema_decay**steps
        return jax.tree.map(lambda a, b: jnp.where(jnp.isnan(b), a, decay * a + (1 - decay) * b), old, new)

    averages = feedback.replace(
        progress=average(feedback.progress, signals.progress),
        gain=average(feedback.gain, signals.gain, c.every),
        zero_gain=average(feedback.zero_gain, signals.zero_gain, c.every),
    )
    if feedback.units is not None:
        averages = averages.replace(units=average(feedback.units, signals.units))
    share = RULES[c.mode](c, averages, step)
    capacity = c.lead_capacity + (c.max_capacity - c.lead_capacity) * jnp.clip(share, 0, 1)
    return averages.replace(capacity=jnp.maximum(feedback.capacity, capacity))


def capacity_of(config: ConfigDict, feedback: Feedback, schedule: diffusion.Schedule, t: jax.Array) -> jax.Array:
    """C in nats: [] for the whole batch; [B] in the mode `timestep`, in which each sample has its own C."""
    return timestep_capacity(config, schedule, t) if config.feedback.mode == "timestep" else feedback.capacity


def timestep_capacity(config: ConfigDict, schedule: diffusion.Schedule, t: jax.Array) -> jax.Array:
    """C [B] = C_max I(t) / I(0). I(t) is the capacity of the channel x_0 -> x_t: 0 at t = T, rising as t falls."""
    information = jnp.asarray(schedule.information)
    return config.feedback.max_capacity * information[t] / information[0]


def vae_input(config: ConfigDict, noised: diffusion.Noised) -> jax.Array:
    """The images that the VAE encodes: x_0, or x_t. With x_t the KL can follow C(t) in the mode `timestep`."""
    return noised.x_t if config.feedback.encode_noisy else noised.x0


# --- The signals ---


def measure(
    config: ConfigDict,
    schedule: diffusion.Schedule,
    networks: Networks,
    params: dict,
    z: jax.Array,
    error: jax.Array,
    noised: diffusion.Noised,
    step: jax.Array,
) -> Signals:
    """The signals of a batch. They have no gradient, and they do not depend on what the network predicts.

    The gains compare squared errors in x_0. At a large t, where x_t shows little of the image, these errors are large:
    there z matters most.

    Args:
      z: the code that conditions the denoiser [B, d].
      error: L_diff of each image with this code [B].
    """
    params, z, error = jax.lax.stop_gradient((params, z, error))
    prediction = prediction_of(config)
    progress = recovered_information(schedule, prediction, error, noised.x0, noised.t)

    # The gains take three passes of the denoiser on part of the batch, every `feedback.every` steps; else they are NaN.
    # Three calls, not one with vmap: with that `plan` finds 143 all-gathers on four chips.
    z, part = jax.tree.map(lambda a: a[: config.feedback.probe_size], (z, noised))

    def error_with(z):
        return diffusion.x0_squared_error(networks.denoiser(params, z), prediction, part).mean()

    def probe():
        right = error_with(z)
        return jnp.log(error_with(jnp.roll(z, 1, axis=0)) / right), jnp.log(error_with(jnp.zeros_like(z)) / right)

    unmeasured = jnp.float32(jnp.nan)
    with jax.named_scope("probe"):
        gains = jax.lax.cond(step % config.feedback.every == 0, probe, lambda: (unmeasured, unmeasured))
    return Signals(progress, *gains)


def recovered_information(
    schedule: diffusion.Schedule, prediction: Prediction, error: jax.Array, x0: jax.Array, t: jax.Array
) -> jax.Array:
    """The share of information that the denoiser recovers along the reverse process [].

    By the I-MMSE relation (Guo et al. 2005), an error mmse(snr) in x_0 corresponds to dI = 1/2 mmse dsnr nats. The best
    pixelwise linear denoiser, which uses only the pixels' second moment s, has the error s / (1 + s snr). The recovered
    share at t is 1 - error / (s / (1 + s snr)): 0 for the linear denoiser, 1 for a perfect one. The result is the mean
    share with weights dI = d 1/2 log(1 + s snr), estimated from the timesteps of the batch.

    Args:
      error: L_diff of each image [B].
      x0, t: the images [B, ...] and their timesteps [B].
    """
    second_moment = jnp.square(x0).mean()
    snr = jnp.asarray(schedule.alpha_bar / (1 - schedule.alpha_bar), jnp.float32)
    information = 0.5 * jnp.log1p(second_moment * snr)  # [T], decreasing in t
    d_information = -jnp.diff(information, append=0.0)  # [T], information added by the step t + 1 -> t
    linear_error = second_moment / (1 + second_moment * snr[t])
    signal, noise = jnp.asarray(schedule.signal)[t], jnp.asarray(schedule.noise)[t]
    share = 1 - prediction.x0_error(error, signal, noise) / linear_error
    weight = d_information[t] * schedule.num_steps / information[0]
    return (weight * share).mean()
