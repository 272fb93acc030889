"""How much a direction changes each factor: a probe predicts the factors or attributes of a set from decoded images.

The probe is a small convolutional network with one softmax for each factor; an attribute is a factor of two values. It
is trained on the labels of the data set, which no model is trained on. The change of a factor is the Wasserstein-1
distance between the predictions for two images, in the factor's own geometry: steps on a line, the shorter way on a
circle, or another category.
"""

import functools
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from flax import serialization, struct
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from cldis_jax.api.codes import in_batches
from cldis_jax.data import Source
from cldis_jax.models.pixels import to_unit_range
from cldis_jax.models.reconstructor import Trunk
from cldis_jax.runtime.files import atomic

STEPS, BATCH_SIZE, LEARNING_RATE = 1000, 64, 1e-3
MAX_NOISE = 0.15  # std of noise in training, which makes the probe robust to artefacts of a decoder
MAX_SIDE = 32  # pixels a side of the network's input; larger images are averaged down
NUM_TESTED = 1024  # the most labelled images for testing it
READ_BATCH = 64

CATEGORIES = ("shape", "category", "object", "color", "background", "lighting")
CIRCLES = ("floor_hue", "wall_hue", "object_hue", "azimuth")
FULL_TURNS = ("sprites", "dsprites")  # sets whose `orientation` is a circle; in scenes it is an arc of 60 degrees


class Labels(NamedTuple):
    """What a probe of a source reads."""

    names: tuple[str, ...]  # F
    sizes: tuple[int, ...]
    kinds: tuple[str, ...]  # line | circle | category | attribute
    of: Callable[[np.ndarray], np.ndarray]  # indices [B] -> values int64 [B, F]

    @property
    def measure(self) -> str:
        """How a probe is tested: by its `accuracy`, or for attributes, which may be rare, by its `auroc`."""
        return "auroc" if "attribute" in self.kinds else "accuracy"


def labels_of(source: Source) -> Labels:
    """The factors of a source, or its attributes if it has no factors."""
    if source.factor_names:
        return Labels(source.factor_names, tuple(source.factor_sizes), geometry(source), source.factors)
    num = len(source.attribute_names)
    return Labels(source.attribute_names, (2,) * num, ("attribute",) * num, source.attributes)


def geometry(source: Source) -> tuple[str, ...]:
    """`line`, `circle` or `category` for each factor of a source."""

    def of(name):
        if name in CATEGORIES:
            return "category"
        turns = name == "orientation" and source.name.startswith(FULL_TURNS)
        return "circle" if turns or name in CIRCLES else "line"

    return tuple(of(name) for name in source.factor_names)


