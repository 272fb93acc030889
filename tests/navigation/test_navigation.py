"""The formulas of Navigation, and the recovery of known directions: a generator whose rotated latents move gratings."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cldis_jax.navigation import method as navigation_method
from cldis_jax.runtime.errors import UserError

DIM, SIZE = 3, 12
IMAGE = (SIZE, SIZE, 1)
SCALES = jnp.array([0.5, 1.0, 2.0])


def small_config(**fields):
    config = navigation_method.default_config()
    config.num_directions = DIM
    config.width = 8
    config.learning_rate = 1e-3
    config.directions_learning_rate = 3e-2
    config.update(fields)
    return config


def gratings(rotation):
    """A decoder in which column i of `rotation` [d, d] moves only the grating in strip i of the image.

    x_T gives the sign of the motion. Directions that move the same strips with other signs therefore look alike.
    """

    def decode(z, x_T):
        moved = (z / SCALES[None]) @ rotation * jnp.sign(x_T[:, 0, :DIM, 0])
        rows = jnp.arange(SIZE) * 2 * jnp.pi / SIZE
        strips = jnp.sin(rows[None, :, None] + moved[:, None, :])
        return strips.repeat(SIZE // DIM, axis=2)[..., None]

    return decode


@pytest.mark.parametrize("seeds", [(0,), pytest.param((1, 2), marks=pytest.mark.slow)])
def test_recovers_known_directions(seeds):
    config = small_config()
    reconstructor = navigation_method.make_reconstructor(config)
    codes = jax.random.normal(jax.random.key(1), (512, DIM)) * SCALES[None]

    @functools.partial(jax.jit, donate_argnums=1)
    def step(rotation, state):
        return navigation_method.train_step(config, gratings(rotation), reconstructor, IMAGE, codes, SCALES, state)

    create = jax.jit(lambda: navigation_method.create_state(config, reconstructor, DIM, IMAGE))
    for seed in seeds:
        known = np.linalg.qr(np.random.default_rng(seed).normal(size=(DIM, DIM)))[0].astype(np.float32)
        state = create()

        def overlaps(state, known=known):
            return np.abs(known.T @ np.asarray(navigation_method.direction_matrix(config, state.params["directions"])))

        assert overlaps(state).max(axis=0).min() < 0.75  # the initial directions are far from the known ones
        for _ in range(250):
            state, scalars = step(jnp.asarray(known), state)
        found = overlaps(state)
        assert (found.max(axis=0) > 0.9).all()
        assert sorted(found.argmax(axis=0)) == list(range(DIM))  # each once, up to sign and order
        assert scalars["accuracy"] > 0.8


def test_ortho_is_a_rotation_and_keeps_its_first_columns():
    config = small_config(num_directions=4)
    S = navigation_method.init_directions(config, 6, jax.random.key(0))
    A = np.asarray(navigation_method.direction_matrix(config, S))
    assert A.shape == (6, 4)
    np.testing.assert_allclose(A.T @ A, np.eye(4), atol=1e-5)
    # Reference: the exponential of a skew-symmetric matrix from its eigenvalues, in float64.
    skew = np.asarray(S - S.T, np.float64)
    values, vectors = np.linalg.eig(skew)
    reference = (vectors * np.exp(values)) @ np.linalg.inv(vectors)
    np.testing.assert_allclose(A, reference.real[:, :4], atol=1e-4)


def test_unit_columns_have_length_one_and_may_outnumber_the_dimensions():
    config = small_config(basis="unit", num_directions=9)
    A = navigation_method.direction_matrix(config, navigation_method.init_directions(config, 4, jax.random.key(0)))
    assert A.shape == (4, 9)
    np.testing.assert_allclose(np.linalg.norm(A, axis=0), 1, rtol=1e-6)


@pytest.mark.parametrize("basis", ["ortho", "unit", "identity"])
def test_initial_directions_at_the_axes(basis):
    config = small_config(basis=basis, start="axes", num_directions=2)
    A = navigation_method.direction_matrix(config, navigation_method.init_directions(config, 3, jax.random.key(0)))
    np.testing.assert_allclose(A, np.eye(3)[:, :2], atol=1e-6)


def test_the_identity_basis_is_not_trained():
    config = small_config(basis="identity")
    reconstructor = navigation_method.make_reconstructor(config)
    state = jax.jit(lambda: navigation_method.create_state(config, reconstructor, DIM, IMAGE))()
    codes = jnp.ones((4, DIM))
    step = functools.partial(navigation_method.train_step, config, gratings(jnp.eye(DIM)), reconstructor, IMAGE)
    after, _ = jax.jit(step)(codes, SCALES, state)
    np.testing.assert_array_equal(after.params["directions"], np.eye(DIM))


def test_shifts_are_in_range_and_use_both_signs_and_every_direction():
    config = small_config()
    config.data.batch_size = 4096
    codes = jnp.arange(5.0)[:, None].repeat(DIM, axis=1)
    shifts = navigation_method.draw_shifts(config, codes, (2, 2, 1), jax.random.key(3))
    size = np.abs(shifts.eps)
    assert size.min() >= 0.5
    assert size.max() <= 6
    np.testing.assert_allclose(size.mean(), 3.25, atol=0.1)
    np.testing.assert_allclose((np.asarray(shifts.eps) > 0).mean(), 0.5, atol=0.05)
    np.testing.assert_allclose(np.bincount(shifts.k) / 4096, np.full(DIM, 1 / DIM), atol=0.05)
    assert set(np.unique(shifts.z)) == {0, 1, 2, 3, 4}


class FixedReconstructor:
    """A reconstructor that returns pixel (0, 0) of x' - x as the shift."""

    def apply(self, variables, pairs):
        moved = pairs[:, 0, 0, 1] - pairs[:, 0, 0, 0]
        return jnp.zeros((len(pairs), DIM)), moved


