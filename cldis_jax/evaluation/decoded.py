"""Metrics of a model's decoder, without labels: reconstruction, the use of z, FID, content tracking."""

import contextlib
import functools
import hashlib
import json
import re
from typing import Any

import jax
import numpy as np
from etils import epath

from cldis_jax import api
from cldis_jax.api.codes import batches, encode, finite
from cldis_jax.data import subset
from cldis_jax.evaluation.content_tracking_pictures import save_all
from cldis_jax.evaluation.context import Context, summary, user_errors
from cldis_jax.metrics import fid, inception, lpips, mse, psnr, ssim
from cldis_jax.metrics.content_tracking import measure
from cldis_jax.models import pixels
from cldis_jax.navigation import results as navigation_results
from cldis_jax.runtime.errors import UserError

BATCH = 32
IGNORED = 1.01  # up to this ratio of L_diff with a wrong z to L_diff with the right z, the denoiser ignores z
FID_VERSION = "clean resizing, (x - 128) / 128"  # how images enter the network
TRACKED = ("score", "consistency", "independence", "activity")


def images_of(context: Context, indices: np.ndarray) -> np.ndarray:
    """Images [N, H, W, C] in [-1, 1]."""
    return pixels.to_unit_range(context.source.fetch(indices))


def reconstruction(context: Context) -> dict[str, Any]:
    """SSIM, PSNR, MSE (and LPIPS) for inferred and random x_T at every number of steps, as in Diff-AE's Table 2.

    The same number of steps encodes and decodes. For z_disen the images are the means of the VAE's decoder.
    """
    settings, bundle = context.settings, context.bundle
    metrics = {"ssim": jax.jit(ssim), "psnr": jax.jit(psnr), "mse": jax.jit(mse)}
    if settings.lpips_weights:
        metrics["lpips"] = jax.jit(functools.partial(lpips.lpips, lpips.load_weights(*settings.lpips_weights)))
    candidates, which = context.unseen
    indices = subset(candidates, settings.num_decoded, 0)
    values: dict[str, list[np.ndarray]] = {}
    for seed, (rows, count) in enumerate(batches(len(indices), BATCH, "reconstructing")):
        images = images_of(context, indices[rows])
        for num_steps in settings.decode_steps if settings.latent == "z_sem" else (None,):
            found = api.Editor(bundle, settings.latent, num_steps, num_steps, BATCH).reconstruct(images, seed)
            steps = f", T={num_steps}" if num_steps else ""
            for kind, decoded in list(found.items())[1:]:
                finite(decoded[:count], bundle, f"images that reconstruction decodes ({kind}{steps})")
                for name, metric in metrics.items():
                    values.setdefault(f"{name}, {kind}{steps}", []).append(np.asarray(metric(decoded, images))[:count])
    note = f"{len(indices)} {which} images, std over images; T steps encode and T decode"
    joined = {name: np.concatenate(parts) for name, parts in values.items()}
    return {name: {"mean": float(v.mean()), "std": float(v.std())} for name, v in joined.items()} | {"note": note}


def z_usage(context: Context) -> dict[str, Any]:
    """L_diff with the right z, with another image's and with zeros: how much the denoiser uses z_sem."""
    bundle = context.bundle
    candidates, which = context.unseen
    indices = subset(candidates, max(context.settings.num_decoded, BATCH), 0)
    z = encode(bundle, "z_sem", context.source, indices, size=BATCH)
    runs = []
    for seed in range(context.settings.seeds):
        found: dict[str, list[np.ndarray]] = {"right z": [], "shuffled z": [], "zero z": []}
        order = np.random.default_rng(seed).permutation(len(indices))
        another = np.empty_like(order)
        another[order] = np.roll(order, 1)
        for batch, (places, count) in enumerate(batches(len(order), BATCH, f"use of z, seed {seed}")):
            rows = order[places]
            images = images_of(context, indices[rows])
            key = jax.random.fold_in(jax.random.key(seed), batch)
            for name, code in zip(found, (z[rows], z[another[rows]], np.zeros_like(z[rows]))):
                error = bundle.functions.denoising_error(bundle.ema.params, images, code, key)
                found[name].append(finite(error, bundle, f"errors L_diff of z_usage ({name})")[:count])
        runs.append({f"L_diff, {name}": float(np.concatenate(parts).mean()) for name, parts in found.items()})
    result = summary(runs)
    ratio = result["L_diff, shuffled z"]["mean"] / result["L_diff, right z"]["mean"]
    if ratio > IGNORED:
        verdict = f"the denoiser uses z_sem: another image's z makes its error {ratio:.2f} times as large"
    else:
        verdict = f"the denoiser ignores z_sem: another image's z changes its error by {ratio - 1:+.1%}"
    return result | {"note": f"{verdict} ({len(indices)} {which} images)"}


