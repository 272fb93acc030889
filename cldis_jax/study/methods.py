"""The methods that the tables compare: sets of overrides of a data set's config."""

import dataclasses
import re
from typing import Any

from ml_collections import ConfigDict

from cldis_jax.configs import beta_vae, scenes
from cldis_jax.method import distillation, feedback, prediction
from cldis_jax.models import semantic_encoder
from cldis_jax.runtime.config_json import flatten

CONDITIONINGS = {"cross_attention": "cross-attention", "adagn": "AdaGN"}
# The size of L_dt depends on its form. These factors make the student's gradient about as large as with kl.
DISTILLATION_RATIOS = {"kl": 1, "mse": 10, "softmax": 10}
OTHER_LATENT_DIMS = (6, 20)
LATENTS = ("z_sem", "z_disen")
ANNEALED_SHARE = 3  # an annealed C reaches C_max after 1/3 of the steps


@dataclasses.dataclass(frozen=True)
class Method:
    """One method: a row for each of its latents."""

    label: str
    name: str  # part of the id of its cells
    overrides: dict[str, Any]
    latents: tuple[str, ...]
    floors: bool = True  # whether to measure floors for it; False if another row has the same floors
    preset: str = ""  # of the config; empty: the config's own


def closed_loop(conditioning: str) -> Method:
    return Method(
        f"CL-Dis, {CONDITIONINGS[conditioning]}",
        f"cldis_{conditioning}",
        {"model.conditioning": conditioning},
        LATENTS,
    )


def without_L_ind() -> Method:
    return Method("CL-Dis, no L_ind", "cldis_no_L_ind", {"independence.weight": 0.0}, LATENTS, floors=False)


def paper() -> Method:
    return Method("CL-Dis, preset `paper`", "cldis_paper", {}, LATENTS, preset="paper")


def open_loop(steps: int) -> Method:
    """CL-Dis without feedback: C rises by a ramp, and no code is swapped."""
    overrides = annealed(steps) | {"feedback.swap_probability": 0.0}
    return Method("CL-Dis, open loop: C annealed", "cldis_open_loop", overrides, LATENTS, floors=False)


def diffae_alone(conditioning: str) -> Method:
    """The Diff-AE without a VAE, with the loop's improvements to it, L_ind among them.

    It never standardises z_sem, because it scores higher without.
    """
    alone = {"vae.weight": 0.0, "distillation.weight": 0.0, "model.standardize_z_sem": False}
    return Method(
        f"Diff-AE alone, {CONDITIONINGS[conditioning]}",
        f"diffae_{conditioning}",
        {"model.conditioning": conditioning} | alone,
        ("z_sem",),
    )


def vae_alone(scale: str, beta: float | None = None) -> Method:
    """The VAE of configs/beta_vae.py, as overrides for any data set; `beta` replaces the config's own."""
    before, after = flatten(scenes.get_config(scale)), flatten(beta_vae.get_config(scale))
    changed = {name: value for name, value in after.items() if value != before[name]}
    if beta is None:
        return Method(f"β-VAE alone, β = {after['vae.beta']:g}", "beta_vae", changed, ("z_disen",))
    return Method(f"β-VAE alone, β = {beta:g}", f"beta_vae_{beta:g}", changed | {"vae.beta": beta}, ("z_disen",))


def vae_annealed(scale: str, steps: int) -> Method:
    """The VAE alone with a C that rises over time, with the beta that was best on scenes.

    The idea is that of Burgess et al. 2018. Their penalty is gamma |KL - C| with C from 0; here it is the hinge of
    CL-Dis, with C from `feedback.lead_capacity`.
    """
    area = 4 if scale == "full" else 1  # beta was chosen at 32 px; the sum over pixels grows with the image
    alone = {"diffusion.weight": 0.0, "distillation.weight": 0.0, "feedback.swap_probability": 0.0}
    chosen = {
        "vae.weight": 1.0,
        "vae.beta": 16.0 * area,
        "vae.beta_min": 4.0 * area,
        "vae.antithetic": False,  # beta was chosen with one sample
        "feedback.max_capacity": 14.0,
    }
    return Method("β-VAE alone, C annealed", "beta_vae_annealed", annealed(steps) | alone | chosen, ("z_disen",))


