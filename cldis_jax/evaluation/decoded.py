"""What a model's decoder shows, without labels: reconstructions, the use of z, FID, content tracking."""

import functools
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from etils import epath
from tqdm import tqdm

from cldis_jax.api import editor as editing
from cldis_jax.api import pictures
from cldis_jax.data import subset
from cldis_jax.evaluation.content_tracking_pictures import save_all
from cldis_jax.evaluation.context import Context, summary
from cldis_jax.method import diffusion
from cldis_jax.metrics import fid, inception, lpips, mse, psnr, ssim
from cldis_jax.metrics.content_tracking import measure
from cldis_jax.models import pixels
from cldis_jax.navigation import results as navigation_results

BATCH = 32
IGNORED = 1.01  # L_diff with a wrong z, in units of that with the right one, up to which z makes no difference
FID_VERSION = "clean resizing, (x - 128) / 128"  # how images enter the network
KINDS = ("inferred x_T", "random x_T")
TRACKED = ("score", "consistency", "independence", "activity")


def images_of(context: Context, indices: np.ndarray) -> np.ndarray:
    """Images [N, H, W, C] in [-1, 1]."""
    return pixels.to_unit_range(context.source.fetch(indices))


def batches(indices: np.ndarray, name: str) -> Iterator[tuple[np.ndarray, int]]:
    """Batches of one size, the last padded by repetition, each with the number of its true rows; a progress bar."""
    for start in tqdm(range(0, len(indices), BATCH), name, unit="batch", disable=None):
        rows = indices[start : start + BATCH]
        yield np.resize(rows, BATCH), len(rows)


def reconstruction(context: Context) -> dict[str, Any]:
    """SSIM, PSNR, MSE (and LPIPS) for inferred and random x_T at every number of steps, as in Diff-AE's Table 2.

    The same number of steps encodes and decodes. Where z_disen is scored: of the VAE decoder's mean images.
    """
    settings, bundle = context.settings, context.bundle
    metrics = {"ssim": jax.jit(ssim), "psnr": jax.jit(psnr), "mse": jax.jit(mse)}
    if settings.lpips_weights:
        metrics["lpips"] = jax.jit(functools.partial(lpips.lpips, lpips.load_weights(*settings.lpips_weights)))
    candidates, which = context.unseen
    indices = subset(candidates, settings.num_decoded, 0)
    values: dict[str, list[np.ndarray]] = {}
    for batch, (rows, count) in enumerate(batches(indices, "reconstructing")):
        images = images_of(context, rows)
        for label, decoded in _reconstructions(context, images, pictures.random_noise(bundle, len(rows), batch)):
            for name, metric in metrics.items():
                values.setdefault(f"{name}, {label}", []).append(np.asarray(metric(decoded, images))[:count])
    note = f"{len(indices)} {which} images, std over images; T steps encode and T decode"
    joined = {name: np.concatenate(parts) for name, parts in values.items()}
    return {name: {"mean": float(v.mean()), "std": float(v.std())} for name, v in joined.items()} | {"note": note}


def _reconstructions(context: Context, images, noise) -> Iterator[tuple[str, jax.Array]]:
    bundle = context.bundle
    if context.settings.latent == "z_disen":
        yield "VAE", bundle.decode_vae(bundle.encode_posterior(images)[0])
        return
    z = bundle.encode(images)
    for num_steps in context.settings.decode_steps:
        x_T = bundle.encode_noise(images, z, num_steps)
        for kind, start in zip(KINDS, (x_T, noise)):
            yield f"{kind}, T={num_steps}", bundle.decode(start, z, num_steps)


def z_usage(context: Context) -> dict[str, Any]:
    """L_diff with the right z, with another image's and with zeros: how much the denoiser uses z_sem."""
    bundle = context.bundle
    functions, prediction = bundle.functions, bundle.config.diffusion.prediction
    candidates, which = context.unseen
    indices = subset(candidates, max(context.settings.num_decoded, BATCH), 0)
    z = np.concatenate(
        [np.asarray(bundle.encode(images_of(context, rows)))[:count] for rows, count in batches(indices, "encoding")]
    )

    @jax.jit
    def errors(params, images, z, key):
        key_t, key_eps = jax.random.split(key)
        t = jax.random.randint(key_t, images.shape[:1], 0, functions.schedule.num_steps)
        eps = jax.random.normal(key_eps, images.shape)
        x_t = diffusion.q_sample(functions.schedule, images, t, eps)
        target = diffusion.prediction_target(functions.schedule, prediction, images, t, eps)
        return ((functions.output(params, x_t, t, z) - target) ** 2).mean(axis=(1, 2, 3))

    runs = []
    for seed in range(context.settings.seeds):
        found: dict[str, list[np.ndarray]] = {"right z": [], "shuffled z": [], "zero z": []}
        key = jax.random.key(seed)
        order = np.random.default_rng(seed).permutation(len(indices))
        another = np.empty_like(order)
        another[order] = np.roll(order, 1)
        for batch, (rows, count) in enumerate(batches(order, f"use of z, seed {seed}")):
            images = images_of(context, indices[rows])
            for name, code in zip(found, (z[rows], z[another[rows]], np.zeros_like(z[rows]))):
                error = errors(bundle.ema.params, images, code, jax.random.fold_in(key, batch))
                found[name].append(np.asarray(error)[:count])
        runs.append({f"L_diff, {name}": float(np.concatenate(parts).mean()) for name, parts in found.items()})
    result = summary(runs)
    ratio = result["L_diff, shuffled z"]["mean"] / result["L_diff, right z"]["mean"]
    if ratio > IGNORED:
        verdict = f"the denoiser uses z_sem: another image's z makes its error {ratio:.2f} times as large"
    else:
        verdict = f"the denoiser ignores z_sem: another image's z changes its error by {ratio - 1:+.1%}"
    return result | {"note": f"{verdict} ({len(indices)} {which} images)"}


