"""Every metric at the edges of its inputs: the score is in its range, or the error is a clear one."""

import warnings

import ml_dtypes
import numpy as np
import pytest

from cldis_jax import metrics
from cldis_jax.metrics import boosting, inputs
from cldis_jax.metrics.content_tracking import Tracking
from cldis_jax.metrics.tad import PROTOCOLS

SIZES = (3, 2)
NUM = 48
SMALL = {"num_train": 30, "num_eval": 15, "batch_size": 4}
ROW = np.arange(NUM)[:, None]


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    monkeypatch.setattr(boosting, "NUM_STAGES", 3)


def factors():
    """Every value in both halves."""
    return np.stack([np.arange(NUM) % 3, np.arange(NUM) // 3 % 2], axis=1)


def codes(num=3):
    return np.random.RandomState(0).randn(NUM, num) + factors()[:, np.arange(num) % 2]


EDGES = {
    "ordinary": codes(),
    "constant": np.full((NUM, 3), 0.3),
    "constant, whose mean is rounded": np.full((NUM, 3), 0.1, np.float32),
    "constant but one": codes() * [1, 0, 0],
    "one value but for one sample": np.where(ROW == 5, 1.0, 0.1) * np.ones(3),
    "one code": codes(1),
    "1e25": codes() * 1e25,
    "1e25 in float32": (codes() * 1e25).astype(np.float32),
    "1e-30": codes() * 1e-30,
    "1e-30 in float32": (codes() * 1e-30).astype(np.float32),
    "1e-310": codes() * 1e-310,
    "scales that differ": codes() * [1e25, 1e-30, 1],
    "an outlier": np.where(ROW == 5, 1e25, codes()),
    "a great offset": codes() + 1e16,
    "a great offset in float32": (codes() + 1e8).astype(np.float32),
    "bfloat16": codes().astype(ml_dtypes.bfloat16),
    "float16": codes().astype(np.float16),
    "integers": np.round(3 * codes()).astype(np.int32),
    "booleans": codes() > 0,
}
REFUSED = {
    "NaN": (np.where(ROW == 3, np.nan, codes()), "NaN or infinite"),
    "infinite": (np.where(ROW == 3, -np.inf, codes()), "NaN or infinite"),
    "bfloat16 NaN": (np.where(ROW == 3, np.nan, codes()).astype(ml_dtypes.bfloat16), "NaN or infinite"),
    "1e300": (codes() * 1e300, r"contain values up to .*e\+300; metrics take at most 1e\+30"),
    "complex": (codes() + 1j, "real numbers, got dtype complex128"),
    "text": (codes().astype(str), "real numbers, got dtype <U"),
}


def table(z):
    """A function from factors to the codes of the first sample with these factors."""
    first = {tuple(row): i for i, row in reversed(list(enumerate(factors())))}
    return lambda f: z[[first[tuple(row)] for row in f]]


def halves(z, f=None):
    f = factors() if f is None else f
    return z[: NUM // 2], f[: NUM // 2], z[NUM // 2 :], f[NUM // 2 :]


METRICS = {
    "factor_vae": lambda z: metrics.factor_vae(table(z), SIZES, seed=0, num_variance_estimate=30, **SMALL),
    "factor_vae, nothing pruned": lambda z: metrics.factor_vae(
        table(z), SIZES, seed=0, num_variance_estimate=30, prune_std=0.0, **SMALL
    ),
    "beta_vae": lambda z: metrics.beta_vae(table(z), SIZES, seed=0, **SMALL),
    "dci": lambda z: metrics.dci(*halves(z), seed=0),
    "dci_es": lambda z: metrics.dci_es(*halves(z), seed=0),
    "infomec": lambda z: metrics.infomec(z, factors()),
    "mig": lambda z: metrics.mig(z, factors()),
    "sap": lambda z: metrics.sap(*halves(z)),
    "modularity_explicitness": lambda z: metrics.modularity_explicitness(*halves(z)),
    "irs": lambda z: metrics.irs(z, factors()),
    **{f"tad, {p}": lambda z, p=p: metrics.tad(z, factors() > 0, p) for p in PROTOCOLS},
    "udr, lasso": lambda z: metrics.udr([z, z[:, ::-1], z]),
    "udr, spearman": lambda z: metrics.udr([z, z[:, ::-1], z], correlation="spearman"),
}
# The score of codes that never vary, which inform of nothing.
NOTHING = {
    "factor_vae": 0,
    "dci": 0,
    "dci_es": 0,
    "infomec": 0,
    "mig": 0,
    "sap": 0,
    "modularity_explicitness": 0,
    "irs": 0,
    "tad": 0,
    "udr": 0,
}
NUMBERS = {"num_active": 3, "captured": 2, "captured_std": 2, "active": 3}  # counts, and the most that they can be


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("name", METRICS)
@pytest.mark.filterwarnings("ignore")
def test_scores_are_in_their_range(name, edge):
    z = EDGES[edge]
    needs_two = name.startswith(("dci", "mig", "sap", "tad"))
    if z.shape[1] == 1 and needs_two:
        with pytest.raises(ValueError, match="at least 2 codes, got 1"):
            METRICS[name](z)
        return
    for part, score in METRICS[name](z).items():
        least = -1 if (name, part) == ("dci_es", "explicitness") else 0
        assert least <= score <= NUMBERS.get(part, 1), part
    if edge.startswith("constant, "):
        score = METRICS[name](z)
        assert next(iter(score.values())) == NOTHING.get(name.split(",")[0], score.get("beta_vae"))


@pytest.mark.parametrize("edge", REFUSED)
@pytest.mark.parametrize("name", METRICS)
def test_codes_that_no_metric_can_score_are_refused(name, edge):
    z, message = REFUSED[edge]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=message):
            METRICS[name](z)


OF_ANY_SCALE = ("dci", "infomec", "mig", "modularity_explicitness", "irs", "tad, exact", "udr, lasso", "udr, spearman")


@pytest.mark.parametrize("name", OF_ANY_SCALE)
def test_the_scale_of_codes_does_not_matter(name):
    """In float32 as in float64. SAP and BetaVAE regularise, FactorVAE and coarse TAD have thresholds."""
    ordinary = METRICS[name](codes())
    for edge in ("1e25", "1e25 in float32", *(() if name == "dci" else ("1e-30", "1e-30 in float32"))):
        tolerance = 0.03 if name == "infomec" else 1e-3  # rounding moves a neighbour across a border, one in 48
        assert METRICS[name](EDGES[edge]) == pytest.approx(ordinary, abs=tolerance), edge


@pytest.mark.parametrize("name", ["dci", "dci_es", "infomec", "mig", "sap", "modularity_explicitness"])
def test_a_factor_with_a_single_value_is_named(name):
    single = factors() * [1, 0]
    arrays = (codes(), single) if name in ("infomec", "mig") else halves(codes(), single)
    with pytest.raises(ValueError, match="factor 1 has a single value"):
        getattr(metrics, name)(*arrays, **({"seed": 0} if name in ("dci", "dci_es") else {}))


def test_a_factor_with_a_single_value_where_it_can_be_scored():
    assert 0 <= metrics.irs(codes(), factors() * [1, 0])["irs"] <= 1
    assert metrics.tad(codes(), factors() * 0) == {"tad": 0.0, "captured": 0.0}
    for metric in (metrics.factor_vae, metrics.beta_vae):
        assert 0 <= metric(table(codes()), (3, 1), seed=0, **SMALL)[metric.__name__] <= 1


@pytest.mark.filterwarnings("ignore")
def test_one_sample():
    z, f = codes()[:1], factors()[:1]
    assert metrics.irs(z, f) == {"irs": 0.0}
    assert metrics.udr([z, z])["udr"] == metrics.udr([z, z], correlation="spearman")["udr"] == 0
    assert metrics.tad(z, f) == {"tad": 0.0, "captured": 0.0}
    for metric in (metrics.sap, metrics.modularity_explicitness, lambda *a: metrics.dci(*a, seed=0)):
        with pytest.raises(ValueError, match="single value"):
            metric(z, f, z, f)
    for metric in (metrics.infomec, metrics.mig):
        with pytest.raises(ValueError, match="single value"):
            metric(z, f)
    for name in ("num_train", "num_eval"):
        for metric in (metrics.factor_vae, metrics.beta_vae):
            with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
                metric(table(codes()), SIZES, seed=0, **(SMALL | {name: 0}))
    with pytest.raises(ValueError, match="batch_size must be at least 2, got 1"):
        metrics.factor_vae(table(codes()), SIZES, seed=0, **(SMALL | {"batch_size": 1}))
    with pytest.raises(ValueError, match="num_train=1 points all share factor"):
        metrics.beta_vae(table(codes()), SIZES, seed=0, **(SMALL | {"num_train": 1}))


def test_irs_of_a_small_group_is_not_below_zero():
    """A group's deviation from its own mean may exceed the greatest one from the mean of all."""
    code = np.array([-1.0] * 19 + [1.0] + [1.0] * 19 + [-1.0])[:, None]
    assert metrics.irs(code, (np.arange(40) // 20)[:, None], diff_quantile=1.0) == {"irs": 0.0}


def test_irs_of_constant_codes_is_zero_whatever_the_rounding():
    for value in np.random.RandomState(0).randn(20):
        for dtype in (np.float32, np.float64):
            assert metrics.irs(np.full((NUM, 2), value, dtype), factors()) == {"irs": 0.0}


def test_ordinary_codes_keep_their_type():
    """float32 codes are scored in float32 as long as it is fit for them: the scores of earlier versions."""
    for z in (codes().astype(np.float32), 1e-3 * codes().astype(np.float32), np.zeros((4, 2), np.float32)):
        assert inputs.check_codes(z).dtype == np.float32
    assert inputs.check_codes(EDGES["bfloat16"]).dtype == np.float32
    assert inputs.check_codes(EDGES["a great offset in float32"]).dtype == np.float64


@pytest.mark.parametrize("edge", [name for name in EDGES if name != "booleans"])
@pytest.mark.filterwarnings("ignore")
def test_units_become_finite_codes(edge):
    latents = EDGES[edge][:, :, None] * np.ones(2, EDGES[edge].dtype)
    assert np.isfinite(metrics.reduce_units(latents)).all()
    with pytest.raises(ValueError, match="latents contain NaN"):
        metrics.reduce_units(np.full((4, 2, 2), np.inf, np.float32))


def test_kl_that_is_nan_is_refused():
    with pytest.raises(ValueError, match="kls contain NaN"):
        metrics.udr([codes(), codes()], [np.array([1, np.nan, 1]), np.ones(3)])


IMAGES = np.random.RandomState(0).uniform(-1, 1, (2, 12, 12, 3)).astype(np.float32)


@pytest.mark.parametrize("other", [IMAGES, -IMAGES, 0 * IMAGES, 0 * IMAGES + 1, IMAGES.astype(ml_dtypes.bfloat16)])
def test_pixel_metrics_are_in_their_range(other):
    assert (np.asarray(metrics.mse(IMAGES, other)) >= 0).all()
    assert (np.asarray(metrics.mse(IMAGES, other)) <= 1).all()
    assert (np.asarray(metrics.psnr(IMAGES, other)) >= 0).all()
    assert (np.abs(np.asarray(metrics.ssim(IMAGES, other))) <= 1 + 1e-6).all()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.full_like(IMAGES, np.nan), "NaN or infinite"),
        (IMAGES * np.float32(1e25), r"in \[-1, 1\], but reach 1e\+25"),
        ((127 * IMAGES).astype(np.uint8), "floats in .*, got uint8"),
        (IMAGES[:0], "not empty"),
    ],
)
def test_pixel_metrics_refuse_what_is_no_image(images, message):
    for metric in (metrics.mse, metrics.psnr, metrics.ssim):
        with pytest.raises(ValueError, match=message):
            metric(images, images)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e3])
@pytest.mark.parametrize("num_images", [1, 3])
def test_content_tracking_is_in_its_range(scale, num_images):
    draws = np.random.RandomState(0)
    shape = (num_images, 2, 2, 25)
    tracking = Tracking(
        motion=scale * draws.randn(*shape, 2),
        colour=scale * np.abs(draws.randn(*shape)),
        frames=np.zeros((1, 2, 3, 4, 4, 3), np.uint8),
        tracks=np.zeros((1, 2, 3, 25, 2)),
        visible=np.ones((1, 2, 3, 25), bool),
        shifts=np.linspace(-1, 1, 3),
        tracker="none",
        seconds={},
    )
    summary = tracking.summary(bootstrap=5)
    scores = [summary[name] for name in ("score", "low", "high", "consistency", "independence", "activity")]
    assert all(0 <= score <= 1 for score in scores), scores
    if scale < 1:
        assert summary["score"] == pytest.approx(0, abs=1e-12)
