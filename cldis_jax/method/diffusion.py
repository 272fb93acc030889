"""Gaussian diffusion in the conventions of Diff-AE: schedule, forward process, DDIM decoding and encoding.

Tables are computed in float64 and used in float32. A denoiser is any function `(x_t, t) -> output`.
Sources: Ho et al. 2020 (arXiv 2006.11239), Song et al. 2021 (DDIM, arXiv 2010.02502), Salimans & Ho 2022 (v-prediction,
arXiv 2202.00512), Preechakul et al. 2022 (Diff-AE, arXiv 2111.15640).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cldis_jax.method.prediction import Prediction

Denoiser = Callable[[jax.Array, jax.Array], jax.Array]  # (x_t [B, H, W, C], t [B]) -> network output [B, H, W, C]


class Schedule(NamedTuple):
    """x_t = signal[t] x_0 + noise[t] eps, with signal = sqrt(alpha_bar) and noise = sqrt(1 - alpha_bar)."""

    alpha_bar: np.ndarray  # [T] float64
    signal: np.ndarray  # [T] float32
    noise: np.ndarray  # [T] float32
    information: np.ndarray  # [T] float32, nats per pixel: I(t) = 1/2 log(1 + SNR(t)) of the channel x_0 -> x_t

    @property
    def num_steps(self) -> int:
        return len(self.alpha_bar)


def make_schedule(betas: np.ndarray) -> Schedule:
    """The schedule with noise variances `betas` [T], each in (0, 1)."""
    alpha_bar = np.cumprod(1.0 - np.asarray(betas, np.float64))
    return Schedule(
        alpha_bar=alpha_bar,
        signal=np.sqrt(alpha_bar).astype(np.float32),
        noise=np.sqrt(1.0 - alpha_bar).astype(np.float32),
        information=(-0.5 * np.log1p(-alpha_bar)).astype(np.float32),  # 1 + SNR = 1 / (1 - alpha_bar)
    )


def linear_schedule(num_steps: int, beta_start: float, beta_end: float) -> Schedule:
    """Linear betas [Ho et al. 2020]. Diff-AE uses 1000 steps, from 1e-4 to 2e-2, for images."""
    return make_schedule(np.linspace(beta_start, beta_end, num_steps, dtype=np.float64))


def constant_schedule(num_steps: int, beta: float) -> Schedule:
    """Constant betas. Diff-AE uses 1000 steps of 0.008 for its latent prior."""
    return make_schedule(np.full(num_steps, beta, np.float64))


def schedule_of(config: ConfigDict) -> Schedule:
    """The schedule that a config describes."""
    c = config.diffusion
    return linear_schedule(c.num_steps, c.beta_start, c.beta_end)


def per_sample(table: np.ndarray, t: jax.Array, ndim: int) -> jax.Array:
    """table[t] as [B, 1, ..., 1], to broadcast against arrays of `ndim` dimensions."""
    return jnp.asarray(table)[t].reshape((-1,) + (1,) * (ndim - 1))


def q_sample(schedule: Schedule, x0: jax.Array, t: jax.Array, eps: jax.Array) -> jax.Array:
    """x_t ~ q(x_t | x_0) for x0 and eps [B, ...] and t [B]."""
    return per_sample(schedule.signal, t, x0.ndim) * x0 + per_sample(schedule.noise, t, x0.ndim) * eps


# --- The forward process and the errors of a denoiser ---


class Noised(NamedTuple):
    """A batch of images after the forward process."""

    x0: jax.Array  # [B, ...]
    t: jax.Array  # int32 [B]
    x_t: jax.Array  # [B, ...]
    signal: jax.Array  # [B, 1, ..., 1]
    noise: jax.Array  # [B, 1, ..., 1]
    eps: jax.Array  # [B, ...]


def forward_process(schedule: Schedule, x0: jax.Array, key_t: jax.Array, key_eps: jax.Array) -> Noised:
    """Draws t uniformly and x_t ~ q(x_t | x_0) for images x0 [B, ...]."""
    t = jax.random.randint(key_t, x0.shape[:1], 0, schedule.num_steps)
    eps = jax.random.normal(key_eps, x0.shape)
    signal, noise = (per_sample(table, t, x0.ndim) for table in (schedule.signal, schedule.noise))
    return Noised(x0, t, q_sample(schedule, x0, t, eps), signal, noise, eps)


def squared_error(denoise: Denoiser, prediction: Prediction, noised: Noised) -> jax.Array:
    """Weighted squared error of the network's output at each pixel [B, ...]. Its mean is L_diff."""
    signal, noise = noised.signal, noised.noise
    error = denoise(noised.x_t, noised.t) - prediction.target(noised.x0, noised.eps, signal, noise)
    return prediction.weight(signal, noise) * jnp.square(error)


def x0_squared_error(denoise: Denoiser, prediction: Prediction, noised: Noised) -> jax.Array:
    """Squared error of the estimate of x_0 at each pixel [B, ...], clipped to [-1, 1] as in the sampler.

    It has the same value for every prediction of the same denoiser.
    """
    x0 = prediction.x0(denoise(noised.x_t, noised.t), noised.x_t, noised.signal, noised.noise)
    return jnp.square(jnp.clip(x0, -1, 1) - noised.x0)


