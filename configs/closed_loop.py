"""The two presets that every config builds on, `paper` and `best`, and why a config departs from its preset.

`python -m cldis_jax.describe --config=configs/scenes.py --diff` prints the departures of a config with these reasons.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from cldis_jax.configs import default
from cldis_jax.runtime.errors import UserError


def paper() -> ConfigDict:
    """CL-Dis as the paper states it, 64 px.

    Stated: eps-prediction and AdaGN, both Diff-AE's; the penalty beta |KL - C|; a KL as distillation; a C that the
    diffusion side sets. Left open, and here in the plainest reading: C follows the information that the denoiser
    recovers (`progress`); the reconstruction is a sum over pixels; L_dt weighs 1e-3, for all units and from the first
    step on; no code is swapped. These are the values of configs/default.py. Not run by us at its full size.
    """
    return default.get_config()


def best() -> ConfigDict:
    """CL-Dis as our studies on rendered scenes chose it (docs/studies/cpu, docs/studies/long), 64 px.

    The denoiser predicts v and reads z by cross-attention. C follows what z adds to the denoiser (`gain`). The penalty
    is a hinge; L_vae is a mean over pixels, with two antithetic samples. z_sem starts standardised. At first L_dt alone
    moves it, and L_dt leaves out the units that the teacher does not use. These are the settings for 64 px and 100,000
    steps; configs/small_images.py has those of other sizes.
    """
    config = default.get_config()
    config.preset = "best"
    config.diffusion.prediction = "v"
    config.model.conditioning = "cross_attention"  # with the paper's AdaGN, two thirds of the DCI (docs/studies/cpu)
    config.model.standardize_z_sem = True
    config.vae.capacity_form = "hinge"
    config.vae.beta = 64.0  # the prices of 32 px for four times the pixels
    config.vae.beta_min = 8.0
    config.vae.antithetic = True
    side, channels = config.data.get_oneway_ref("image_size"), config.data.get_oneway_ref("channels")
    config.vae.weight = 1 / (side * side * channels).to_float()  # a mean over pixels, as L_diff is
    config.distillation.weight = 3e-4
    config.distillation.weigh_units = True
    config.distillation.listen_steps = 30_000
    config.feedback.mode = "gain"
    config.feedback.lead_capacity = 2.0
    config.feedback.max_capacity = 14.0
    config.feedback.reference = 1.5
    return config


PRESETS: dict[str, Callable[[], ConfigDict]] = {"paper": paper, "best": best}


def make(preset: str) -> ConfigDict:
    """A preset by its name.

    Raises:
      UserError: there is no such preset.
    """
    if preset not in PRESETS:
        raise UserError(f"unknown preset {preset!r}: choose from {', '.join(PRESETS)}")
    return PRESETS[preset]()


def diffae_alone(config: ConfigDict) -> ConfigDict:
    """The Diff-AE of a config of the closed loop: no VAE, no distillation, Diff-AE's clipping and its z_sem of 512."""
    config.model.latent_dim = 512
    config.vae.weight = 0.0
    config.distillation.weight = 0.0
    config.train.clip_scope = "global"
    return config


