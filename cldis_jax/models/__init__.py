"""The networks of the closed loop, built from a config. A branch of weight 0 is not built."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from ml_collections import ConfigDict

from cldis_jax.models.beta_vae import BetaVAE, num_stages
from cldis_jax.models.semantic_encoder import SemanticEncoder, StridedEncoder
from cldis_jax.models.unet import UNet

CONDITIONINGS = ("adagn", "cross_attention")
MOST_SIZES = 64  # times the image size, up to which another size is looked for


@struct.dataclass
class Networks:
    """The modules; None for a branch of weight 0."""

    unet: UNet | None = struct.field(pytree_node=False, default=None)
    semantic_encoder: SemanticEncoder | StridedEncoder | None = struct.field(pytree_node=False, default=None)
    beta_vae: BetaVAE | None = struct.field(pytree_node=False, default=None)

    def encode_semantic(self, params: dict, x: jax.Array) -> jax.Array:
        """z_sem = E_sem(x) [B, d] of images [B, H, W, C] in [-1, 1]."""
        return self.semantic_encoder.apply({"params": params["semantic_encoder"]}, x)

    def encode_posterior(self, params: dict, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(mean, log variance) of q_phi(z|x), each [B, d]."""
        return self.beta_vae.apply({"params": params["beta_vae"]}, x, method="encode")

    def decode_vae(self, params: dict, z: jax.Array) -> jax.Array:
        """The VAE decoder's raw output [B, H, W, C]."""
        return self.beta_vae.apply({"params": params["beta_vae"]}, z, method="decode")

    def denoiser(self, params: dict, z: jax.Array, dropout: jax.Array | None = None) -> Callable[..., jax.Array]:
        """The function (x_t, t) -> U-Net output, for codes z [B, d]. A key `dropout` switches dropout on."""
        options = {} if dropout is None else {"train": True, "rngs": {"dropout": dropout}}
        return lambda x_t, t: self.unet.apply({"params": params["unet"]}, x_t, t, z, **options)


def _strided(config: ConfigDict) -> str:
    """What halves the image `num_stages` times in the networks of the config, for a message; empty if nothing does."""
    if config.vae.weight > 0:
        return "the VAE"
    return "model.encoder=strided" if config.diffusion.weight > 0 and config.model.encoder == "strided" else ""


def _levels(config: ConfigDict) -> tuple[str, ...]:
    """The fields with the levels of the U-Net and, unless E_sem is strided, of E_sem."""
    of_e_sem = () if config.model.encoder == "strided" else ("encoder_multipliers",)
    return ("channel_multipliers", *of_e_sem)


def _fits(config: ConfigDict, size: int) -> bool:
    """Whether the networks of the config take images of `size` pixels a side."""
    m, stages = config.model, num_stages(size)
    if _strided(config) and (stages < 1 or size % 2**stages):
        return False
    levels = max(len(config.model[name]) for name in _levels(config))
    return config.diffusion.weight == 0 or size % (m.patch_size * 2 ** (levels - 1)) == 0


def _nearest_sizes(config: ConfigDict) -> str:
    """The nearest image sizes below and above that of the config that fit, as the end of a message."""
    size = config.data.image_size
    ways = range(size - 1, 0, -1), range(size + 1, MOST_SIZES * size)
    found = [next((str(other) for other in way if _fits(config, other)), "") for way in ways]
    return f"; the nearest sizes that fit are {' and '.join(filter(None, found))}" if any(found) else ""