def frechet(context: Context) -> dict[str, Any]:
    """FID of images decoded from real images' codes at random x_T (of the VAE's means) against these images."""
    settings, bundle, data = context.settings, context.bundle, context.bundle.config.data
    features = fid.make_features(inception.load_weights(settings.inception_weights))
    indices = subset(context.pool, settings.num_generated, 0)

    def decode(rows, batch):
        z = bundle.represent(images_of(context, rows), settings.latent)
        if settings.latent == "z_disen":
            return bundle.decode_vae(z)
        noise = pictures.random_noise(bundle, len(rows), batch)
        return bundle.decode(noise, z, bundle.config.diffusion.decode_steps)

    def statistics(make, name):
        return fid.running_statistics(
            features(_colour(make(rows, batch)))[:count] for batch, (rows, count) in enumerate(batches(indices, name))
        )

    name = f"{data.source}_{data.name}_{settings.pool}_{len(indices)}_{_digest(context, indices)}"
    reference = fid.cached_statistics(
        epath.Path(settings.workdir) / "fid_statistics" / f"{re.sub('[^A-Za-z0-9]+', '-', name)}.npz",
        lambda: statistics(lambda rows, _: images_of(context, rows), "Inception of the data"),
        write=context.writes,
    )
    distance = fid.fid(statistics(decode, "Inception of decoded images"), reference)
    note = f"{len(indices)} images decoded from their own codes against the originals; clean resizing"
    return summary([{"fid": distance}]) | {"note": note}


def _digest(context: Context, indices: np.ndarray) -> str:
    """Of all that the statistics of the images at `indices` depend on: the network, the data, which of its images."""
    data = context.bundle.config.data
    fields = ("source", "name", "path", "data_dir", "image_size", "channels", "crop")
    known = [FID_VERSION, len(context.source), *(data[field] for field in fields)]
    digest = hashlib.sha256(json.dumps(known).encode())
    digest.update(indices.astype(np.int64).tobytes())
    digest.update(epath.Path(context.settings.inception_weights).read_bytes())
    return digest.hexdigest()[:16]


def _colour(images) -> np.ndarray:
    images = np.asarray(images)
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def content_tracking(context: Context) -> dict[str, Any]:
    """Content tracking of the latent's axes or of navigated directions, with its pictures; the floor is random
    directions on the same images. `low` and `high` are the 95 % bootstrap interval over images."""
    settings, bundle = context.settings, context.bundle
    directions = directions_of(context)
    candidates, which = context.unseen
    indices = subset(candidates, settings.num_tracked, 0)
    images = np.asarray(images_of(context, indices))
    x_T = pictures.own_noise(bundle, images, bundle.config.diffusion.decode_steps)  # kept along an image's traversals
    paint = navigation_results.painter(bundle, settings.latent)
    z = pictures.in_chunks(lambda x: bundle.represent(x, settings.latent), images)
    scales = np.asarray(bundle.moments(settings.latent).std)

    def track(rows):
        return measure(
            lambda z, image: paint(z.astype(np.float32), x_T[image]),
            z,
            rows,
            tracker=settings.tracker,
            checkpoint=settings.tapir_checkpoint or None,
            progress=True,
        )

    def random_directions(seed):
        return navigation_results.rival_directions(z, len(directions), seed)["random"][: len(directions)] * scales

    tracked = track(directions)
    kind = settings.latent if settings.directions == "axes" else "direction "
    if context.writes and settings.pictures:
        save_all(tracked, settings.out or settings.workdir, [f"{kind}[{k}]" for k in range(len(directions))])
    floors = [track(random_directions(seed)).summary(bootstrap=0) for seed in range(settings.floor_seeds)]
    floor = {name: float(np.mean([f[name] for f in floors])) for name in TRACKED} if floors else {}
    found = tracked.summary()
    return {name: found[name] for name in (*TRACKED, "low", "high")} | {
        "floors": {"random_directions": floor} if floor else {},
        "details": {name: value for name, value in found.items() if name not in (*TRACKED, "low", "high")},
        "note": f"{len(directions)} directions ({settings.directions}), {len(indices)} {which} images, "
        f"95 % interval {found['low']:.3f} to {found['high']:.3f}; decoding took {found['seconds']['decoding']:.0f} of "
        f"{found['seconds']['total']:.0f} s",
    }


def directions_of(context: Context) -> np.ndarray:
    """What a shift of 1 adds to z, [K, d]: standard deviations of the axes, or WORKDIR/navigation's directions.

    Raises:
      ValueError: the directions are of another latent or model, or the file is of another kind.
      FileNotFoundError: there are none.
    """
    settings = context.settings
    if settings.directions == "axes":
        return editing.latent_steps(context.bundle, settings.latent)
    path = epath.Path(settings.workdir) / "navigation" / "directions.npz"
    if not path.exists():
        raise FileNotFoundError(f"no {path}; find directions with python -m cldis_jax.navigate first")
    found = navigation_results.Directions.load(path, context.bundle)
    if found.latent != settings.latent:
        raise ValueError(f"{path} holds directions of {found.latent}, not of --latent={settings.latent}")
    return editing.direction_steps(found.A, found.scales, context.bundle.config.model.latent_dim)
