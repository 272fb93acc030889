"""L_ind against numpy, against closed forms, and against the invariants that it is there for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from cldis_jax.configs import default, scenes
from cldis_jax.method import baselines, feedback
from cldis_jax.method.independence import (
    FORMS,
    FREQUENCIES,
    RAMP_STEPS,
    AxisStatistics,
    CosineStatistics,
    independence_weight,
    initial_statistics,
    standardize,
)
from cldis_jax.method.independence import independence_loss as loss_of_networks
from cldis_jax.models import init_params, make_networks


@pytest.fixture
def config():
    config = default.get_config()
    config.independence.weight, config.distillation.listen_steps = 1.0, 5
    return config


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def statistics_of(z: jax.Array, form: type = CosineStatistics):
    u = (z - z.mean(0, keepdims=True)) / jnp.sqrt(z.var(0, keepdims=True) + 1e-6)
    return form.measure(z, u)


def unit_covariances(u: jax.Array) -> jax.Array:
    return CosineStatistics.measure(u, u).covariances


class Codes:
    """In place of the networks: E_sem returns the codes that are its images."""

    def encode_semantic(self, params, x):
        return x


def independence_loss(config, z, average):
    return loss_of_networks(config, Codes(), {"semantic_encoder": {"head": {}}}, z, z, average)


def test_the_covariances_are_numpys():
    u, k, d = normal(40, 3) @ np.array([[1, 0.5, 0], [0, 1, 2], [0, 0, 0.3]], np.float32), FREQUENCIES, 3
    cosines = [2**0.5 * np.cos(np.pi * i * stats.norm.cdf(u.astype(np.float64))) for i in range(1, k + 1)]
    of_all = np.cov(np.concatenate(cosines, 1).T, bias=True).reshape(k, d, k, d).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(unit_covariances(jnp.asarray(u)), of_all * (1 - np.eye(d)), rtol=1e-3, atol=1e-4)


def test_independent_normal_units_have_no_covariance_and_equal_units_that_of_an_orthonormal_basis():
    u = np.random.default_rng(0).normal(size=(200_000, 2)).astype(np.float32)
    assert np.abs(unit_covariances(jnp.asarray(u))).max() < 0.01
    twice = unit_covariances(jnp.asarray(u[:, [0, 0]]))[..., 0, 1]
    np.testing.assert_allclose(twice, np.eye(FREQUENCIES), atol=0.01)


def test_normal_units_with_a_correlation_have_mehlers_mean_square_contingency():
    """Over a complete basis the squares sum to rho^2 / (1 - rho^2) (Mehler's formula); four have most."""
    rho = 0.5
    u = np.random.default_rng(0).multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=400_000).astype(np.float32)
    found = np.square(unit_covariances(jnp.asarray(u))[..., 0, 1]).sum()
    assert 0.8 * rho**2 / (1 - rho**2) < found < rho**2 / (1 - rho**2) + 0.01


def test_the_cosine_and_the_sine_of_a_hue_are_dependent():
    """They are uncorrelated, but not independent."""
    hue = 2 * np.pi * np.arange(1000) / 1000
    u = 2**0.5 * jnp.stack([jnp.cos(hue), jnp.sin(hue)], 1)
    found = unit_covariances(u)[..., 0, 1]
    assert abs(found[0, 0]) < 1e-4
    assert np.square(found).sum() > 0.1


def test_the_gradient_is_that_of_the_squared_covariances(config):
    z = jnp.asarray(normal(16, 4))
    average = statistics_of(z)
    _, batch = independence_loss(config, z, average)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), batch, average)
    found = jax.grad(lambda z: independence_loss(config, z, average)[0])(z)
    expected = jax.grad(lambda z: jnp.square(statistics_of(z).covariances).sum())(z)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert np.abs(found).max() > 1e-3


def test_units_are_standardised_by_the_average_and_keep_their_scale_and_mean(config):
    z, k = jnp.asarray(normal(16, 4)), FREQUENCIES
    average = CosineStatistics(jnp.full(4, 2.0), jnp.full(4, 13.0), jnp.asarray(normal(k, k, 4, 4)))
    np.testing.assert_allclose(standardize(z, average), (z - 2) / 3, rtol=1e-4, atol=1e-5)  # 13 - 2^2 = 3^2
    average = statistics_of(z).replace(covariances=average.covariances)
    gradient = jax.grad(lambda z: independence_loss(config, z, average)[0])(z)
    assert np.abs(gradient).max() > 1e-2
    np.testing.assert_allclose(gradient.sum(0), 0, atol=1e-4)  # it does not shift a unit
    np.testing.assert_allclose((gradient * z).sum(0), 0, atol=1e-3)  # nor scale one


@pytest.mark.parametrize("form", FORMS)
def test_descent_separates_two_factors_that_two_units_share(config, form):
    """As width and height share the shape and the scale of an object: a square and a 45-degree mixture of it."""
    config.independence.form, config.model.latent_dim = form, 2
    rng = np.random.default_rng(0)
    scale, shape = rng.integers(0, 8, (2_000, 16)) / 7, rng.integers(0, 4, (2_000, 16)) / 3
    factors = jnp.asarray(np.stack([scale, shape], -1), jnp.float32)
    rate = {"cosines": 0.02, "negentropy": 0.2}[form]
    mixing, average, decay = jnp.array([[1.0, 1.0], [-0.9, 1.1]]), initial_statistics(config), 0.99

    @jax.jit
    def step(mixing, average, batch):
        def loss(mixing):
            return independence_loss(config, batch @ mixing, average)

        (_, new), gradient = jax.value_and_grad(loss, has_aux=True)(mixing)
        average = jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, average, new)
        return mixing - rate * gradient, average

    def share(mixing):  # of the larger factor in the variance of each unit
        squares = np.square(mixing * np.array([[scale.std()], [shape.std()]]))
        return squares.max(0) / squares.sum(0)

    before = share(mixing)
    for batch in factors:
        mixing, average = step(mixing, average, batch)
    assert before.max() < 0.7 < 0.97 < share(mixing).min()