def frechet(context: Context) -> dict[str, Any]:
    """FID of real images and the images decoded from their codes at random x_T (for z_disen: the VAE's means)."""
    settings, bundle, data = context.settings, context.bundle, context.bundle.config.data
    features = fid.make_features(inception.load_weights(settings.inception_weights))
    indices = subset(context.pool, settings.num_generated, 0)

    editor = api.Editor(bundle, settings.latent, batch=BATCH)

    def decode(images, batch):
        found = editor.generate(bundle.represent(images, settings.latent), batch)
        return finite(found, bundle, "images that fid decodes")

    def statistics(make, name):
        return fid.running_statistics(
            features(_colour(make(images_of(context, indices[rows]), batch)))[:count]
            for batch, (rows, count) in enumerate(batches(len(indices), BATCH, name))
        )

    name = f"{data.source}_{data.name}_{settings.pool}_{len(indices)}_{_digest(context, indices)}"
    path = epath.Path(settings.workdir) / "fid_statistics" / f"{re.sub('[^A-Za-z0-9]+', '-', name)}.npz"
    with user_errors() if path.exists() else contextlib.nullcontext():
        reference = fid.cached_statistics(
            path,
            lambda: statistics(lambda images, _: images, "Inception of the data"),
            write=context.writes and bool(settings.workdir),
        )
    distance = fid.fid(statistics(decode, "Inception of decoded images"), reference)
    note = f"{len(indices)} images decoded from their own codes against the originals; clean resizing"
    return summary([{"fid": distance}]) | {"note": note}


def _digest(context: Context, indices: np.ndarray) -> str:
    """A digest of all that the statistics depend on: the network, the data set, and `indices` of its images."""
    data = context.bundle.config.data
    fields = ("source", "name", "path", "split", "data_dir", "image_size", "channels", "crop")
    known = [FID_VERSION, context.source.digest, *(data[field] for field in fields)]
    digest = hashlib.sha256(json.dumps(known).encode())
    digest.update(indices.astype(np.int64).tobytes())
    digest.update(epath.Path(context.settings.inception_weights).read_bytes())
    return digest.hexdigest()[:16]


def _colour(images) -> np.ndarray:
    images = np.asarray(images)
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def content_tracking(context: Context) -> dict[str, Any]:
    """Content tracking of the latent's axes or of navigated directions, with its pictures.

    The floor is random directions on the same images. `low` and `high` are the 95 % bootstrap interval over images.
    """
    settings, bundle = context.settings, context.bundle
    directions = directions_of(context)
    candidates, which = context.unseen
    indices = subset(candidates, settings.num_tracked, 0)
    editor = api.Editor(bundle, settings.latent, batch=BATCH)
    code = editor.encode(images_of(context, indices))
    scales = np.asarray(bundle.moments(settings.latent).std)

    def decode(z, image):
        found = editor.decode(code.take(image)._replace(z=z))  # at the image's own x_T
        return finite(found, bundle, "images that content_tracking decodes")

    def track(rows):
        return measure(
            decode,
            code.z,
            rows,
            tracker=settings.tracker,
            checkpoint=settings.tapir_checkpoint or None,
            progress=True,
        )

    def random_directions(seed):
        random = navigation_results.baseline_directions(code.z, len(directions), seed)["random"]
        return random[: len(directions)] * scales

    tracked = track(directions)
    kind = settings.latent if settings.directions == "axes" else "direction "
    if context.draws:
        save_all(tracked, context.folder, [f"{kind}[{k}]" for k in range(len(directions))])
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
    """What a shift of 1 adds to z [K, d]: one standard deviation along an axis or a navigated direction.

    Raises:
      UserError: there are no directions, or they are of another latent or model.
    """
    settings = context.settings
    if settings.directions == "axes":
        return api.axes(context.bundle, settings.latent).steps
    path = epath.Path(settings.workdir) / "navigation" / "directions.npz"
    if not path.exists():
        raise UserError(f"there is no {path}; find directions with python -m cldis_jax.navigate first")
    return navigation_results.Directions.load(path, context.bundle, settings.latent).axes.steps
