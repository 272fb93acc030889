"""FLOPs from a jaxpr equal those of XLA's cost analysis."""

import jax
import jax.numpy as jnp
import pytest

from cldis_jax import models
from cldis_jax.configs import scenes
from cldis_jax.method import baselines, feedback
from cldis_jax.planning import cost, flops

BATCH = 7


def by_xla(function, *arguments):
    return jax.jit(function).lower(*arguments).cost_analysis()["flops"]


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def convolve(stride=1, padding="SAME"):
    def function(x, kernel):
        y = jax.lax.conv_general_dilated(x, kernel, (stride,) * 2, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jnp.square(y).sum()

    return jax.grad(function, argnums=(0, 1))


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (convolve(), (shape(BATCH, 8, 8, 4), shape(3, 3, 4, 32))),
        (convolve(2, "VALID"), (shape(BATCH, 9, 9, 16), shape(2, 2, 16, 32))),
        (lambda x, w: jnp.tanh(x @ w).sum(), (shape(BATCH, 8), shape(8, 5))),
        (lambda x: jax.nn.softmax(x, axis=-1), (shape(BATCH, 4096),)),
        (lambda x: (jax.nn.silu(x) ** 3).mean(), (shape(BATCH, 4096),)),
        (lambda x: x + jax.random.normal(jax.random.key(0), x.shape), (shape(BATCH, 4096),)),
        (jax.checkpoint(lambda x: (x * x).sum()), (shape(BATCH, 4096),)),
        (lambda x: jax.lax.cond(x.sum() > 0, lambda: x * 2 + 1, lambda: x), (shape(BATCH, 4096),)),
    ],
)
def test_operations(function, arguments):
    counted = BATCH * flops.per_example(function, BATCH, *arguments)
    assert counted == pytest.approx(by_xla(function, *arguments), rel=0.01)


def test_a_loop_counts_every_iteration():
    def function(x):
        return jax.lax.scan(lambda x, _: (x * 2, None), x, length=5)[0]

    assert flops.per_example(function, BATCH, shape(BATCH, 100)) == 500


def test_operations_once_per_batch_do_not_count():
    assert flops.per_example(lambda x, w: x * (w @ w).sum(), BATCH, shape(BATCH, 10), shape(64, 64)) == 10


def test_unused_results_do_not_count():
    def function(x):
        jnp.exp(x) * x
        return x + 1

    assert flops.per_example(function, BATCH, shape(BATCH, 10)) == 10


def training_flops_by_xla(config):
    """The difference of two batch sizes, as XLA counts the unoptimised program."""
    networks = models.make_networks(config)
    params = jax.eval_shape(lambda: models.init_params(networks, config, jax.random.key(0)))
    config.feedback.probe_size = 2

    def gradient(params, x0, step, key):
        loss = jax.grad(baselines.objective(config), has_aux=True)
        return loss(params, networks, config, x0, feedback.initial_feedback(config), step, key)

    def counted(batch_size):
        images = shape(batch_size, config.data.image_size, config.data.image_size, config.data.channels)
        step, key = jax.ShapeDtypeStruct((), jnp.int32), jax.eval_shape(lambda: jax.random.key(0))
        return by_xla(gradient, params, images, step, key)

    return (counted(4) - counted(2)) / 2


@pytest.mark.parametrize("argument", ["tiny", pytest.param("long", marks=pytest.mark.slow)])
def test_the_training_step_of_a_config(argument):
    config = scenes.get_config(argument)
    assert cost.training_flops_per_image(config) == pytest.approx(training_flops_by_xla(config), rel=0.01)


def test_the_config_does_not_change(tiny):
    before = tiny.to_json()
    cost.training_flops_per_image(tiny)
    assert tiny.to_json() == before
