"""The terms of the loss and the loop, with stand-in networks whose outputs are known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cldis_jax.configs import default
from cldis_jax.method import baselines, closed_loop, diffusion, feedback, vae_loss
from cldis_jax.method.prediction import prediction_of
from tests.method.stand_ins import KEY, LATENT, NETWORKS, PARAMS, X0


@pytest.fixture
def config():
    config = default.get_config()
    config.model.latent_dim = LATENT
    config.feedback.mode = "anneal"
    return config


def run(config, params=PARAMS, objective=closed_loop.closed_loop_loss, step=0, capacity=5.0):
    loop = feedback.initial_feedback(config).replace(capacity=jnp.float32(capacity))
    if loop.units is not None:
        loop = loop.replace(units=loop.units.replace(covariances=jnp.full_like(loop.units.covariances, 0.1)))

    def loss(params):
        return objective(params, NETWORKS, config, X0, loop, jnp.array(step), KEY)

    (value, output), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    return value, output, gradient


def noised(config):
    """The t, eps and x_t that the method draws from KEY."""
    t = jax.random.randint(jax.random.fold_in(KEY, 0), (6,), 0, 1000)
    eps = jax.random.normal(jax.random.fold_in(KEY, 1), X0.shape)
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 2e-2, 1000))[np.asarray(t)].reshape(-1, 1, 1, 1)
    return t, np.asarray(eps), np.sqrt(alpha_bar) * np.asarray(X0) + np.sqrt(1 - alpha_bar) * np.asarray(eps), alpha_bar


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_L_diff(config, prediction):
    config.diffusion.prediction = prediction
    _, output, _ = run(config)
    _, eps, x_t, alpha_bar = noised(config)
    x0 = np.asarray(X0)
    found = 0.5 * x_t + x0.mean(axis=(1, 2, 3), keepdims=True) * (1 - 2 + 3) / 3
    c = 0.1**2 / (0.1**2 + (1 - alpha_bar) / alpha_bar)
    error = {
        "eps": found - eps,
        "v": found - (np.sqrt(alpha_bar) * eps - np.sqrt(1 - alpha_bar) * x0),
        "x0": (c * x_t / np.sqrt(alpha_bar) + (1 - c) * found - x0) / np.sqrt(1 - alpha_bar),
    }
    expected = np.square(error[prediction]).mean()
    np.testing.assert_allclose(output.scalars["L_diff"], expected, rtol=1e-4)


@pytest.mark.parametrize("form", vae_loss.CAPACITY_FORMS)
def test_L_vae(config, form):
    config.vae.capacity_form = form
    _, output, _ = run(config, capacity=5.0)
    mean = np.asarray(X0).mean(axis=(1, 2, 3))[:, None] * [2.0, 1.0, -1.0]
    log_var = np.array([-1.0, -2.0, 0.0])
    kl = (0.5 * (mean**2 + np.exp(log_var) - log_var - 1)).sum(-1).mean()
    penalty = 4 * abs(kl - 5) if form == "absolute" else 4 * max(kl - 5, 0) + kl
    np.testing.assert_allclose(output.scalars["vae/kl"], kl, rtol=1e-5)
    np.testing.assert_allclose(output.scalars["L_vae"] - output.scalars["vae/reconstruction"], penalty, rtol=1e-4)
    z = mean + np.exp(log_var / 2) * np.asarray(jax.random.normal(jax.random.fold_in(KEY, 2), (6, LATENT)))
    logits = z.mean(-1).reshape(-1, 1, 1, 1)
    p, x = 1 / (1 + np.exp(-logits)), (np.asarray(X0) + 1) / 2
    expected = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=(1, 2, 3)).mean()
    np.testing.assert_allclose(output.scalars["vae/reconstruction"], expected, rtol=1e-4)


def test_antithetic_pairs_cancel_the_noise_of_a_linear_decoder(config):
    """-log p(x|l) = softplus(l) - l (x + 1) / 2 for logits l: the noise remains in the softplus, by its even part."""
    config.vae.antithetic = True
    _, output, gradient = run(config)
    noise = np.exp(np.array([-0.5, -1.0, 0.0])) * np.asarray(jax.random.normal(jax.random.fold_in(KEY, 2), (6, LATENT)))
    mu, target = np.asarray(X0).mean(axis=(1, 2, 3)), (np.asarray(X0).sum(axis=(1, 2, 3)) + 16) / 2  # of 16 pixels
    logit = 2 * mu / 3  # the three means add up to 2 mu
    pair = logit + np.array([[1], [-1]]) * noise.mean(-1)
    expected = (16 * np.log1p(np.exp(pair)).mean(0) - logit * target).mean()
    np.testing.assert_allclose(output.scalars["vae/reconstruction"], expected, rtol=1e-5)
    kl = 4 * np.sign(output.scalars["vae/kl"] - 5) * (mu[:, None] ** 2 * [2.0, 1.0, -1.0]).mean(0)
    of_the_pair = ((16 * (1 / (1 + np.exp(-pair))).mean(0) - target) * mu / 3).mean() + kl
    np.testing.assert_allclose(gradient["beta_vae"]["m"][0], of_the_pair, rtol=1e-4)


def test_the_sum_and_its_weights(config):
    config.distillation.weight, config.vae.weight, config.diffusion.weight = 0.3, 0.7, 1.3
    config.independence.weight = 0.4
    value, output, _ = run(config, step=10_000)
    s = output.scalars
    expected = 1.3 * s["L_diff"] + 0.3 * s["L_dt"] + 0.7 * s["L_vae"] + 0.4 * s["L_ind"]
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert s["L_dt"] > 0
    assert s["L_ind"] != 0


def test_diffae_alone_has_L_ind_too(config):
    config.vae.weight, config.diffusion.weight, config.independence.weight = 0.0, 1.3, 0.4
    value, output, gradient = run(config, objective=baselines.diffae_loss, step=10_000)
    np.testing.assert_allclose(value, 1.3 * output.scalars["L_diff"] + 0.4 * output.scalars["L_ind"], rtol=1e-5)
    assert output.scalars["L_ind"] != 0
    config.independence.weight = 0.0
    without = run(config, objective=baselines.diffae_loss, step=10_000)[2]
    # A unit is the brightness times a weight here, and L_ind does not scale a unit.
    for name, found in gradient["semantic_encoder"].items():
        np.testing.assert_allclose(found, without["semantic_encoder"][name], atol=1e-5)


@pytest.mark.parametrize("teacher_gradient", [False, True])
def test_which_parameters_distillation_trains(config, teacher_gradient):
    """z_sem always; the teacher's mean only with teacher_gradient; its variance never."""
    config.distillation.teacher_gradient = teacher_gradient
    config.distillation.weight = 0.0
    without = run(config)[2]
    config.distillation.weight = 1.0
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), run(config)[2], without)
    assert moved["semantic_encoder"]["w"] > 1e-3
    assert (moved["beta_vae"]["m"] > 1e-3) == teacher_gradient
    assert moved["beta_vae"]["log_var"] == 0
    assert moved["unet"]["a"] == 0


