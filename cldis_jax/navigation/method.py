"""The method of navigation: directions of a latent space whose effects a second network recognises, without labels.

Voynov & Babenko 2020 (arXiv 2002.03754) on a frozen decoder:

    z' = z + A (eps e_k)    x, x' = decode(z, x_T), decode(z', x_T)    R(x, x') -> k, eps

A and the reconstructor R learn together. Pure functions of arrays; the decoder is any function `(z, x_T) -> images`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from einops import rearrange
from flax import struct
from ml_collections import ConfigDict

from cldis_jax.models.reconstructor import Reconstructor
from cldis_jax.runtime.errors import UserError

BASES = ("ortho", "unit", "identity")
DECODERS = ("ddim", "x0", "vae")
STARTS = ("random", "axes")
Decode = Callable[[jax.Array, jax.Array], jax.Array]  # (z [N, d], x_T [N, H, W, C]) -> images [N, H, W, C]


@struct.dataclass
class NavigationState:
    step: jax.Array  # int32 []
    params: dict[str, Any]  # `directions`: the parameter of A; `reconstructor`
    opt_state: optax.OptState
    ema: None = None  # no averages


def default_config() -> ConfigDict:
    """The settings of a search for directions, every field present."""
    config = ConfigDict()
    config.num_directions = 10  # K
    config.basis = "ortho"  # ortho: K columns of expm(S - S^T) | unit: columns of length 1 | identity: not learnt
    config.start = "random"  # of A: random | axes
    config.min_shift = 0.5  # |eps|, in standard deviations of z
    config.max_shift = 6.0
    config.shift_weight = 0.25  # of |eps' - eps| beside the cross-entropy
    config.learning_rate = 1e-4  # Adam, R
    config.directions_learning_rate = 1e-4  # Adam, A
    config.width = 32  # channels of R's first level
    config.decoder = "ddim"  # ddim: the model's own | x0: one prediction of x_0 | vae: the VAE's, for z_disen
    config.decode_steps = 5  # ddim: steps that the gradient flows through
    config.noise_level = 900  # x0: the t at which x_T is denoised; high, because x_T is pure noise
    config.num_codes = 4096  # training images whose codes are moved
    config.model_step = 0  # of the frozen model
    config.data = ConfigDict({"batch_size": 32})  # pairs
    config.train = ConfigDict({"steps": 20_000, "seed": 0, "accumulate": 1, "log_every": 50})
    config.sharding = ConfigDict({"mesh": ConfigDict({"data": -1, "fsdp": 1})})
    return config


def validate(config: ConfigDict, latent_dim: int) -> None:
    """Raise UserError for settings that can't be run on a latent of `latent_dim` dimensions."""
    for name, choices in (("basis", BASES), ("start", STARTS), ("decoder", DECODERS)):
        if config[name] not in choices:
            raise UserError(f"{name}={config[name]!r} is not one of: {', '.join(choices)}")
    if config.num_directions < 1:
        raise UserError(f"num_directions={config.num_directions} must be at least 1")
    if config.basis != "unit" and config.num_directions > latent_dim:
        raise UserError(
            f"num_directions={config.num_directions} is more than the {latent_dim} dimensions of z, and {config.basis} "
            f"directions are orthonormal; use at most {latent_dim}, or basis=unit"
        )
    if config.start == "axes" and config.num_directions > latent_dim:
        raise UserError(
            f"num_directions={config.num_directions} is more than the {latent_dim} axes of z that start=axes can take; "
            f"use at most {latent_dim}, or start=random"
        )
    if not 0 <= config.min_shift < config.max_shift:
        raise UserError(f"shifts need 0 <= min < max, got min_shift={config.min_shift}, max_shift={config.max_shift}")
    for name in ("learning_rate", "directions_learning_rate", "width", "decode_steps", "num_codes"):
        if not config[name] > 0:
            raise UserError(f"{name}={config[name]} must be positive")
    if config.data.batch_size < 1 or config.train.steps < 1:
        raise UserError(f"batch_size={config.data.batch_size} and steps={config.train.steps} must be at least 1")


# --- A ---


def init_directions(config: ConfigDict, latent_dim: int, key: jax.Array) -> jax.Array:
    """The parameter of A: S [d, d] for `ortho`, else columns [d, K]."""
    shape = (latent_dim, latent_dim if config.basis == "ortho" else config.num_directions)
    if config.basis == "identity" or (config.basis == "unit" and config.start == "axes"):
        return jnp.eye(*shape)
    return jnp.zeros(shape) if config.start == "axes" else jax.random.normal(key, shape)


def direction_matrix(config: ConfigDict, parameter: jax.Array) -> jax.Array:
    """A [d, K], each column a direction of length 1 in standard deviations of z."""
    if config.basis == "ortho":
        return jax.scipy.linalg.expm(parameter - parameter.T)[:, : config.num_directions]
    if config.basis == "unit":
        return parameter / jnp.linalg.norm(parameter, axis=0, keepdims=True)
    return jax.lax.stop_gradient(parameter)


# --- One step ---


