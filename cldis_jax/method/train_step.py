"""The train state and one optimiser step: gradients, per-branch clipping, Adam, moving averages, feedback."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from cldis_jax.method import baselines, feedback
from cldis_jax.models import Networks, init_params
from cldis_jax.models.pixels import to_unit_range
from cldis_jax.models.semantic_encoder import standardize


@struct.dataclass
class Moments:
    """First and second moment of a latent over training images, each multiplied by `weight`. Weight 0: not measured."""

    weight: jax.Array  # []
    first: jax.Array  # [d]
    second: jax.Array  # [d]

    @classmethod
    def zeros(cls, dim: int) -> "Moments":
        return cls(weight=jnp.zeros(()), first=jnp.zeros(dim), second=jnp.zeros(dim))

    @property
    def mean(self) -> jax.Array:
        return self.first / jnp.maximum(self.weight, 1e-12)

    @property
    def std(self) -> jax.Array:
        variance = self.second / jnp.maximum(self.weight, 1e-12) - jnp.square(self.mean)
        return jnp.sqrt(jnp.maximum(variance, 0))


@struct.dataclass
class Averages:
    """What evaluation uses: the moving average of the parameters, and the moments of the codes of these parameters.

    A training step does not change the moments. `training.moments` measures them before a save or a picture.
    """

    params: dict[str, Any]
    z_sem: Moments
    z_disen: Moments


@struct.dataclass
class TrainState:
    step: jax.Array  # int32 []
    params: dict[str, Any]  # by network, float32
    opt_state: optax.OptState
    feedback: feedback.Feedback
    ema: Averages


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Adam. Gradients are clipped by the norm of each network, or by one norm over all."""
    c = config.train
    clip, adam = optax.clip_by_global_norm(c.clip_norm), optax.adam(learning_rate(config))
    if c.clip_scope == "global":
        return optax.chain(clip, adam)

    def labels(params):
        return {name: jax.tree.map(lambda _, name=name: name, branch) for name, branch in params.items()}

    names = ("unet", "semantic_encoder", "beta_vae")
    return optax.partition({name: optax.chain(clip, adam) for name in names}, labels)


def learning_rate(config: ConfigDict) -> float | optax.Schedule:
    """The rate of Adam: constant [Diff-AE], or with a linear decay to 0 at the end of the run [choice]."""
    c = config.train
    if c.decay_share == 0:
        return c.learning_rate
    decay_steps = round(c.decay_share * c.steps)
    return optax.linear_schedule(c.learning_rate, 0.0, decay_steps, c.steps - decay_steps)


def create_state(networks: Networks, config: ConfigDict, params: dict | None = None) -> TrainState:
    """The state before the first step, with given parameters or with random ones from the seed."""
    if params is None:
        params = init_params(networks, config, jax.random.key(config.train.seed))
    moments = Moments.zeros(config.model.latent_dim)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=make_optimizer(config).init(params),
        feedback=feedback.initial_feedback(config),
        ema=Averages(params=jax.tree.map(jnp.copy, params), z_sem=moments, z_disen=jax.tree.map(jnp.copy, moments)),
    )


def standardize_z_sem(networks: Networks, state: TrainState, images: jax.Array) -> TrainState:
    """The initial `state` with E_sem rescaled: z_sem has mean 0 and variance 1 over uint8 images [N, H, W, C]."""
    z_sem = networks.encode_semantic(state.params, to_unit_range(images))
    rescaled = {"semantic_encoder": standardize(state.params["semantic_encoder"], z_sem)}
    ema = state.ema.replace(params=state.ema.params | jax.tree.map(jnp.copy, rescaled))
    return state.replace(params=state.params | rescaled, ema=ema)


def train_step(
    networks: Networks,
    config: ConfigDict,
    state: TrainState,
    images: jax.Array,
    gather: Callable[[dict], dict] = lambda params: params,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One optimiser step on uint8 images [B, H, W, C]: (next state, scalars).

    `gather` makes parameters that are split over devices whole for the networks.

    All random keys come from fold_in(seed, step). A resumed run therefore equals an uninterrupted one.
    """
    key = jax.random.fold_in(jax.random.key(config.train.seed), state.step)
    x0 = to_unit_range(images)
    if config.data.flip:
        flip = jax.random.bernoulli(jax.random.fold_in(key, 0), 0.5, (x0.shape[0], 1, 1, 1))
        x0 = jnp.where(flip, x0[:, :, ::-1], x0)

    whole = gather(state.params)

    def loss_and_gradient(x0, micro):
        value, gradient = jax.value_and_grad(baselines.objective(config), has_aux=True)(
            whole, networks, config, x0, state.feedback, state.step, jax.random.fold_in(key, 1 + micro)
        )
        return value, jax.tree.map(lambda g: g.astype(jnp.float32), gradient)

    if config.train.accumulate == 1:
        (_, output), gradient = loss_and_gradient(x0, 0)
    else:
        gradient, output = _accumulate(loss_and_gradient, x0, config.train.accumulate)

    with jax.named_scope("optimiser"):  # `plan --breakdown` reads the names
        updates, opt_state = make_optimizer(config).update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
    loop = feedback.close_loop(config, state.feedback, output.signals, state.step)
    with jax.named_scope("ema"):
        ema = state.ema.replace(params=optax.incremental_update(params, state.ema.params, 1 - config.train.ema_decay))
    scalars = output.scalars | {f"gradient_norm/{name}": optax.global_norm(g) for name, g in gradient.items()}
    rate = learning_rate(config)
    scalars |= {"learning_rate": jnp.asarray(rate(state.step) if callable(rate) else rate)}
    scalars |= {"feedback/progress": loop.progress}
    scalars |= {"feedback/z_gain": loop.gain, "feedback/z_gain_zero": loop.zero_gain}
    return TrainState(step=state.step + 1, params=params, opt_state=opt_state, feedback=loop, ema=ema), scalars


def _accumulate(loss_and_gradient, x0, num_micro):
    """Gradient and output, averaged over micro-batches that run one after another. Each one uses all devices."""
    micro_batches = x0.reshape((-1, num_micro, *x0.shape[1:])).swapaxes(0, 1)

    def add(total, item):
        (_, output), gradient = loss_and_gradient(*item)
        return jax.tree.map(lambda a, b: a + b / num_micro, total, gradient), output

    shapes = jax.eval_shape(loss_and_gradient, micro_batches[0], 0)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes[1])
    gradient, outputs = jax.lax.scan(add, zeros, (micro_batches, jnp.arange(num_micro)))
    return gradient, jax.tree.map(lambda x: x.mean(axis=0), outputs)