def test_negentropy_by_quadrature():
    """... of its formula, and for Laplace's against the entropies in closed form. It underestimates a uniform one's."""
    laws = [stats.norm(), stats.uniform(-(3**0.5), 12**0.5), stats.laplace(0, 0.5**0.5), stats.gamma(16, -4, 0.25)]
    units = np.stack([law.rvs(400_000, random_state=i) for i, law in enumerate(laws)], axis=1)
    found = statistics_of(jnp.asarray(units, jnp.float32), AxisStatistics)

    def mean(law, function):
        return quad(lambda u: law.pdf(u) * function(u), -9, 9, points=[-(3**0.5), 0, 3**0.5, -4])[0]

    odd_means = np.array([mean(law, lambda u: u * np.exp(-(u**2) / 2)) for law in laws])
    even_means = np.array([mean(law, lambda u: np.exp(-(u**2) / 2)) for law in laws]) - 0.5**0.5
    expected = 36 / (8 * 3**0.5 - 9) * odd_means**2 + 24 / (16 * 3**0.5 - 27) * even_means**2
    negentropy = found.negentropy()
    np.testing.assert_allclose(negentropy, expected, rtol=0.05, atol=1e-4)
    np.testing.assert_allclose(negentropy[2], laws[0].entropy() - laws[2].entropy(), rtol=0.2)
    assert negentropy[0] < 1e-4 < 0.01 < negentropy[1:].min()
    np.testing.assert_allclose(found.products, np.eye(4), atol=0.01)


def test_l_ind_of_correlated_normal_units_is_their_mutual_information():
    r = 0.2
    u = np.random.default_rng(0).multivariate_normal([0, 0], [[1, r], [r, 1]], size=400_000).astype(np.float32)
    found = statistics_of(jnp.asarray(u), AxisStatistics)
    np.testing.assert_allclose(found.dependence(), -np.log(1 - r**2) / 2, atol=0.01)  # RIDGE is .01


@pytest.mark.parametrize("form", FORMS)
def test_which_layers_of_e_sem_have_a_gradient(form):
    """Cosines: all of them. Negentropy: the last one. Both through the loss of Diff-AE alone."""
    tiny = scenes.get_config("tiny")
    tiny.vae.weight, tiny.independence.weight, tiny.independence.form = 0.0, 1.0, form
    networks = make_networks(tiny)
    params = init_params(networks, tiny, jax.random.key(0))
    x0 = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (8, 16, 16, 3)), jnp.float32)
    average = statistics_of(networks.encode_semantic(params, x0), FORMS[form])
    loop = feedback.initial_feedback(tiny).replace(units=average)

    def l_ind(params):
        return loss_of_networks(tiny, networks, params, x0, networks.encode_semantic(params, x0), average)[0]

    found, gradient = jax.value_and_grad(l_ind)(params)
    np.testing.assert_allclose(found, average.dependence(), rtol=1e-3)
    head = gradient["semantic_encoder"].pop("head")
    assert np.abs(head["layer"]["kernel"]).max() > 1e-4
    largest = [float(np.abs(leaf).max()) for leaf in jax.tree.leaves(gradient["semantic_encoder"])]
    assert min(largest) > 1e-6 if form == "cosines" else max(largest) == 0
    _, output = baselines.diffae_loss(params, networks, tiny, x0, loop, jnp.array(10_000), jax.random.key(1))
    np.testing.assert_allclose(output.scalars["L_ind"], found, rtol=1e-4)


def test_the_loss_of_a_steady_state_is_the_squared_covariance(config):
    z = jnp.asarray(normal(16, 4))
    average = statistics_of(z)
    np.testing.assert_allclose(
        independence_loss(config, z, average)[0], jnp.square(average.covariances).sum(), rtol=1e-4
    )


def test_its_weight_rises_once_z_sem_no_longer_listens(config):
    config.independence.weight = 0.5
    weights = [float(independence_weight(config, jnp.array(5 + step))) for step in (-5, 0, 1_000, RAMP_STEPS, 10**6)]
    np.testing.assert_allclose(weights, [0, 0, 0.25, 0.5, 0.5], rtol=1e-6)
    for branch in (config.distillation, config.vae):  # Diff-AE alone does not listen
        branch.weight = 0.0
        assert float(independence_weight(config, jnp.array(1_000))) == 0.25
        branch.weight = 1.0


def test_with_weight_0_there_is_no_state(config):
    assert feedback.initial_feedback(config).units.mean.shape == (10,)
    config.independence.weight = 0.0
    without = feedback.initial_feedback(config)
    assert without.units is None
    assert [field.name for field in dataclasses.fields(without)] == ["capacity", "progress", "gain", "zero_gain"]
    assert independence_loss(config, jnp.zeros((4, 10)), None) == (0, None)


def test_the_average_of_the_loop_is_that_of_the_statistics(config):
    loop = feedback.initial_feedback(config)
    new = jax.tree.map(lambda a: a + 1, loop.units)
    signals = feedback.Signals(jnp.float32(0), jnp.float32(0), jnp.float32(0), new)
    moved = loop
    for step in range(3):
        moved = feedback.close_loop(config, moved, signals, jnp.array(step))
    change = jax.tree.map(lambda a, b: a - b, moved.units, loop.units)
    jax.tree.map(lambda a: np.testing.assert_allclose(a, 1 - 0.99**3, rtol=1e-4), change)