def test_while_listening_only_L_dt_trains_E_sem(config):
    """In the first steps only L_dt trains z_sem. The denoiser always trains. Without distillation nothing changes."""
    config.distillation.weight = config.distillation.listen_weight = 0.5
    both = run(config, step=3)[2]
    config.distillation.listen_steps = 3
    at_first, later = run(config, step=2)[2], run(config, step=3)[2]
    config.diffusion.weight = 0.0
    distillation_alone = run(config, step=3)[2]["semantic_encoder"]
    config.diffusion.weight = 1.0
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), later, both)
    assert float(jnp.abs(both["semantic_encoder"]["w"] - distillation_alone["w"]).max()) > 1e-4
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), at_first["semantic_encoder"], distillation_alone
    )
    assert float(jnp.abs(at_first["unet"]["a"])) > 0
    config.distillation.weight = 0.0
    jax.tree.map(np.testing.assert_array_equal, run(config, step=2)[2], run(config, step=3)[2])


def test_the_weight_of_L_dt_while_z_sem_listens(config):
    config.distillation.listen_weight, config.distillation.weight = 0.9, 0.3
    assert run(config, step=0)[1].scalars["lambda_dt"] == np.float32(0.3), "without listening it is not used"
    config.distillation.listen_steps = 3
    at_first, later = run(config, step=2), run(config, step=3)
    for (value, output, _), weight in ((at_first, 0.9), (later, 0.3)):
        s = output.scalars
        np.testing.assert_allclose(value, s["L_diff"] + weight * s["L_dt"] + s["L_vae"], rtol=1e-5)
        np.testing.assert_allclose(s["lambda_dt"], weight, rtol=1e-6)
    config.distillation.weight = 0.0
    for step in (2, 3):
        assert run(config, step=step)[1].scalars["lambda_dt"] == 0, "there is no distillation"


