"""The method: CL-Dis, the two branches and the loop between them (arXiv 2402.02346).

    x0 -- E_sem --> z_sem --> conditions every step of x_T -> ... -> x_0          Diff-AE
                      ^                                  |
                      | L_dt, distillation               | information grows along the reverse process
                      |                                  v
    x -- q_phi(z|x) --> z_disen --> p_theta(x|z)      C of beta |KL - C|          beta-VAE

Pure functions of arrays: no sharding, no logging, no input or output. What the paper leaves open is a config field,
marked [choice] in configs/default.py.
"""

import functools

import jax
import jax.numpy as jnp
from flax import struct
from ml_collections import ConfigDict

from cldis_jax.method import diffusion, losses
from cldis_jax.models import Networks

FOLLOWING_MODES = ("progress", "gain")  # C follows what the denoiser shows
OPEN_LOOP_MODES = ("anneal", "fixed")
FEEDBACK_MODES = ("timestep", *FOLLOWING_MODES, *OPEN_LOOP_MODES)
DISTILLATION_SCHEDULES = ("constant", "adaptive")


@struct.dataclass
class Feedback:
    """What the VAE knows of the diffusion side; part of the train state."""

    capacity: jax.Array  # C, nats []; never falls
    progress: jax.Array  # EMA of the share of information that the denoiser recovers []
    gain: jax.Array  # EMA of log(L_diff with z shuffled / L_diff with the right z) []
    zero_gain: jax.Array  # the same with z = 0 in place of the shuffled one []


@struct.dataclass
class LoopOutput:
    """Everything that a step hands on beside the loss itself."""

    scalars: dict[str, jax.Array]  # the terms, for the log, each []
    progress: jax.Array  # this batch's share of recovered information []
    gain: jax.Array  # this batch's log gain of z over a shuffled one []; NaN where it wasn't measured
    zero_gain: jax.Array  # and over z = 0 []
    z_sem: jax.Array  # [B, d]
    z_disen: jax.Array  # [B, d], posterior means


def schedule_of(config: ConfigDict) -> diffusion.Schedule:
    """The forward process that the config names."""
    c = config.diffusion
    return diffusion.linear_schedule(c.num_steps, c.beta_start, c.beta_end)


def initial_feedback(config: ConfigDict) -> Feedback:
    """Feedback before the first step: no signal, C at its lead (or at C_max, where it is fixed)."""
    c = config.feedback
    capacity = c.max_capacity if c.mode == "fixed" else c.lead_capacity
    nothing = jnp.float32(0)
    return Feedback(capacity=jnp.float32(capacity), progress=nothing, gain=nothing, zero_gain=nothing)