# Why a config has another value than a preset. The key is a field, `field=value` where a value has a reason of its own,
# or a section with a dot at its end. The most exact key counts.
REASONS = {
    "preset": "the other preset",
    "data.": "the data set",
    "data.image_size": "the size of the images that this network is made for",
    "data.batch_size": "as many images as the network and the machine of this size train on well",
    "data.holdout": "these images are kept for evaluation",
    "data.threads": "image files are slower to read than rendered images",
    "data.prefetch": "image files are slower to read than rendered images",
    "data.flip": "Diff-AE's recipe for photographs",
    "model.": "a network of this size",
    "model.latent_dim": "natural images vary in more ways than rendered sets",
    "model.latent_dim=512": "Diff-AE's own z_sem, which need not be small",
    "model.conditioning": "the denoiser reads z unit by unit: DCI .43, with AdaGN .28 (docs/studies/cpu)",
    "model.conditioning=adagn": "the paper's (Diff-AE's) conditioning, and the faster one",
    "model.standardize_z_sem": "where units are weighed, a unit of z_sem that starts small is never used",
    "model.standardize_z_sem=False": "Diff-AE's own initial weights; `cpu` was chosen before this option existed",
    "model.dropout": "a short run of a small network does not overfit",
    "model.narrow_groups": "with few channels, Diff-AE's 32 groups normalise single channels, and colour is lost",
    "diffusion.prediction": "a short run that predicts eps learns to ignore z; one that predicts v does not",
    "diffusion.prediction=eps": "the paper's (Diff-AE's) target",
    "diffusion.weight": "beta-VAE alone: there is no Diff-AE",
    "diffusion.decode_steps": "a smoke test draws no good pictures",
    "vae.base_channels": "a network of this size",
    "vae.hidden_dim": "a network of this size",
    "vae.weight": "a mean over pixels, as L_diff is: else L_vae drowns the denoiser's gradient in q_phi",
    "vae.weight=0.0": "Diff-AE alone: there is no VAE",
    "vae.weight=1.0": "the sum over pixels, the paper's objective",
    "vae.beta=4.0": "the beta of a plain beta-VAE (Higgins et al. 2017)",
    "vae.beta": "the price of a nat above C; it grows with the number of pixels",
    "vae.beta_min": "the price of a nat below C; it grows with the number of pixels",
    "vae.capacity_form": "|KL - C| rewards a weak VAE for nats that carry nothing; the hinge does not",
    "vae.capacity_form=absolute": "the paper's penalty, beta |KL - C|",
    "vae.antithetic": "a less noisy gradient: without it the third hue may never be encoded in a long run",
    "vae.antithetic=False": "one sample, the paper's form; `cpu` was chosen before this option existed",
    "distillation.weight": "a light L_dt lets z_sem encode more than its teacher; a short run needs the teacher more",
    "distillation.weight=0.0": "one branch alone: there is nothing to distil",
    "distillation.weigh_units": "z_sem keeps the units that the teacher does not use for what the teacher leaves out",
    "distillation.weigh_units=False": "the plain KL, all units alike; `cpu` was chosen before this option existed",
    "distillation.listen_steps=0": "the plain reading: every loss acts from the first step on",
    "distillation.listen_steps": "else z_sem first learns, in units of its own, what z_disen will encode later",
    "feedback.mode": "C follows what z adds to the denoiser, which closes the loop through z",
    "feedback.mode=progress": "the plainest reading of the paper: C follows the information that the denoiser recovers",
    "feedback.mode=fixed": "beta-VAE alone: nothing sets C",
    "feedback.max_capacity": "C_max is about what the factors of the images need, in nats",
    "feedback.max_capacity=25.0": "the C_max of Burgess et al. 2018",
    "feedback.max_capacity=0.0": "C = 0 is the plain beta-VAE",
    "feedback.lead_capacity": "the VAE needs its first nats before they can help the denoiser",
    "feedback.lead_capacity=0.0": "the plain reading: C starts at 0",
    "feedback.reference=1.0": "the plain reading, C_max where the signal is 1; a short run needs C to rise sooner",
    "feedback.reference": "how fast C rises: slow enough that one unit opens after the other",
    "feedback.swap_probability": "in a short run the denoiser must move q_phi too, or floor and wall share units",
    "feedback.swap_steps": "swapping is needed only until floor and wall have a unit each",
    "train.steps": "the length of the run",
    "train.learning_rate": "a small network in a short run trains well at 1e-3; Diff-AE's 1e-4 is for large ones",
    "train.ema_decay": "the average must be shorter than the run",
    "train.clip_scope": "Diff-AE's recipe: one norm over all networks",
    "train.log_every": "the length of the run",
    "train.picture_every": "the length of the run",
    "train.num_pictures": "the length of the run",
    "checkpoint.every_steps": "the length of the run",
}


def reason(name: str, value: object) -> str | None:
    """Why the field `name` has `value` in a shipped config, from `REASONS`; None where no reason is written down."""
    section = name.partition(".")[0] + "."
    return next((REASONS[key] for key in (f"{name}={value}", name, section) if key in REASONS), None)
