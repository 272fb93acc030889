"""Parameters of the reference implementation of Diff-AE under our names and in our shapes.

Their names and layouts are those of phizaz/diffae (`model/unet.py`, `model/unet_autoenc.py`, `model/latentnet.py`).
`input_blocks.k` counts the stem, then every residual block and every halving. `output_blocks.k` counts every residual
block; a doubling is the last part of the block before it.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from cldis_jax.runtime.errors import UserError

RESIDUAL_BLOCK = {
    "in_layers.0": "norm_in",
    "in_layers.2": "conv_in",
    "emb_layers.1": "time_scale_shift",
    "cond_emb_layers.1": "z_scale",
    "out_layers.0": "norm_out",
    "out_layers.3": "conv_out",
    "skip_connection": "skip",
}
ATTENTION = {"norm": "norm", "qkv": "qkv", "proj_out": "project"}
# Every key under these prefixes must have a leaf in our tree; otherwise the architecture differs.
AUTOENCODER = ("time_embed.", "input_blocks.", "middle_block.", "output_blocks.", "out.", "encoder.")
LATENT_NET = "latent_net."


class WeightsError(UserError):
    """The weights don't fit the config; the message lists all keys that are missing, differ or are left over."""


class Imported(NamedTuple):
    params: dict[str, Any]  # our tree, float32
    used: dict[str, str]  # their key -> our leaf


def _down(blocks: str, config: ConfigDict, multipliers, ours: str, attention: str) -> Iterator[tuple[str, str]]:
    """(their block, ours) down to the coarsest level; `ours` and `attention` are the names' patterns."""
    m, k, side = config.model, 0, config.data.image_size
    for i in range(len(multipliers)):
        for j in range(m.num_res_blocks):
            k += 1
            yield f"{blocks}input_blocks.{k}.0", ours.format(i=i, what=f"block_{j}")
            if side in m.attention_resolutions:
                yield f"{blocks}input_blocks.{k}.1", attention.format(i=i, j=j)
        if i < len(multipliers) - 1:
            k, side = k + 1, side // 2
            yield f"{blocks}input_blocks.{k}.0", ours.format(i=i, what="down")


def _up(config: ConfigDict) -> Iterator[tuple[str, str]]:
    m, k = config.model, 0
    for i in reversed(range(len(m.channel_multipliers))):
        has_attention = config.data.image_size // 2**i in m.attention_resolutions
        for j in range(m.num_res_blocks + 1):
            yield f"output_blocks.{k}.0", f"unet/up_{i}_block_{j}"
            if has_attention:
                yield f"output_blocks.{k}.1", f"unet/up_{i}_block_{j}_attention"
            if i > 0 and j == m.num_res_blocks:
                yield f"output_blocks.{k}.{1 + has_attention}", f"unet/up_{i}_up"
            k += 1


