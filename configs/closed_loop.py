"""The presets `paper` and `best`. Every config starts from one of them; REASONS explains what a config changes.

`python -m cldis_jax.describe --config=configs/scenes.py --diff` prints the changes of a config with these reasons.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from cldis_jax.configs import default
from cldis_jax.runtime.errors import UserError


def paper() -> ConfigDict:
    """CL-Dis as the paper's abstract and framework figure state it, for 64 px. Not run by us at its full size.

    They state: eps-prediction and AdaGN, both from Diff-AE; the penalty beta |KL - C|; a KL as distillation; a C
    that the diffusion side sets. Where they leave a question open, this preset takes the simplest answer: C follows the
    information that the denoiser recovers (`progress`); the reconstruction is a sum over pixels; L_dt has weight 1e-3
    for all units from the first step on; codes are not swapped. These are the values of configs/default.py.
    """
    return default.get_config()


def best() -> ConfigDict:
    """CL-Dis with the choices of our studies on rendered scenes (docs/studies), for 64 px.

    The denoiser predicts x_0 through a skip connection, and cross-attention conditions it on z. E_sem has strided
    convolutions like those of the VAE. C follows the contribution of z to the denoiser (`gain`). The penalty is a
    hinge. L_vae is a mean over pixels, with two antithetic samples. z_sem starts with mean 0 and variance 1; at first
    L_dt alone trains it. L_dt leaves out the units that the teacher does not use. L_ind makes the units independent.
    The settings are for 100,000 steps at 64 px; configs/small_images.py has those of other sizes.
    """
    config = default.get_config()
    config.preset = "best"
    config.diffusion.prediction = "x0"
    config.model.conditioning = "cross_attention"  # the paper's AdaGN reaches two thirds of the DCI (docs/studies/cpu)
    config.model.encoder = "strided"
    config.model.standardize_z_sem = True
    config.vae.capacity_form = "hinge"
    config.vae.beta = 64.0  # 4 times the value of 32 px, as there are 4 times as many pixels
    config.vae.beta_min = 8.0
    config.vae.antithetic = True
    side, channels = config.data.get_oneway_ref("image_size"), config.data.get_oneway_ref("channels")
    config.vae.weight = 1 / (side * side * channels).to_float()  # a mean over pixels, as L_diff is
    config.distillation.weight = 3e-4
    config.distillation.weigh_units = True
    config.distillation.listen_steps = 30_000
    config.distillation.listen_weight = 1e-2
    config.independence.weight = 1e-3
    config.feedback.mode = "gain"
    config.feedback.lead_capacity = 2.0
    config.feedback.max_capacity = 14.0
    config.feedback.reference = 5.0
    return config


PRESETS: dict[str, Callable[[], ConfigDict]] = {"paper": paper, "best": best}


def make(preset: str) -> ConfigDict:
    """The preset `preset`.

    Raises:
      UserError: there is no such preset.
    """
    if preset not in PRESETS:
        raise UserError(f"unknown preset {preset!r}: choose from {', '.join(PRESETS)}")
    return PRESETS[preset]()


def diffae_alone(config: ConfigDict) -> ConfigDict:
    """Change a config to Diff-AE alone: no VAE, no distillation, Diff-AE's clipping and a z_sem of 512."""
    config.model.latent_dim = 512
    config.vae.weight = 0.0
    config.distillation.weight = 0.0
    config.independence.weight = 0.0
    config.train.clip_scope = "global"
    return config