def test_adaptive_distillation_follows_the_teachers_KL(config):
    config.distillation.schedule = "adaptive"
    config.distillation.weight = 0.2
    config.feedback.max_capacity = 10.0
    _, output, _ = run(config)
    np.testing.assert_allclose(output.scalars["lambda_dt"], 0.2 * output.scalars["vae/kl"] / 10, rtol=1e-5)
    config.feedback.max_capacity = 0.1
    np.testing.assert_allclose(run(config)[1].scalars["lambda_dt"], 0.2, rtol=1e-6)


def test_L_dt_weighs_each_unit_by_its_KL(config):
    """The weight is the KL over the batch, at most 1 nat. It has no gradient, so that L_dt trains z_sem alone."""
    config.distillation.weigh_units, config.distillation.weight = True, 1.0
    log_var = np.array([-1.0, -4.0, 0.0])
    params = PARAMS | {"beta_vae": PARAMS["beta_vae"] | {"log_var": jnp.array([log_var])}}
    _, output, gradient = run(config, params)
    x = np.asarray(X0).mean(axis=(1, 2, 3))[:, None]
    mean, z_sem = x * [2.0, 1.0, -1.0], x * [1.0, -2.0, 3.0]
    unit_kl = (0.5 * (mean**2 + np.exp(log_var) - log_var - 1)).mean(0)
    assert unit_kl[2] < unit_kl[0] < 1 < unit_kl[1]
    by_unit = (z_sem - mean) ** 2 / (2 * (np.exp(log_var) + config.distillation.sigma_floor**2))
    np.testing.assert_allclose(output.scalars["L_dt"], (by_unit * np.minimum(unit_kl, 1)).sum(-1).mean(), rtol=1e-4)
    config.distillation.weight = 0.0
    assert float(jnp.abs(gradient["semantic_encoder"]["w"]).max()) > 1e-3
    jax.tree.map(np.testing.assert_array_equal, run(config, params)[2]["beta_vae"], gradient["beta_vae"])


def test_with_swapping_L_diff_trains_the_vae(config):
    config.distillation.weight = config.vae.weight = 0.0
    assert float(jnp.abs(run(config)[2]["beta_vae"]["m"]).max()) == 0
    config.feedback.swap_probability = 1.0
    gradient = run(config)[2]
    assert float(jnp.abs(gradient["beta_vae"]["m"]).max()) > 1e-4
    assert float(jnp.abs(gradient["semantic_encoder"]["w"]).max()) == 0


def test_swap_probability_is_per_sample(config):
    """L_diff with p = 0.5 differs from L_diff with p = 0 and with p = 1."""
    config.feedback.swap_probability = 0.5
    swap = jax.random.bernoulli(jax.random.fold_in(KEY, 3), 0.5, (6, 1))
    assert 0 < int(swap.sum()) < 6
    values = []
    for p in (0.0, 0.5, 1.0):
        config.feedback.swap_probability = p
        values.append(float(run(config)[1].scalars["L_diff"]))
    assert len(set(values)) == 3