def annealed(steps: int) -> dict[str, Any]:
    return {"feedback.mode": "anneal", "feedback.anneal_steps": max(1, steps // ANNEALED_SHARE)}


def distilled(config: ConfigDict, form: str) -> dict[str, Any]:
    ratio, c = DISTILLATION_RATIOS[form], config.distillation
    overrides = {"distillation.form": form}
    overrides |= {"distillation.weight": ratio * c.weight, "distillation.listen_weight": ratio * c.listen_weight}
    if form == "softmax":
        overrides["distillation.weigh_units"] = False  # softmax has no separate units
    return overrides


def variants(config: ConfigDict, steps: int) -> list[Method]:
    """CL-Dis with one choice changed, without the choices that `config` already has."""
    alternatives = [
        ("no distillation", {"distillation.weight": 0.0}),
        ("C fixed", {"feedback.mode": "fixed"}),
        ("no feedback: C annealed, no swap", open_loop(steps).overrides),
        ("C annealed", annealed(steps)),
        *(
            (f"feedback {mode}", {"feedback.mode": mode})
            for mode in feedback.RULES
            if mode not in feedback.OPEN_LOOP_MODES
        ),
        ("feedback timestep, VAE sees x_t", {"feedback.mode": "timestep", "feedback.encode_noisy": True}),
        *((f"prediction {kind}", {"diffusion.prediction": kind}) for kind in prediction.PREDICTIONS),
        *((f"E_sem {kind}", {"model.encoder": kind}) for kind in semantic_encoder.KINDS),
        *((f"L_dt {form}", distilled(config, form)) for form in distillation.FORMS),
        ("L_dt on every unit alike", {"distillation.weigh_units": False}),
        *((f"weight of L_ind {w:g}", {"independence.weight": w}) for w in (0.0, 1e-3)),
        ("L_ind negentropy", {"independence.form": "negentropy", "independence.weight": 0.03}),
        ("constant rate", {"train.decay_share": 0.0}),
        ("z_sem as drawn", {"model.standardize_z_sem": False}),
        ("one sample of z_disen", {"vae.antithetic": False}),
        *((f"weight of L_dt {w:g}", {"distillation.weight": w}) for w in (3e-4, 1e-3, 3e-3)),
        *((f"weight of L_dt {schedule}", {"distillation.schedule": schedule}) for schedule in distillation.SCHEDULES),
        *((f"z_sem listens for {n:,} steps", {"distillation.listen_steps": n}) for n in (0, steps // 3)),
        ("L_dt as light while z_sem listens", {"distillation.listen_weight": config.distillation.weight}),
        *((f"teacher gradient {on}", {"distillation.teacher_gradient": on == "on"}) for on in ("off", "on")),
        *((f"swap probability {p}", {"feedback.swap_probability": p}) for p in (0.0, 1.0)),
        ("swap in all steps", {"feedback.swap_probability": 0.5, "feedback.swap_steps": 0}),
        (f"swap in {steps // 3:,} steps", {"feedback.swap_probability": 0.5, "feedback.swap_steps": steps // 3}),
        ("L_vae a sum over pixels", {"vae.weight": 1.0}),
        ("L_vae a mean over pixels", {"vae.weight": 1 / (config.data.image_size**2 * config.data.channels)}),
        *((f"{size} latents", {"model.latent_dim": size}) for size in OTHER_LATENT_DIMS),
    ]
    own = flatten(config)
    changing = {}  # by the fields changed: two alternatives may be the same change
    for label, overrides in alternatives:
        changed = frozenset((name, value) for name, value in overrides.items() if own[name] != value)
        name = re.sub(r"\W+", "_", f"cldis {label}")
        floors = "model.latent_dim" in overrides
        changing.setdefault(changed, Method(label, name, overrides, LATENTS, floors))
    changing.pop(frozenset(), None)
    others = [closed_loop(kind) for kind in CONDITIONINGS if kind != config.model.conditioning]
    return [*changing.values()] + [
        dataclasses.replace(m, label=f"conditioning {m.overrides['model.conditioning']}") for m in others
    ]
