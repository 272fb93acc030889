"""The methods that the tables compare, each as what it changes in a data set's own config."""

import dataclasses
import re
from typing import Any

from ml_collections import ConfigDict

from cldis_jax.configs import beta_vae, scenes
from cldis_jax.method import distillation, feedback
from cldis_jax.runtime.checkpoint import flatten

CONDITIONINGS = {"cross_attention": "cross-attention", "adagn": "AdaGN"}
# L_dt has another size in every form: weighted by these, the student's gradient is about as large as with kl.
DISTILLATION_RATIOS = {"kl": 1, "mse": 10, "softmax": 10}
OTHER_LATENT_DIMS = (6, 20)
ANNEALED_SHARE = 3  # an annealed C reaches C_max after a third of the steps


@dataclasses.dataclass(frozen=True)
class Method:
    """One row, or two where a model has two latents."""

    label: str
    name: str  # of its folder
    overrides: dict[str, Any]
    latents: tuple[str, ...]
    floors: bool = True  # whether its codes need floors that no other row has


def closed_loop(conditioning: str) -> Method:
    return Method(
        f"CL-Dis, {CONDITIONINGS[conditioning]}",
        f"cldis_{conditioning}",
        {"model.conditioning": conditioning},
        ("z_sem", "z_disen"),
    )


def diffae_alone(conditioning: str) -> Method:
    """z_sem starts as drawn, whatever the loop's config says: alone, the Diff-AE does better so."""
    alone = {"vae.weight": 0.0, "distillation.weight": 0.0, "model.standardize_z_sem": False}
    return Method(
        f"Diff-AE alone, {CONDITIONINGS[conditioning]}",
        f"diffae_{conditioning}",
        {"model.conditioning": conditioning} | alone,
        ("z_sem",),
    )


def vae_alone(scale: str, beta: float | None = None) -> Method:
    """The baseline of configs/beta_vae.py: what it changes in configs/scenes.py, for any data set; `beta`: another."""
    before, after = flatten(scenes.get_config(scale)), flatten(beta_vae.get_config(scale))
    changed = {name: value for name, value in after.items() if value != before[name]}
    if beta is None:
        return Method(f"β-VAE alone, β = {after['vae.beta']:g}", "beta_vae", changed, ("z_disen",))
    return Method(f"β-VAE alone, β = {beta:g}", f"beta_vae_{beta:g}", changed | {"vae.beta": beta}, ("z_disen",))


def vae_annealed(scale: str, steps: int) -> Method:
    """The VAE alone under a C that rises by itself (Burgess et al. 2018), at the prices found best on scenes."""
    area = 4 if scale == "full" else 1  # found at 32 px; the pixels' sum grows with the image
    alone = {"diffusion.weight": 0.0, "distillation.weight": 0.0, "feedback.swap_probability": 0.0}
    prices = {
        "vae.weight": 1.0,
        "vae.beta": 16.0 * area,
        "vae.beta_min": 4.0 * area,
        "vae.antithetic": False,  # they were found with one sample
        "feedback.max_capacity": 14.0,
    }
    return Method("β-VAE alone, C annealed", "beta_vae_annealed", annealed(steps) | alone | prices, ("z_disen",))


def annealed(steps: int) -> dict[str, Any]:
    return {"feedback.mode": "anneal", "feedback.anneal_steps": max(1, steps // ANNEALED_SHARE)}


def distilled(config: ConfigDict, form: str) -> dict[str, Any]:
    weight = config.distillation.weight * DISTILLATION_RATIOS[form]
    overrides = {"distillation.form": form, "distillation.weight": weight}
    if form == "softmax":
        overrides["distillation.weigh_units"] = False  # it has no units apart
    return overrides


def variants(config: ConfigDict, steps: int) -> list[Method]:
    """CL-Dis with one choice changed; the choices that `config` makes itself are left out."""
    alternatives = [
        ("no distillation", {"distillation.weight": 0.0}),
        ("C fixed", {"feedback.mode": "fixed"}),
        ("no feedback: C annealed, no swap", annealed(steps) | {"feedback.swap_probability": 0.0}),
        ("C annealed", annealed(steps)),
        *(
            (f"feedback {mode}", {"feedback.mode": mode})
            for mode in feedback.RULES
            if mode not in feedback.OPEN_LOOP_MODES
        ),
        ("feedback timestep, VAE sees x_t", {"feedback.mode": "timestep", "feedback.encode_noisy": True}),
        *((f"L_dt {form}", distilled(config, form)) for form in distillation.FORMS),
        ("L_dt on every unit alike", {"distillation.weigh_units": False}),
        ("z_sem as drawn", {"model.standardize_z_sem": False}),
        ("one sample of z_disen", {"vae.antithetic": False}),
        *((f"weight of L_dt {w:g}", {"distillation.weight": w}) for w in (3e-4, 1e-3, 3e-3)),
        *((f"weight of L_dt {schedule}", {"distillation.schedule": schedule}) for schedule in distillation.SCHEDULES),
        *((f"z_sem listens for {n:,} steps", {"distillation.listen_steps": n}) for n in (0, steps // 3)),
        *((f"teacher gradient {on}", {"distillation.teacher_gradient": on == "on"}) for on in ("off", "on")),
        *((f"swap probability {p}", {"feedback.swap_probability": p}) for p in (0.0, 1.0)),
        ("swap in all steps", {"feedback.swap_probability": 0.5, "feedback.swap_steps": 0}),
        (f"swap in {steps // 3:,} steps", {"feedback.swap_probability": 0.5, "feedback.swap_steps": steps // 3}),
        ("L_vae a sum over pixels", {"vae.weight": 1.0}),
        ("L_vae a mean over pixels", {"vae.weight": 1 / (config.data.image_size**2 * config.data.channels)}),
        *((f"{size} latents", {"model.latent_dim": size}) for size in OTHER_LATENT_DIMS),
    ]
    own = flatten(config)
    changing = {}  # by what they change: two choices may come to the same
    for label, overrides in alternatives:
        changed = frozenset((name, value) for name, value in overrides.items() if own[name] != value)
        name = re.sub(r"\W+", "_", f"cldis {label}")
        floors = "model.latent_dim" in overrides
        changing.setdefault(changed, Method(label, name, overrides, ("z_sem", "z_disen"), floors))
    changing.pop(frozenset(), None)
    others = [closed_loop(kind) for kind in CONDITIONINGS if kind != config.model.conditioning]
    return [*changing.values()] + [
        dataclasses.replace(m, label=f"conditioning {m.overrides['model.conditioning']}") for m in others
    ]