def test_swap_ends_after_its_steps(config):
    """After swap_steps the loss equals that of a run without swapping, bit for bit."""
    never = run(config, step=3)
    config.feedback.swap_probability = 1.0
    all_steps = run(config, step=3)[0]
    config.feedback.swap_steps = 3
    np.testing.assert_array_equal(run(config, step=2)[0], all_steps)
    over = run(config, step=3)
    np.testing.assert_array_equal(over[0], never[0])
    jax.tree.map(np.testing.assert_array_equal, over[2], never[2])


def test_encode_noisy_gives_the_vae_x_t(config):
    config.feedback.encode_noisy = True
    _, output, _ = run(config)
    mean = noised(config)[2].mean(axis=(1, 2, 3))[:, None] * [2.0, 1.0, -1.0]
    log_var = np.array([-1.0, -2.0, 0.0])
    kl = (0.5 * (mean**2 + np.exp(log_var) - log_var - 1)).sum(-1).mean()
    np.testing.assert_allclose(output.scalars["vae/kl"], kl, rtol=1e-4)


@pytest.mark.parametrize("missing", ["vae", "diffusion"])
def test_one_branch_alone(config, missing):
    """The loss is the term of the other branch. It equals this term in the closed loop on the same batch."""
    both = run(config)[1].scalars
    config[missing].weight = 0.0
    value, output, gradient = run(config, objective=baselines.objective(config))
    own = "L_diff" if missing == "vae" else "L_vae"
    np.testing.assert_allclose(value, output.scalars[own], rtol=1e-6)
    np.testing.assert_allclose(output.scalars[own], both[own], rtol=1e-6)
    absent = {"vae": ("beta_vae",), "diffusion": ("unet", "semantic_encoder")}[missing]
    assert all(float(jnp.abs(g).max()) == 0 for name in absent for g in jax.tree.leaves(gradient[name]))


# --- the loop ---


def test_timestep_capacity_is_that_of_the_channel(config):
    config.feedback.mode = "timestep"
    config.feedback.max_capacity = 20.0
    schedule = diffusion.schedule_of(config)
    capacity = np.asarray(feedback.timestep_capacity(config, schedule, jnp.arange(1000)))
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 2e-2, 1000))
    expected = 20 * np.log(1 / (1 - alpha_bar)) / np.log(1 / (1 - alpha_bar[0]))
    np.testing.assert_allclose(capacity, expected, rtol=1e-4)
    assert capacity[0] == pytest.approx(20)
    assert capacity[-1] < 1e-3
    t = noised(config)[0]
    _, output, _ = run(config)
    np.testing.assert_allclose(output.scalars["vae/capacity"], capacity[np.asarray(t)].mean(), rtol=1e-5)


def share_over_all_timesteps(prediction, x0_of_x_t, second_moment=0.25):
    """`recovered_information` of a Gaussian image set with every timestep equally often."""
    config = default.get_config()
    config.diffusion.prediction = prediction
    schedule = diffusion.schedule_of(config)
    t = jnp.tile(jnp.arange(1000), 8)
    rng = np.random.default_rng(0)
    x0, eps = rng.normal(size=(2, len(t), 8, 8, 1)).astype(np.float32)
    x0 *= np.sqrt(second_moment)
    signal, noise = (diffusion.per_sample(table, t, 4) for table in (schedule.signal, schedule.noise))
    x_t = signal * x0 + noise * eps
    predicted = x0_of_x_t(x0, x_t, signal, noise)
    error = jnp.square(predicted - x0) / noise**2  # in x_0; the units of L_diff for v and x0
    if prediction == "eps":
        error = jnp.square((x_t - signal * predicted) / noise - eps)
    return float(
        feedback.recovered_information(schedule, prediction_of(config), error.mean(axis=(1, 2, 3)), jnp.asarray(x0), t)
    )


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_progress_is_0_for_a_linear_and_1_for_a_perfect_denoiser(prediction):
    def linear(x0, x_t, signal, noise):  # the best linear denoiser
        return signal * 0.25 / (signal**2 * 0.25 + noise**2) * x_t

    assert share_over_all_timesteps(prediction, linear) == pytest.approx(0, abs=0.02)
    assert share_over_all_timesteps(prediction, lambda x0, *_: x0) == pytest.approx(1, abs=1e-3)

    def halfway(x0, x_t, signal, noise):  # a quarter of the linear error
        return 0.5 * x0 + 0.5 * linear(x0, x_t, signal, noise)

    assert share_over_all_timesteps(prediction, halfway) == pytest.approx(0.75, abs=0.02)