def make_reconstructor(config: ConfigDict, dtype: Any = jnp.float32) -> Reconstructor:
    return Reconstructor(config.num_directions, config.width, dtype=dtype)


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Adam, with one rate for A and one for R."""
    rates = {"directions": config.directions_learning_rate, "reconstructor": config.learning_rate}
    return optax.partition({name: optax.adam(rate) for name, rate in rates.items()}, {name: name for name in rates})


def create_state(
    config: ConfigDict, reconstructor: Reconstructor, latent_dim: int, image_shape: tuple[int, int, int]
) -> NavigationState:
    """The state before the first step, from the seed."""
    key_A, key_R = jax.random.split(jax.random.key(config.train.seed))
    height, width, channels = image_shape
    params = {
        "directions": init_directions(config, latent_dim, key_A),
        "reconstructor": reconstructor.init(key_R, jnp.zeros((1, height, width, 2 * channels)))["params"],
    }
    return NavigationState(jnp.zeros((), jnp.int32), params, make_optimizer(config).init(params))


@struct.dataclass
class Shifts:
    """One batch: codes, their x_T, and the direction and distance of each shift."""

    z: jax.Array  # [B, d]
    x_T: jax.Array  # [B, H, W, C]
    k: jax.Array  # int32 [B]
    eps: jax.Array  # [B], standard deviations; min_shift <= |eps| <= max_shift


def draw_shifts(config: ConfigDict, codes: jax.Array, image_shape: tuple[int, int, int], key: jax.Array) -> Shifts:
    """Codes from `codes` [N, d], k uniform, eps uniform in +-[min_shift, max_shift], x_T ~ N(0, I)."""
    num = config.data.batch_size
    key_rows, key_noise, key_k, key_size, key_sign = jax.random.split(key, 5)
    size = jax.random.uniform(key_size, (num,), minval=config.min_shift, maxval=config.max_shift)
    return Shifts(
        z=codes[jax.random.randint(key_rows, (num,), 0, len(codes))],
        x_T=jax.random.normal(key_noise, (num, *image_shape)),
        k=jax.random.randint(key_k, (num,), 0, config.num_directions),
        eps=size * jax.random.rademacher(key_sign, (num,), jnp.float32),
    )


def reconstruct(
    params: dict[str, Any],
    config: ConfigDict,
    decode: Decode,
    reconstructor: Reconstructor,
    scales: jax.Array,
    shifts: Shifts,
) -> tuple[jax.Array, jax.Array]:
    """R's logits [B, K] and shift [B] for the pairs of original and shifted images; `scales` [d] are the std of z."""
    A = direction_matrix(config, params["directions"])
    z_shifted = shifts.z + scales[None] * A.T[shifts.k] * shifts.eps[:, None]
    # The two images of a pair are neighbours, so that no pair is split over two devices.
    z = rearrange(jnp.stack([shifts.z, z_shifted], axis=1), "b two d -> (b two) d")
    images = decode(z, shifts.x_T.repeat(2, axis=0))
    pairs = rearrange(images, "(b two) h w c -> b h w (two c)", two=2)
    return reconstructor.apply({"params": params["reconstructor"]}, pairs)


def navigation_loss(
    params: dict[str, Any],
    config: ConfigDict,
    decode: Decode,
    reconstructor: Reconstructor,
    scales: jax.Array,
    shifts: Shifts,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """CE(k', k) + 0.25 |eps' - eps|; and its parts, with R's accuracy."""
    logits, eps = reconstruct(params, config, decode, reconstructor, scales, shifts)
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels(logits, shifts.k).mean()
    shift_error = jnp.abs(eps - shifts.eps).mean()
    loss = cross_entropy + config.shift_weight * shift_error
    accuracy = (logits.argmax(-1) == shifts.k).mean()
    return loss, {"loss": loss, "cross_entropy": cross_entropy, "shift_error": shift_error, "accuracy": accuracy}


def train_step(
    config: ConfigDict,
    decode: Decode,
    reconstructor: Reconstructor,
    image_shape: tuple[int, int, int],
    codes: jax.Array,
    scales: jax.Array,
    state: NavigationState,
) -> tuple[NavigationState, dict[str, jax.Array]]:
    """One step of A and R: the next state and the step's scalars.

    All randomness is fold_in(seed, step), so that a resumed search equals an uninterrupted one.
    """
    key = jax.random.fold_in(jax.random.key(config.train.seed), state.step)
    shifts = draw_shifts(config, codes, image_shape, key)
    gradient, scalars = jax.grad(navigation_loss, has_aux=True)(
        state.params, config, decode, reconstructor, scales, shifts
    )
    updates, opt_state = make_optimizer(config).update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    scalars |= {f"gradient_norm/{name}": optax.global_norm(g) for name, g in gradient.items()}
    return state.replace(step=state.step + 1, params=params, opt_state=opt_state), scalars


def test_step(
    params: dict[str, Any],
    config: ConfigDict,
    decode: Decode,
    reconstructor: Reconstructor,
    image_shape: tuple[int, int, int],
    codes: jax.Array,
    scales: jax.Array,
    key: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """On a fresh batch: the directions k [B], whether R recognised them [B], and |eps' - eps| [B]."""
    shifts = draw_shifts(config, codes, image_shape, key)
    logits, eps = reconstruct(params, config, decode, reconstructor, scales, shifts)
    return shifts.k, logits.argmax(-1) == shifts.k, jnp.abs(eps - shifts.eps)