def closed_loop_loss(
    params: dict,
    networks: Networks,
    config: ConfigDict,
    x0: jax.Array,
    feedback: Feedback,
    step: jax.Array,
    key: jax.Array,
) -> tuple[jax.Array, LoopOutput]:
    """L = L_diff + lambda_dt L_dt + lambda_vae L_vae, and what it was made of.

    Args:
      params: parameters by network, as from `models.init_params`.
      x0: images [B, H, W, C] in [-1, 1].
      feedback: the loop's state before this step.
      step: the optimiser step [].
      key: this step's random key.
    """
    schedule = schedule_of(config)
    keys = {name: jax.random.fold_in(key, i) for i, name in enumerate(("t", "eps", "z", "swap", "dropout"))}
    batch_size = x0.shape[0]
    has_diffusion, has_vae = networks.unet is not None, networks.beta_vae is not None
    distils = has_diffusion and has_vae and config.distillation.weight > 0
    nothing = jnp.float32(0)
    z_sem = mean = log_var = jnp.zeros((batch_size, config.model.latent_dim))
    L_diff = L_vae = L_dt = nothing
    scalars = {}

    # The forward process: x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, t uniform.
    t = jax.random.randint(keys["t"], (batch_size,), 0, schedule.num_steps)
    eps = jax.random.normal(keys["eps"], x0.shape)
    x_t = diffusion.q_sample(schedule, x0, t, eps)

    # The co-pilot: z_disen ~ q_phi(z|x) = N(mu, sigma^2), prior N(0, I).
    if has_vae:
        encoded = x_t if config.feedback.encode_noisy else x0
        mean, log_var = networks.beta_vae.apply({"params": params["beta_vae"]}, encoded, method="encode")
        noise = jnp.exp(0.5 * log_var) * jax.random.normal(keys["z"], mean.shape)
        z_disen = mean + noise

    # The backbone: z_sem = E_sem(x_0), which conditions every denoising step.
    if has_diffusion:
        z_sem = networks.semantic_encoder.apply({"params": params["semantic_encoder"]}, x0)
        z = z_sem
        if config.distillation.listen_steps > 0 and distils:  # at first L_dt alone moves it
            z = jnp.where(step < config.distillation.listen_steps, jax.lax.stop_gradient(z_sem), z_sem)
        if config.feedback.swap_probability > 0 and has_vae:
            swap = jax.random.bernoulli(keys["swap"], config.feedback.swap_probability, (batch_size, 1))
            if config.feedback.swap_steps > 0:
                swap &= step < config.feedback.swap_steps
            z = jnp.where(swap, z_disen, z)

    # 1. L_diff
    progress = gain = zero_gain = nothing
    if has_diffusion:
        target = diffusion.prediction_target(schedule, config.diffusion.prediction, x0, t, eps)
        denoise = functools.partial(networks.unet.apply, {"params": params["unet"]})
        output = denoise(x_t, t, z, train=True, rngs={"dropout": keys["dropout"]})
        error = jnp.square(output - target).mean(axis=(1, 2, 3))  # [B]
        L_diff = error.mean()
        progress = recovered_information(config, schedule, jax.lax.stop_gradient(error), x0, t)
        frozen = functools.partial(networks.unet.apply, {"params": jax.lax.stop_gradient(params["unet"])})
        gain, zero_gain = z_gains(config, frozen, x_t, t, z, target, step)

    # 2. L_vae = -log p_theta(x|z) + beta |KL(q_phi(z|x) || p(z)) - C|, the capacity C set by the diffusion side
    if has_vae:
        kl = losses.gaussian_kl(mean, log_var)  # [B, d]
        if config.feedback.mode == "timestep":
            capacity = timestep_capacity(config, schedule, t)  # [B]: each sample its own
            total_kl = kl.sum(-1)
        else:
            capacity = feedback.capacity
            total_kl = kl.sum(-1).mean()
        c = config.vae

        def nll(z):
            decoded = networks.beta_vae.apply({"params": params["beta_vae"]}, z, method="decode")
            return losses.negative_log_likelihood(c.likelihood, x0, decoded, c.gaussian_std).mean()

        reconstruction = nll(z_disen)
        if c.antithetic:  # Wu et al. 2019: noise that the two have in common cancels
            reconstruction = (reconstruction + nll(mean - noise)) / 2
        penalty = losses.capacity_penalty(c.capacity_form, total_kl, capacity, c.beta, c.beta_min).mean()
        L_vae = reconstruction + penalty
        scalars |= {
            "vae/reconstruction": reconstruction,
            "vae/kl": kl.sum(-1).mean(),
            "vae/capacity": capacity.mean(),
            "vae/active_units": (mean.var(axis=0) > 0.01).sum().astype(jnp.float32),  # Burda et al. 2016
        }

    # 3. L_dt: z_sem mimics the distribution of z_disen
    lambda_dt = config.distillation.weight
    if distils:
        c = config.distillation
        teacher = mean if c.teacher_gradient else jax.lax.stop_gradient(mean)
        frozen_log_var, told = jax.lax.stop_gradient((log_var, kl.mean(0, keepdims=True)))
        heed = jnp.minimum(told, 1) if c.weigh_units else 1.0  # a unit left silent has the prior's distribution already
        L_dt = losses.distillation(c.form, z_sem, teacher, frozen_log_var, c.sigma_floor, heed).mean()
        if c.schedule == "adaptive":  # a teacher that says little is listened to little
            said = jax.lax.stop_gradient(scalars["vae/kl"]) / config.feedback.max_capacity
            lambda_dt = lambda_dt * jnp.clip(said, 0, 1)

    # 4. The sum
    loss = config.diffusion.weight * L_diff + lambda_dt * L_dt + config.vae.weight * L_vae

    scalars |= {"loss": loss, "L_diff": L_diff, "L_vae": L_vae, "L_dt": L_dt, "lambda_dt": jnp.float32(lambda_dt)}
    return loss, LoopOutput(scalars, progress=progress, gain=gain, zero_gain=zero_gain, z_sem=z_sem, z_disen=mean)