def test_gain_is_the_log_ratio_and_only_measured_when_due(config):
    config.feedback.every = 4
    _, output, _ = run(config, step=0)
    t, _, x_t, _ = noised(config)
    alpha_bar = diffusion.schedule_of(config).alpha_bar[np.asarray(t)].reshape(-1, 1, 1, 1)
    z = np.asarray(X0).mean(axis=(1, 2, 3)).reshape(-1, 1, 1, 1) * 2 / 3

    def loss(z):  # the squared error of the clipped estimate of x_0
        x0 = (x_t - np.sqrt(1 - alpha_bar) * (0.5 * x_t + z)) / np.sqrt(alpha_bar)
        return np.square(np.clip(x0, -1, 1) - np.asarray(X0)).mean()

    np.testing.assert_allclose(output.signals.gain, np.log(loss(np.roll(z, 1, axis=0)) / loss(z)), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(output.signals.zero_gain, np.log(loss(0 * z) / loss(z)), rtol=1e-3, atol=1e-5)
    assert np.isnan(run(config, step=1)[1].signals.gain)


def test_gain_has_no_gradient(config):
    """The probe's own value must not reach the loss or its gradient."""
    due, idle = run(config, step=0), run(config, step=1)
    np.testing.assert_array_equal(due[0], idle[0])
    jax.tree.map(np.testing.assert_array_equal, due[2], idle[2])


def feed(config, values, name):
    """C after each value of the signal `name`. The other signals are 0 or not measured."""
    loop, nan = feedback.initial_feedback(config), jnp.float32(jnp.nan)
    capacities = []
    for step, value in enumerate(values):
        signals = feedback.Signals(jnp.float32(0), gain=nan, zero_gain=nan).replace(**{name: jnp.float32(value)})
        loop = feedback.close_loop(config, loop, signals, step)
        capacities.append(float(loop.capacity))
    return capacities


@pytest.mark.parametrize("mode", ["progress", "gain"])
def test_closed_modes_follow_the_signals_average_and_never_fall(config, mode):
    config.feedback.mode = mode
    config.feedback.lead_capacity, config.feedback.max_capacity = 2.0, 12.0
    config.feedback.every = 1 if mode == "progress" else 2
    config.feedback.ema_decay, config.feedback.reference = 0.5 ** (1 / config.feedback.every), 2.0
    capacities = feed(config, [1.0, 1.0, -5.0, np.nan if mode == "gain" else -5.0, 9.0, 9.0], mode)
    np.testing.assert_allclose(capacities[:2], [2 + 10 * 0.5 / 2, 2 + 10 * 0.75 / 2], rtol=1e-6)
    assert capacities[2] == capacities[3] == capacities[1]
    assert np.all(np.diff(capacities) >= 0)
    assert capacities[-1] == pytest.approx(12.0)


def test_open_modes(config):
    config.feedback.mode, config.feedback.max_capacity, config.feedback.anneal_steps = "anneal", 8.0, 4
    np.testing.assert_allclose(feed(config, [0] * 6, "progress"), [2, 4, 6, 8, 8, 8])
    config.feedback.mode = "fixed"
    assert float(feedback.initial_feedback(config).capacity) == 8.0
    np.testing.assert_allclose(feed(config, [0] * 2, "progress"), [8, 8])
