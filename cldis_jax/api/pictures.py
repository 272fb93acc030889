"""What a model can be seen to do: reconstructions and traversals. Knows a Bundle; not training, not files."""

from collections.abc import Callable, Iterator

import jax
import numpy as np
from einops import rearrange

from cldis_jax.api import Bundle
from cldis_jax.runtime import visualize

CHUNK = 8  # rows a batch: few compiled programs, on any machine
MOST_TRAVERSED = 16  # latent dimensions in a picture of training; z_sem may have hundreds
TRAVERSAL_STDS = (-2.5, -1.5, -0.75, 0.0, 0.75, 1.5, 2.5)  # shifts, in standard deviations of the latent


def random_noise(bundle: Bundle, num: int, seed: int = 0) -> np.ndarray:
    """x_T ~ N(0, I), [num, H, W, C]."""
    return np.random.default_rng(seed).standard_normal((num, *bundle.image_shape), np.float32)


def in_chunks(function: Callable[..., jax.Array], *arrays: np.ndarray, size: int = CHUNK) -> np.ndarray:
    """`function` on any number of rows in batches of one size; the last is padded, so that nothing retraces."""
    num, results = len(arrays[0]), []
    for start in range(0, num, size):
        rows = np.arange(start, start + size).clip(max=num - 1)
        results.append(np.asarray(function(*(array[rows] for array in arrays)))[: num - start])
    return np.concatenate(results)


def own_noise(bundle: Bundle, images: np.ndarray, num_steps: int) -> np.ndarray:
    """The x_T of images [B, H, W, C] themselves, by inversion; of a model without a Diff-AE, which needs none, 0."""
    if not bundle.has_diffusion:
        return np.zeros_like(images)
    z = in_chunks(bundle.encode, images)
    return in_chunks(lambda x, z: bundle.encode_noise(x, z, num_steps), images, z)


def decode_in_chunks(bundle: Bundle, x_T: np.ndarray, z: np.ndarray, num_steps: int, chunk: int = CHUNK) -> np.ndarray:
    """`bundle.decode` on any number of rows."""
    return in_chunks(lambda x_T, z: bundle.decode(x_T, z, num_steps), x_T, z, size=chunk)


def reconstructions(bundle: Bundle, images: np.ndarray, num_steps: int) -> dict[str, np.ndarray]:
    """The images and each way to reconstruct them, by label, each [B, H, W, C]."""
    images = np.asarray(images)
    rows = {"original": images}
    if bundle.has_diffusion:
        z = in_chunks(bundle.encode, images)
        for kind, x_T in (
            ("random", random_noise(bundle, len(images))),
            ("inferred", own_noise(bundle, images, num_steps)),
        ):
            rows[f"z_sem, {kind} x_T"] = decode_in_chunks(bundle, x_T, z, num_steps)
    if bundle.has_vae:
        z = in_chunks(lambda x: bundle.encode_posterior(x)[0], images)
        rows["VAE"] = in_chunks(bundle.decode_vae, z)
    return rows


def mean_squared_errors(rows: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean squared error on [0, 1] of each kind of reconstruction against the originals."""
    return {
        name: float(np.mean(np.square((rows["original"] - row) / 2)))
        for name, row in rows.items()
        if name != "original"
    }


def traversal_codes(z: np.ndarray, directions: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Codes [K, S, d]: the code z [d] moved along each of `directions` [K, d] by each of `shifts` [S]."""
    return z + shifts[None, :, None] * directions[:, None, :]


def traverse(bundle: Bundle, image: np.ndarray, latent: str, units: np.ndarray, num_steps: int) -> np.ndarray:
    """Images [K, S, H, W, C]: `units` [K] of one image [H, W, C] moved by TRAVERSAL_STDS, at its own x_T."""
    std = np.asarray(bundle.moments(latent).std)
    z = in_chunks(lambda x: bundle.represent(x, latent), image[None])[0]
    codes = traversal_codes(z, np.diag(std)[units], np.asarray(TRAVERSAL_STDS))
    flat = codes.reshape(-1, codes.shape[-1]).astype(np.float32)
    if latent == "z_disen":
        images = in_chunks(bundle.decode_vae, flat)
    else:
        x_T = own_noise(bundle, image[None], num_steps)
        images = decode_in_chunks(bundle, x_T.repeat(len(flat), axis=0), flat, num_steps)
    return rearrange(images, "(k s) h w c -> k s h w c", k=len(codes))


def training_pictures(bundle: Bundle, images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """(name, uint8 picture) of everything that is drawn while training, for a few images [B, H, W, C]."""
    num_steps = bundle.config.diffusion.decode_steps
    images = np.asarray(images)
    rows = reconstructions(bundle, images, num_steps)
    yield "reconstructions", visualize.grid(np.stack(list(rows.values())), list(rows), title=f"step {bundle.step}")
    columns = [f"{s:+g} std" for s in TRAVERSAL_STDS]
    for latent, present in (("z_sem", bundle.has_diffusion), ("z_disen", bundle.has_vae)):
        if present:
            order = np.argsort(-np.asarray(bundle.moments(latent).std), kind="stable")[:MOST_TRAVERSED]
            traversals = traverse(bundle, images[0], latent, order, num_steps)  # those that vary most first
            labels = [f"{latent}[{i}]" for i in order]
            yield f"traversals_{latent}", visualize.grid(traversals, labels, columns, f"step {bundle.step}")