def test_loss_is_cross_entropy_and_a_quarter_of_the_shift_error():
    config = small_config(basis="identity")
    z = jnp.zeros((DIM, DIM))
    eps = jnp.array([1.0, -2.0, 4.0])
    shifts = navigation_method.Shifts(z=z, x_T=jnp.zeros((DIM, 2, 2, 1)), k=jnp.arange(DIM), eps=eps)
    seen = []

    def decode(z, x_T):
        seen.append(np.asarray(z))
        return jnp.broadcast_to(z.sum(-1)[:, None, None, None], (len(z), 2, 2, 1))

    params = {"directions": jnp.eye(DIM), "reconstructor": {}}
    loss, scalars = navigation_method.navigation_loss(params, config, decode, FixedReconstructor(), SCALES, shifts)
    # z' = z + scales_k eps_k e_k; the stand-in returns scales_k eps_k.
    np.testing.assert_allclose(seen[0][1::2], np.diag(np.asarray(SCALES * eps)))
    np.testing.assert_array_equal(seen[0][::2], 0)
    error = np.mean(np.abs(np.array([0.5, -2.0, 8.0]) - np.array([1.0, -2.0, 4.0])))
    np.testing.assert_allclose(scalars["shift_error"], error, rtol=1e-6)
    np.testing.assert_allclose(loss, np.log(3) + 0.25 * error, rtol=1e-6)


def test_both_images_of_a_pair_have_the_same_x_T():
    config = small_config()
    seen = []

    def decode(z, x_T):
        seen.append(np.asarray(x_T))
        return x_T

    params = {"directions": jnp.eye(DIM), "reconstructor": {}}
    shifts = navigation_method.draw_shifts(config, jnp.zeros((4, DIM)), IMAGE, jax.random.key(0))
    navigation_method.reconstruct(params, config, decode, FixedReconstructor(), SCALES, shifts)
    np.testing.assert_array_equal(seen[0][::2], seen[0][1::2])
    assert np.abs(seen[0][0] - seen[0][2]).max() > 0.1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_directions": 9}, "num_directions=9 is more than the 3 dimensions"),
        ({"num_directions": 4, "basis": "identity"}, "more than the 3 dimensions"),
        ({"num_directions": 4, "basis": "unit", "start": "axes"}, "more than the 3 axes.*start=random"),
        ({"num_directions": 0}, "num_directions=0"),
        ({"basis": "free"}, "basis='free'"),
        ({"min_shift": 7.0}, "min_shift=7.0"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
    ],
)
def test_bad_settings_are_named(fields, words):
    with pytest.raises(UserError, match=words):
        navigation_method.validate(small_config(**fields), DIM)