# Why a config has another value than a preset. A key is a field, `field=value` for the reason of a single value, or a
# section with a dot at its end. The most specific key counts.
REASONS = {
    "preset": "the other preset",
    "data.": "the data set",
    "data.image_size": "the image size of this network",
    "data.batch_size": "a batch that suits the network and the machine of this size",
    "data.holdout": "these images are kept for evaluation",
    "data.threads": "image files are slower to read than rendered images",
    "data.prefetch": "image files are slower to read than rendered images",
    "data.flip": "Diff-AE's recipe for photographs",
    "model.": "a network of this size",
    "model.latent_dim": "natural images have more factors than rendered ones",
    "model.latent_dim=512": "Diff-AE's z_sem, which need not be small",
    "model.conditioning": "each unit of z becomes a token: DCI .43, with AdaGN .28 (docs/studies/cpu)",
    "model.conditioning=adagn": "the conditioning of the paper (Diff-AE), which is faster",
    "model.standardize_z_sem": "with weigh_units a unit of z_sem that starts small is never used",
    "model.standardize_z_sem=False": "Diff-AE's own initial weights",
    "model.encoder": "Diff-AE's average over positions loses shape, scale and orientation",
    "model.encoder=unet": "half a U-Net with an average pool, as in the paper (Diff-AE)",
    "model.dropout": "a short run of a small network does not overfit",
    "model.narrow_groups": "with few channels Diff-AE's 32 groups have one channel each, and colour is lost",
    "diffusion.prediction": "a short run with eps ignores z, and a small network with v paints noise from a random x_T",
    "diffusion.prediction=eps": "the target of the paper (Diff-AE)",
    "diffusion.weight": "beta-VAE alone: there is no Diff-AE",
    "diffusion.decode_steps": "a smoke test needs no good pictures",
    "vae.base_channels": "a network of this size",
    "vae.hidden_dim": "a network of this size",
    "vae.weight": "a mean over pixels, as L_diff is; a sum would dominate the denoiser's gradient in q_phi",
    "vae.weight=0.0": "Diff-AE alone: there is no VAE",
    "vae.weight=1.0": "the sum over pixels, the paper's objective",
    "vae.beta=4.0": "the beta of a plain beta-VAE (Higgins et al. 2017)",
    "vae.beta": "the penalty of a nat above C; it grows with the number of pixels",
    "vae.beta_min": "the penalty of a nat below C; it grows with the number of pixels",
    "vae.capacity_form": "|KL - C| rewards a weak VAE for a KL without information; the hinge does not",
    "vae.capacity_form=absolute": "the paper's penalty, beta |KL - C|",
    "vae.antithetic": "less noise in the gradient; without it a long run may never encode the third hue",
    "vae.antithetic=False": "one sample, as in the paper",
    "distillation.weight": "with a small weight z_sem can encode more than its teacher; a short run needs a larger one",
    "distillation.weight=0.0": "one branch alone: there is nothing to distil",
    "distillation.weigh_units": "z_sem can use the units that the teacher does not use",
    "distillation.weigh_units=False": "the plain KL, with equal weights",
    "distillation.listen_steps=0": "the simplest form: every loss acts from the first step on",
    "distillation.listen_steps": "without it z_sem encodes factors in other units, before z_disen encodes them",
    "distillation.listen_weight": "with less, Adam's first steps of L_diff are too long for E_sem",
    "independence.weight": "without L_ind a factor may be in two units",
    "independence.weight=0.0": "the paper has no L_ind; in runs of 6,000 steps it was not measured",
    "independence.form": "meant for photographs, whose factors are rarely far from their mean (docs/studies/faces.md)",
    "feedback.mode": "C follows the contribution of z to the denoiser, which closes the loop through z",
    "feedback.mode=progress": "the simplest reading of the paper: C follows the information that the denoiser recovers",
    "feedback.mode=fixed": "beta-VAE alone: there is no feedback",
    "feedback.max_capacity": "about the nats that the factors of the images need",
    "feedback.max_capacity=25.0": "the C_max of Burgess et al. 2018",
    "feedback.max_capacity=0.0": "C = 0 is the plain beta-VAE",
    "feedback.lead_capacity": "the VAE needs its first nats before they can help the denoiser",
    "feedback.lead_capacity=0.0": "the simplest form: C starts at 0",
    "feedback.reference=1.0": "the simplest form, C = C_max at a signal of 1; in a short run C must rise sooner",
    "feedback.reference": "C must rise slowly enough for the units to become active one after another",
    "feedback.swap_probability": "in a short run L_diff must train q_phi too; else floor and wall share units",
    "feedback.swap_steps": "swapping is needed until floor and wall have one unit each",
    "train.steps": "the length of the run",
    "train.learning_rate": "1e-3 suits a small network in a short run; Diff-AE's 1e-4 is for large ones",
    "train.decay_share": "with a constant rate the small E_sem is thrown off from time to time",
    "train.ema_decay": "the average must be shorter than the run",
    "train.clip_scope": "Diff-AE's recipe: one norm over all networks",
    "train.log_every": "the length of the run",
    "train.picture_every": "the length of the run",
    "train.num_pictures": "the length of the run",
    "checkpoint.every_steps": "the length of the run",
}


def reason(name: str, value: object) -> str | None:
    """Why the field `name` has `value` in a shipped config, from `REASONS`; None if there is no reason."""
    section = name.partition(".")[0] + "."
    return next((REASONS[key] for key in (f"{name}={value}", name, section) if key in REASONS), None)
