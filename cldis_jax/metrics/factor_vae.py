"""The FactorVAE score: a vote over the code of least variance [Kim & Mnih 2018, arXiv 1802.05983, section 4]."""

from collections.abc import Sequence

import numpy as np

from cldis_jax.metrics import inputs, sampling


def factor_vae(
    represent: sampling.Represent,
    factor_sizes: Sequence[int],
    *,
    seed: int,
    num_variance_estimate: int = 10_000,
    num_train: int = 10_000,
    num_eval: int = 5_000,
    batch_size: int = 64,
    prune_std: float = 0.05,
) -> dict[str, float]:
    """`factor_vae`: test accuracy of the classifier that predicts the fixed factor from the code of least variance.

    `represent` maps factors [N, F] to codes [N, C]. A vote is a batch in which one factor is fixed, and the code whose
    variance in this batch, divided by its variance over `num_variance_estimate` samples, is the least. Codes with a
    standard deviation below `prune_std` and codes that never vary are left out; without any code left the score is 0.
    `factor_vae_train` is the accuracy on the training votes, `num_active` the number of codes that are used.

    The defaults are those of disentanglement_lib's study (its eval accuracy). The FDAE authors use prune_std = 0.

    Raises:
      ValueError: bad factor sizes or codes, no votes, or a variance of fewer than two samples.
    """
    sizes = sampling.check_sizes(factor_sizes)
    sampling.check_numbers(1, num_train=num_train, num_eval=num_eval)
    sampling.check_numbers(2, num_variance_estimate=num_variance_estimate, batch_size=batch_size)
    rng = np.random.default_rng(seed)
    variance = _global_variance(represent, sizes, rng, num_variance_estimate)
    active = np.flatnonzero((np.sqrt(variance) >= prune_std) & (variance > 0))
    if len(active) == 0:
        return {"factor_vae": 0.0, "factor_vae_train": 0.0, "num_active": 0.0}
    train, test = (_votes(represent, sizes, rng, num, batch_size, variance, active) for num in (num_train, num_eval))
    classifier = train.argmax(axis=0)
    codes = np.arange(train.shape[1])
    return {
        "factor_vae": float(test[classifier, codes].sum() / test.sum()),
        "factor_vae_train": float(train[classifier, codes].sum() / train.sum()),
        "num_active": float(len(active)),
    }


def _global_variance(represent, sizes, rng, num: int) -> np.ndarray:
    parts = [
        sampling.represent_batches(represent, sampling.sample_factors(rng, sizes, rows, 1))[:, 0]
        for rows in sampling.chunks(num, 1)
    ]
    codes = np.concatenate(parts)
    return np.where(inputs.varies(codes), np.var(codes, axis=0, ddof=1, dtype=np.float64), 0.0)


def _votes(represent, sizes, rng, num: int, batch_size: int, variance, active) -> np.ndarray:
    """Number of votes for each fixed factor and code of least variance, [F, active codes]."""
    votes = np.zeros((len(sizes), len(active)), np.int64)
    for count in sampling.chunks(num, batch_size):
        fixed = rng.integers(len(sizes), size=count)
        factors = sampling.sample_factors(rng, sizes, count, batch_size)
        rows = np.arange(count)
        factors[rows, :, fixed] = factors[rows, 0, fixed][:, None]
        codes = sampling.represent_batches(represent, factors)[..., active]
        least = (np.var(codes, axis=1, ddof=1, dtype=np.float64) / variance[active]).argmin(axis=1)
        np.add.at(votes, (fixed, least), 1)
    return votes