def _middle(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    yield f"{theirs}middle_block.0", f"{ours}/middle_block_0"
    yield f"{theirs}middle_block.1", f"{ours}/middle_attention"
    yield f"{theirs}middle_block.2", f"{ours}/middle_block_1"


def autoencoder_layers(config: ConfigDict) -> dict[str, str]:
    """Their layer -> our `network/.../layer`, for every layer that U-Net and semantic encoder may have."""
    m = config.model
    layers = {
        "time_embed.time_embed.0": "unet/time_0",
        "time_embed.time_embed.2": "unet/time_1",
        "input_blocks.0.0": "unet/stem",
        "out.0": "unet/norm",
        "out.2": "unet/head",
        "encoder.input_blocks.0.0": "semantic_encoder/stem",
        "encoder.out.0": "semantic_encoder/norm",
        "encoder.out.3": "semantic_encoder/head",
    }
    blocks = (
        *_down("", config, m.channel_multipliers, "unet/down_{i}_{what}", "unet/down_{i}_block_{j}_attention"),
        *_middle("", "unet"),
        *_up(config),
        *_down(
            "encoder.",
            config,
            m.encoder_multipliers,
            "semantic_encoder/level_{i}_{what}",
            "semantic_encoder/level_{i}_attention_{j}",
        ),
        *_middle("encoder.", "semantic_encoder"),
    )
    for theirs, ours in blocks:
        parts = ATTENTION if "attention" in ours else RESIDUAL_BLOCK
        layers |= {f"{theirs}.{part}": f"{ours}/{name}" for part, name in parts.items()}
    return {theirs: f"{ours}/layer" for theirs, ours in layers.items()}


def latent_layers(num_layers: int) -> dict[str, str]:
    """Their layer -> ours, for the latent prior's MLP; `cond_layers.1` repeats `linear_emb` and is not read."""
    layers = {
        f"{LATENT_NET}time_embed.0": "time_0/layer",
        f"{LATENT_NET}time_embed.2": "time_1/layer",
        f"{LATENT_NET}layers.{num_layers - 1}.linear": "head/layer",
    }
    for i in range(num_layers - 1):
        parts = {"linear": f"linear_{i}", "linear_emb": f"time_scale_{i}", "norm": f"norm_{i}"}
        layers |= {f"{LATENT_NET}layers.{i}.{part}": name for part, name in parts.items()}
    return layers


def _converted(value: np.ndarray, ndim: int) -> np.ndarray:
    """Their array in our layout: convolutions OIHW -> HWIO, linear layers and 1x1 convolutions [O, I, 1] -> [I, O]."""
    if ndim == 4:
        return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
    if ndim == 2:
        trailing = value.shape[2:]
        return value.reshape(value.shape[:2]).T if set(trailing) <= {1} else value
    return value


def convert(weights: Mapping[str, np.ndarray], layers: Mapping[str, str], shapes: Any, owned: tuple) -> Imported:
    """Our parameters from their state dict.

    Args:
      weights: their arrays by key, without the net's prefix.
      layers: their layer -> our layer; layers that are not in `shapes` are skipped.
      shapes: our tree of shapes; every leaf must be filled.
      owned: prefixes under which every key must be used.

    Raises:
      WeightsError: with all missing keys, all shapes that differ and all keys without a place; or with all keys whose
        weights are NaN or infinite.
    """
    targets = flatten_dict(shapes, sep="/")
    params, used, missing, differing, broken = {}, {}, [], [], []
    for theirs, ours in layers.items():
        for part, key in (("kernel", "weight"), ("scale", "weight"), ("bias", "bias")):
            leaf, name = f"{ours}/{part}", f"{theirs}.{key}"
            if leaf not in targets:
                continue
            if name not in weights:
                missing.append(f"missing: {name}, shape of our {leaf}: {targets[leaf].shape}")
                continue
            value = _converted(np.asarray(weights[name], np.float32), len(targets[leaf].shape))
            if value.shape != targets[leaf].shape:
                differing.append(
                    f"another shape: {name} is {tuple(weights[name].shape)}, our {leaf} {targets[leaf].shape}"
                )
            if not np.isfinite(value).all():
                broken.append(name)
            params[leaf], used[name] = value, leaf
    left_over = [
        f"no place for: {k} {tuple(weights[k].shape)}" for k in weights if k.startswith(owned) and k not in used
    ]
    if faults := missing + differing + left_over:
        raise WeightsError(
            f"the checkpoint is of another architecture than the config: {len(missing)} keys missing, "
            f"{len(differing)} of another shape, {len(left_over)} without a place\n  " + "\n  ".join(faults)
        )
    if broken:
        raise WeightsError(f"the checkpoint holds NaN or infinite weights in {', '.join(broken)}; it can't be used")
    unfilled = targets.keys() - params.keys()
    if unfilled:
        raise WeightsError(f"no layer of the reference fills {', '.join(sorted(unfilled))}")
    return Imported(unflatten_dict(params, sep="/"), used)