# --- DDIM ---


class DDIMTables(NamedTuple):
    """One row per kept timestep, in rising t. Rows beyond the number of steps are inactive and cost nothing."""

    t: np.ndarray  # [L] int32, the network's input t
    signal: np.ndarray  # [L] float32
    noise: np.ndarray
    signal_prev: np.ndarray  # one step towards x_0; in the first row (1, 0), which is x_0 itself
    noise_prev: np.ndarray
    signal_next: np.ndarray  # one step towards x_T; in the last row (0, 1), which is pure noise
    noise_next: np.ndarray
    active: np.ndarray  # [L] bool


def ddim_timesteps(num_steps: int, total: int = 1000) -> np.ndarray:
    """The kept timesteps in rising order [num_steps].

    As in the reference implementation: range(total) with the smallest integer stride that keeps exactly `num_steps` of
    them. Most numbers have no such stride; then they are floor(i total / num_steps). A single step is the last one.

    Raises:
      ValueError: a number of steps outside [1, total].
    """
    if not 1 <= num_steps <= total:
        raise ValueError(f"DDIM needs between 1 and {total} steps, got {num_steps}")
    for stride in range(1, total):
        if len(range(0, total, stride)) == num_steps:
            return np.arange(0, total, stride)
    return np.arange(num_steps) * total // num_steps if num_steps > 1 else np.array([total - 1])


def ddim_tables(schedule: Schedule, num_steps: int, *, length: int | None = None) -> DDIMTables:
    """Tables of a DDIM chain, padded to `length` rows so that one compiled chain runs any number of steps."""
    t = ddim_timesteps(num_steps, schedule.num_steps)
    length = num_steps if length is None else length
    if length < num_steps:
        raise ValueError(f"a table of {length} rows can't hold {num_steps} DDIM steps")
    alpha_bar = schedule.alpha_bar[t]
    alpha_bar_prev = np.append(1.0, alpha_bar[:-1])
    alpha_bar_next = np.append(alpha_bar[1:], 0.0)

    def pad(values, dtype=np.float32):
        return np.pad(values, (0, length - num_steps), mode="edge").astype(dtype)

    return DDIMTables(
        t=pad(t, np.int32),
        signal=pad(np.sqrt(alpha_bar)),
        noise=pad(np.sqrt(1 - alpha_bar)),
        signal_prev=pad(np.sqrt(alpha_bar_prev)),
        noise_prev=pad(np.sqrt(1 - alpha_bar_prev)),
        signal_next=pad(np.sqrt(alpha_bar_next)),
        noise_next=pad(np.sqrt(1 - alpha_bar_next)),
        active=np.arange(length) < num_steps,
    )


def denoised(
    denoise: Denoiser, prediction: Prediction, x_t: jax.Array, row: DDIMTables, clip: bool = True
) -> tuple[jax.Array, jax.Array]:
    """(x_0, eps) at one row. As in Diff-AE, x_0 is clipped to [-1, 1], and eps is computed from the clipped x_0."""
    output = denoise(x_t, jnp.full(x_t.shape[:1], row.t))
    x0 = prediction.x0(output, x_t, row.signal, row.noise)
    if clip:
        x0 = jnp.clip(x0, -1.0, 1.0)
    return x0, (x_t - row.signal * x0) / row.noise


def _chain(denoise, prediction, tables, x, *, reverse, clip, remat=False, unroll=False):
    """One network evaluation for each active row of the tables. Inactive rows leave x unchanged."""
    padded = not (isinstance(tables.active, np.ndarray) and tables.active.all())

    def move(x, row):
        x0, eps = denoised(denoise, prediction, x, row, clip)
        if reverse:
            return row.signal_prev * x0 + row.noise_prev * eps
        return row.signal_next * x0 + row.noise_next * eps

    def step(x, row):
        return jax.lax.cond(row.active, move, lambda x, row: x, x, row) if padded else move(x, row), None

    step = jax.checkpoint(step) if remat else step
    tables = jax.tree.map(jnp.asarray, tables)
    return jax.lax.scan(step, x.astype(jnp.float32), tables, reverse=reverse, unroll=unroll)[0]


def ddim_decode(
    denoise: Denoiser,
    prediction: Prediction,
    tables: DDIMTables,
    x_T: jax.Array,
    *,
    clip=True,
    remat=False,
    unroll=False,
) -> jax.Array:
    """x_T -> x_0 by deterministic DDIM (eta = 0) [Song et al. 2021, eq. 12], as one `lax.scan`.

    Args:
      remat: recompute each step in the backward pass. A gradient through the chain then stores one image per step.
      unroll: compile the steps one after the other instead of a loop.
    """
    return _chain(denoise, prediction, tables, x_T, reverse=True, clip=clip, remat=remat, unroll=unroll)


def ddim_encode(
    denoise: Denoiser, prediction: Prediction, tables: DDIMTables, x_0: jax.Array, *, clip=True
) -> jax.Array:
    """x_0 -> x_T by DDIM run backwards, Diff-AE's stochastic encoder [eq. 8]. The last row ends at alpha_bar = 0."""
    return _chain(denoise, prediction, tables, x_0, reverse=False, clip=clip)
