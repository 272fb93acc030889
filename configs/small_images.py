"""CL-Dis on small images: the sizes and presets that the configs of such data sets share.

    python -m cldis_jax.main --config=configs/small_images.py:cpu --config.data.source=SOURCE --workdir=DIR

The argument is `SIZE` or `SIZE,PRESET`; the defaults are `full` and `best`:

    full   64 px, 100,000 steps; one GPU. Not run by us
    long   32 px and a small network, 18,000 steps; two CPU cores
    cpu    the same for 6,000 steps; two CPU cores, ten minutes
    cpu64  64 px and a small network, 3,000 steps; one CPU core, fifteen minutes
    tiny   16 px, 60 steps; a smoke test, under a minute

`best` was chosen on rendered scenes at `cpu` and `long` (docs/studies). At each size `paper` has the same U-Net and
VAE, batch, steps and learning rate as `best`, and the method of `closed_loop.paper()`.
"""

import dataclasses
from collections.abc import Callable

from ml_collections import ConfigDict

from cldis_jax.configs import closed_loop
from cldis_jax.runtime.errors import UserError

Change = Callable[[ConfigDict], None]


def get_config(argument: str = "full") -> ConfigDict:
    """The config at `SIZE` or `SIZE,PRESET`.

    Raises:
      UserError: there is no such size or preset.
    """
    name, preset = parse(argument)
    config = closed_loop.make(preset)
    size = SIZES[name]
    for change in size.scale + (size.best if preset == "best" else ()):
        change(config)
    return config


def parse(argument: str, preset: str = "best") -> tuple[str, str]:
    """(size, preset) of `SIZE` or `SIZE,PRESET`. The default preset is `preset`.

    Raises:
      UserError: there is no such size or preset.
    """
    size, comma, named = argument.partition(",")
    if size not in SIZES:
        raise UserError(f"unknown size {size!r}: choose from {', '.join(SIZES)}, e.g. configs/scenes.py:cpu")
    if comma and named not in closed_loop.PRESETS:
        presets = ", ".join(closed_loop.PRESETS)
        raise UserError(f"unknown preset {named!r}: choose from {presets}, e.g. configs/scenes.py:cpu,paper")
    return size, named or preset


# --- Networks, images and length of the run: the same for every preset ---


def one_gpu(config: ConfigDict) -> None:
    """64 px: Diff-AE's celeba64 with half the channels in its last two levels."""
    config.data.batch_size = 64
    config.model.embed_dim = 256
    config.model.channel_multipliers = (1, 2, 2, 4)
    config.model.encoder_multipliers = (1, 2, 2, 4, 4)
    config.train.steps = 100_000
    config.train.ema_decay = 0.999


def small_network(config: ConfigDict) -> None:
    """32 px in patches of 4 x 4: few layers with 8 x 8 positions."""
    config.data.image_size = 32
    config.data.batch_size = 16
    config.model.patch_size = 4
    config.model.base_channels = 48  # the number of values in a patch
    config.model.embed_dim = 64
    config.model.encoder_multipliers = (1, 1)
    config.model.attention_resolutions = ()  # only in the middle, which is cheaper
    shallow(config)


def small_network_of_64_pixels(config: ConfigDict) -> None:
    """64 px in patches of 8 x 8: as many positions as at 32 px."""
    small_network(config)
    config.data.image_size = 64
    config.model.patch_size = 8
    config.model.base_channels = 64
    config.model.embed_dim = 128
    config.vae.base_channels = 16  # also of E_sem; most of the VAE's time is in its first and last layers


def tiny_network(config: ConfigDict) -> None:
    """16 px: the smallest network that has every part."""
    config.data.image_size = 16
    config.data.batch_size = 8
    config.model.patch_size = 2
    config.model.base_channels = 8
    config.model.embed_dim = 16
    config.model.encoder_multipliers = (1,)
    config.model.attention_resolutions = ()
    config.vae.base_channels = 8
    config.vae.hidden_dim = 32
    config.diffusion.decode_steps = 4
    shallow(config)


def shallow(config: ConfigDict) -> None:
    """One level of one block, trained at a higher rate."""
    config.model.num_res_blocks = 1
    config.model.channel_multipliers = (1,)
    config.model.narrow_groups = True
    config.model.dropout = 0.0
    config.train.learning_rate = 1e-3
    config.train.ema_decay = 0.99


def steps_18_000(config: ConfigDict) -> None:
    config.train.steps = 18_000
    config.train.decay_share = 0.3
    config.train.picture_every = 1_500
    config.checkpoint.every_steps = 500


def steps_6_000(config: ConfigDict) -> None:
    config.train.steps = 6_000
    config.train.picture_every = 1_500
    config.checkpoint.every_steps = 500


def steps_3_000(config: ConfigDict) -> None:
    config.train.steps = 3_000
    config.train.decay_share = 0.3
    config.train.picture_every = 1_500
    config.checkpoint.every_steps = 500


def steps_60(config: ConfigDict) -> None:
    config.train.steps = 60
    config.train.log_every = 10
    config.train.picture_every = 1_000
    config.train.num_pictures = 4
    config.checkpoint.every_steps = 20


# --- The method at each size, for the preset `best` alone. `closed_loop.best()` has the settings of `full` ---


def penalties_of_32_pixels(config: ConfigDict) -> None:
    """A quarter of the penalties at 64 px, because there are a quarter of the pixels."""
    config.vae.beta = 16.0  # while C limits the KL, the units become active one after another
    config.vae.beta_min = 2.0  # at 1 or less a hue may take two units; at 4 the third hue may never be encoded


def listen_4_000(config: ConfigDict) -> None:
    config.distillation.listen_steps = 4_000


def listen_1_000(config: ConfigDict) -> None:
    config.distillation.listen_steps = 1_000


def listen_2_000(config: ConfigDict) -> None:
    config.distillation.listen_steps = 2_000


def swap_2_000(config: ConfigDict) -> None:
    config.feedback.swap_steps = 2_000  # by then floor and wall have one unit each


def without_L_ind(config: ConfigDict) -> None:
    config.independence.weight = 0.0  # not measured in 6,000 steps


def short_run(config: ConfigDict) -> None:
    """For 6,000 steps: a larger weight of L_dt, and swapping, so that L_diff also trains q_phi."""
    config.distillation.weight = 1e-3
    config.feedback.reference = 3.0
    config.feedback.swap_probability = 0.5  # else some seeds do not separate floor and wall


def smoke_test(config: ConfigDict) -> None:
    """60 steps, with every loss from the first step on."""
    config.model.conditioning = "adagn"
    config.distillation.listen_steps = 0


@dataclasses.dataclass(frozen=True)
class Size:
    """The changes of a size to a preset. No two functions of a size set the same field."""

    scale: tuple[Change, ...]
    best: tuple[Change, ...]


SIZES = {
    "full": Size((one_gpu,), ()),
    "long": Size((small_network, steps_18_000), (penalties_of_32_pixels, listen_4_000)),
    "cpu": Size(
        (small_network, steps_6_000), (penalties_of_32_pixels, short_run, listen_2_000, swap_2_000, without_L_ind)
    ),
    "cpu64": Size((small_network_of_64_pixels, steps_3_000), (listen_1_000,)),
    "tiny": Size((tiny_network, steps_60), (penalties_of_32_pixels, short_run, smoke_test)),
}