def validate(config: ConfigDict) -> None:
    """Check that the sizes of a config fit each other. Builds no network.

    Raises:
      ValueError: the first size that does not fit, in one line.
    """
    m, size = config.model, config.data.image_size
    if m.conditioning not in CONDITIONINGS:
        raise ValueError(f"model.conditioning={m.conditioning!r} is not one of: {', '.join(CONDITIONINGS)}")
    for name in ("latent_dim", "embed_dim", "base_channels", "num_res_blocks", "token_dim", "patch_size"):
        if m[name] < 1:
            raise ValueError(f"model.{name}={m[name]} must be at least 1")
    if strided := _strided(config):
        stages = num_stages(size)
        if stages < 1:
            raise ValueError(f"data.image_size={size} is too small for {strided}, which needs at least 4 pixels a side")
        if size % 2**stages:
            raise ValueError(
                f"data.image_size={size} can't be halved {stages} times, as {strided} needs{_nearest_sizes(config)}"
            )
        for name in ("base_channels", "hidden_dim"):
            if config.vae[name] < 1:
                raise ValueError(f"vae.{name}={config.vae[name]} must be at least 1")
    if config.diffusion.weight == 0:
        return
    if size % m.patch_size:
        raise ValueError(
            f"model.patch_size={m.patch_size} does not divide data.image_size={size}{_nearest_sizes(config)}"
        )
    for name in _levels(config):
        multipliers, side = m[name], size // m.patch_size
        if not multipliers or min(multipliers) < 1:
            raise ValueError(f"model.{name}={multipliers} needs at least one level, each at least 1")
        if side % 2 ** (len(multipliers) - 1):
            raise ValueError(
                f"data.image_size={size} (patched to {side}) can't be halved {len(multipliers) - 1} times, "
                f"as model.{name}={tuple(multipliers)} needs{_nearest_sizes(config)}"
            )
    if m.base_channels % 2:
        raise ValueError(f"model.base_channels={m.base_channels} must be even: the time embedding pairs cos and sin")


def compute_dtype(config: ConfigDict, platform: str | None = None) -> Any:
    """The dtype of activations on a platform (default: the platform of this process).

    With `train.precision` = `auto` it is float32 on CPU and bfloat16 elsewhere.
    """
    precision = config.train.precision
    if precision == "auto":
        precision = "float32" if (platform or jax.default_backend()) == "cpu" else "bfloat16"
    return jnp.dtype(precision)


def make_networks(config: ConfigDict, dtype: Any = jnp.float32) -> Networks:
    """The networks of a config, with activations of `dtype` and float32 parameters."""
    validate(config)
    m, data, vae = config.model, config.data, config.vae
    unet = semantic_encoder = beta_vae = None
    if config.diffusion.weight > 0:
        shared = {
            "base_channels": m.base_channels,
            "num_res_blocks": m.num_res_blocks,
            "attention_resolutions": tuple(m.attention_resolutions),
            "patch_size": m.patch_size,
            "remat": m.remat,
            "narrow_groups": m.narrow_groups,
            "dtype": dtype,
        }
        unet = UNet(
            channel_multipliers=tuple(m.channel_multipliers),
            embed_dim=m.embed_dim,
            dropout=m.dropout,
            conditioning=m.conditioning,
            token_dim=m.token_dim,
            cross_attention_side=m.cross_attention_side,
            **shared,
        )
        if m.encoder == "strided":
            semantic_encoder = StridedEncoder(m.latent_dim, vae.base_channels, vae.hidden_dim, dtype)
        else:
            semantic_encoder = SemanticEncoder(
                latent_dim=m.latent_dim, channel_multipliers=tuple(m.encoder_multipliers), **shared
            )
    if vae.weight > 0:
        beta_vae = BetaVAE(data.image_size, data.channels, m.latent_dim, vae.base_channels, vae.hidden_dim, dtype)
    return Networks(unet, semantic_encoder, beta_vae)


def init_params(networks: Networks, config: ConfigDict, key: jax.Array) -> dict[str, Any]:
    """float32 parameters by network (`unet`, `semantic_encoder`, `beta_vae`), for the networks that exist."""
    data = config.data
    images = jnp.zeros((1, data.image_size, data.image_size, data.channels))
    inputs = {
        "unet": (images, jnp.zeros(1, jnp.int32), jnp.zeros((1, config.model.latent_dim))),
        "semantic_encoder": (images,),
        "beta_vae": (images,),
    }
    params = {}
    for i, (name, arguments) in enumerate(inputs.items()):
        network = getattr(networks, name)
        if network is not None:
            params[name] = network.init(jax.random.fold_in(key, i), *arguments)["params"]
    return params