def wasserstein(kind: str, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Distance [...] between distributions [..., n] over a factor's n values, in [0, 1].

    On a line: the area between the cumulative distributions. On a circle: the same after the best cut, which subtracts
    their median difference (Rabin et al. 2011). For categories and attributes: half the sum of absolute differences.
    """
    n = p.shape[-1]
    if n == 1:
        return np.zeros(p.shape[:-1])
    if kind in ("category", "attribute"):
        return np.abs(p - q).sum(-1) / 2
    flow = np.cumsum(p - q, axis=-1)
    if kind == "circle":
        return np.abs(flow - np.median(flow, axis=-1, keepdims=True)).sum(-1) / (n // 2)
    return np.abs(flow).sum(-1) / (n - 1)


def factor_share(changes: np.ndarray) -> float:
    """Mean over directions of the largest factor's share of all change, from changes [K, F]; at worst 1 / F."""
    total = changes.sum(-1)
    share = np.where(total > 0, changes.max(-1) / np.where(total > 0, total, 1), 1 / changes.shape[1])
    return float(share.mean())


class ProbeNetwork(nn.Module):
    """Images [B, H, W, C] -> logits of all factors, concatenated [B, sum of sizes]."""

    num_logits: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        while images.shape[1] > MAX_SIDE and images.shape[1] % 2 == 0:
            images = nn.avg_pool(images, (2, 2), (2, 2))
        return nn.Dense(self.num_logits, name="factors")(Trunk(name="trunk")(images))


@struct.dataclass
class Probe:
    """A trained probe."""

    params: Any
    sizes: tuple[int, ...] = struct.field(pytree_node=False)
    kinds: tuple[str, ...] = struct.field(pytree_node=False)

    def read(self, images: np.ndarray) -> list[np.ndarray]:
        """For each factor, probabilities [B, n] of its values, from images [B, H, W, C] in [-1, 1]."""
        logits = in_batches(lambda x: _logits(sum(self.sizes), self.params, x), images, size=READ_BATCH)
        parts = np.split(logits.astype(np.float64), np.cumsum(self.sizes)[:-1], axis=-1)
        return [np.asarray(jax.nn.softmax(part, axis=-1)) for part in parts]

    def score(self, images: np.ndarray, values: np.ndarray) -> np.ndarray:
        """How well it predicts the values [B, F] of images [B, H, W, C]: a number for each factor [F].

        Of a factor: the share of images whose value is right. Of an attribute: the area under the ROC curve, NaN where
        all images have the same value.
        """
        scores = []
        for kind, p, value in zip(self.kinds, self.read(images), values.T):
            if kind != "attribute":
                scores.append((p.argmax(-1) == value).mean())
            else:
                scores.append(roc_auc_score(value, p[:, 1]) if np.ptp(value) else np.nan)
        return np.array(scores)

    def changes(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Mean distance [F] between the predictions for images before and after an edit, each [B, H, W, C]."""
        read = zip(self.kinds, self.read(before), self.read(after))
        return np.array([wasserstein(kind, p, q).mean() for kind, p, q in read])


@functools.partial(jax.jit, static_argnums=0)
def _logits(num_logits, params, images):
    return ProbeNetwork(num_logits).apply({"params": params}, images)


def train_probe(source: Source, indices: np.ndarray, *, steps: int = STEPS, seed: int = 0) -> Probe:
    """A probe of the source's labels, trained on its images at `indices`; the same for the same seed."""
    labels, rng = labels_of(source), np.random.default_rng(seed)
    sizes = labels.sizes
    network = ProbeNetwork(sum(sizes))
    warmup = steps // 10
    optimizer = optax.adam(optax.warmup_cosine_decay_schedule(0.0, LEARNING_RATE, warmup, steps))
    params = network.init(jax.random.key(seed), to_unit_range(jnp.asarray(source.fetch(indices[:1]))))["params"]

    def loss(params, images, factors, key):
        key_size, key_noise = jax.random.split(key)
        size = jax.random.uniform(key_size, (len(images), 1, 1, 1), maxval=MAX_NOISE)
        noisy = to_unit_range(images) + size * jax.random.normal(key_noise, images.shape)
        parts = jnp.split(network.apply({"params": params}, noisy), np.cumsum(sizes)[:-1], axis=-1)
        per_factor = [
            optax.softmax_cross_entropy_with_integer_labels(part, factors[:, i]).mean() for i, part in enumerate(parts)
        ]
        return sum(per_factor)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params, opt_state, images, factors, step):
        key = jax.random.fold_in(jax.random.key(seed), step)
        gradient = jax.grad(loss)(params, images, factors, key)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return optax.apply_updates(params, updates), opt_state

    opt_state = optimizer.init(params)
    for step in tqdm(range(steps), "training the factor probe", unit="step", leave=False, disable=None):
        rows = rng.choice(indices, BATCH_SIZE)
        params, opt_state = update(params, opt_state, source.fetch(rows), labels.of(rows), step)
    return Probe(params, sizes, labels.kinds)


def load_or_train(
    path: epath.PathLike, source: Source, indices: np.ndarray, *, steps: int = STEPS, seed: int = 0
) -> Probe:
    """The probe stored at `path`, if it was trained with the same settings; otherwise a new one, which is stored."""
    path, labels = epath.Path(path), labels_of(source)
    settings = {
        "source": source.name,
        "images": source.digest,
        "labels": ",".join(labels.names),
        "values": hashlib.sha256(labels.of(indices).astype(np.int64).tobytes()).hexdigest(),
        "image_shape": str(source.fetch(indices[:1]).shape[1:]),
        "indices": hashlib.sha256(np.asarray(indices, np.int64).tobytes()).hexdigest(),
        "steps": steps,
        "seed": seed,
    }
    if path.exists():
        stored = serialization.msgpack_restore(path.read_bytes())
        if stored.get("settings") == settings:
            return Probe(stored["params"], labels.sizes, labels.kinds)
    probe = train_probe(source, indices, steps=steps, seed=seed)
    with atomic(path) as file:
        file.write(serialization.msgpack_serialize({"settings": settings, "params": jax.device_get(probe.params)}))
    return probe


def tested(probe: Probe, source: Source, indices: np.ndarray) -> np.ndarray:
    """The probe's score [F] on the source's own images at `indices`, at most NUM_TESTED of them."""
    indices = indices[:NUM_TESTED]
    images = np.asarray(to_unit_range(jnp.asarray(source.fetch(indices))))
    return probe.score(images, labels_of(source).of(indices))