# --- The loop: how the diffusion side sets C ---


def timestep_capacity(config: ConfigDict, schedule: diffusion.Schedule, t: jax.Array) -> jax.Array:
    """C [B] = C_max I(t) / I(0): the capacity of the channel x_0 -> x_t, 0 at t = T and rising as t falls."""
    information = jnp.asarray(schedule.information)
    return config.feedback.max_capacity * information[t] / information[0]


def recovered_information(
    config: ConfigDict, schedule: diffusion.Schedule, error: jax.Array, x0: jax.Array, t: jax.Array
) -> jax.Array:
    """The share of information that the denoiser recovers along the reverse process [].

    By the I-MMSE relation (Guo et al. 2005) an error in x_0 of mmse(snr) is worth 1/2 mmse dsnr nats. A denoiser that
    knows only the pixels' second moment s leaves s / (1 + s snr). The share 1 - error / that, weighted by
    dI = d 1/2 log(1 + s snr), is 0 for such a denoiser and 1 for a perfect one; the batch's timesteps sample it.

    Args:
      error: squared error in the network's own units, mean over pixels [B], at timesteps `t` [B] of images `x0`.
    """
    second_moment = jnp.square(x0).mean()
    snr = jnp.asarray(schedule.alpha_bar / (1 - schedule.alpha_bar), jnp.float32)
    information = 0.5 * jnp.log1p(second_moment * snr)  # [T], falling in t
    d_information = -jnp.diff(information, append=0.0)  # [T], what the step t + 1 -> t adds
    ignorant = second_moment / (1 + second_moment * snr[t])
    share = 1 - diffusion.x0_error(schedule, config.diffusion.prediction, error, t) / ignorant
    weight = d_information[t] * schedule.num_steps / information[0]
    return (weight * share).mean()


def z_gains(config, denoise, x_t, t, z, target, step) -> tuple[jax.Array, jax.Array]:
    """log(L_diff with z shuffled in the batch / L_diff with the right z) of a part of the batch [], and with z = 0 [].

    Measured every `feedback.every` steps, NaN in between; 0 says that the denoiser ignores z. z is what conditions the
    denoiser: z_sem, and while samples are swapped z_disen of those.
    """
    n = min(config.feedback.probe_size, x_t.shape[0])
    x_t, t, z, target = jax.lax.stop_gradient((x_t[:n], t[:n], z[:n], target[:n]))

    def measure():
        def loss(z):
            return jnp.square(denoise(x_t, t, z) - target).mean()

        right = loss(z)
        return jnp.log(loss(jnp.roll(z, 1, axis=0)) / right), jnp.log(loss(jnp.zeros_like(z)) / right)

    unmeasured = jnp.float32(jnp.nan)
    return jax.lax.cond(step % config.feedback.every == 0, measure, lambda: (unmeasured, unmeasured))


def close_loop(config: ConfigDict, feedback: Feedback, output: LoopOutput, step: jax.Array) -> Feedback:
    """The feedback after a step: moving averages of what the denoiser shows, and C, which never falls."""
    c = config.feedback

    def average(old, new, steps=1):  # `steps`: how many pass between two measurements
        decay = c.ema_decay**steps
        return jnp.where(jnp.isnan(new), old, decay * old + (1 - decay) * new)

    progress = average(feedback.progress, output.progress)
    gain, zero_gain = (average(getattr(feedback, k), getattr(output, k), c.every) for k in ("gain", "zero_gain"))
    signal = {
        "progress": progress / c.reference,
        "gain": gain / c.reference,
        "anneal": (step + 1) / c.anneal_steps,  # Burgess et al. 2018, open loop
        "fixed": 1.0,  # open loop
        "timestep": 1.0,  # C is each sample's own, from its t
    }[c.mode]
    capacity = c.lead_capacity + (c.max_capacity - c.lead_capacity) * jnp.clip(signal, 0, 1)
    capacity = jnp.maximum(feedback.capacity, capacity)
    return Feedback(capacity=capacity, progress=progress, gain=gain, zero_gain=zero_gain)
