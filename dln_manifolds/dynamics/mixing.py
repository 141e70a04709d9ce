"""Whether chains have mixed: rank-normalized split R-hat, and effective numbers of draws.

Vehtari, Gelman, Simpson, Carpenter and Buerkner, *Rank-normalization, folding, and localization: an
improved R-hat for assessing convergence of MCMC*, Bayesian Analysis 16 (2021).
"""

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from dln_manifolds.numerics.arrays import Array

# Halves of chains shorter than this say nothing.
_FEWEST = 4


def r_hat(draws: Array) -> Array:
    """Return R-hat of quantities ``(n_chains, n_draws, k)``, shape ``(k,)``; NaN of few draws.

    The larger of that of the ranks and that of the ranks of the distances to the median.
    """
    halves = _halves(draws)
    if halves.shape[1] < _FEWEST:
        return np.full(draws.shape[2], np.nan)
    folded = np.abs(halves - np.median(halves, axis=(0, 1)))
    return np.maximum(_ratio(_normal_scores(halves)), _ratio(_normal_scores(folded)))


def effective_draws(draws: Array) -> Array:
    """Return the effective numbers of draws of quantities ``(n_chains, n_draws, k)``, ``(k,)``."""
    halves = _halves(draws)
    count = halves.shape[1]
    if count < _FEWEST:
        return np.full(draws.shape[2], np.nan)
    scores = _normal_scores(halves)
    centred = scores - scores.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(centred, 2 * count, axis=1)
    covariances = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, :count].mean(axis=0) / count
    within = covariances[0] * count / (count - 1)
    total = within * (count - 1) / count + scores.mean(axis=1).var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlations = 1 - (within - covariances) / total
    # Sums of pairs of autocorrelations: positive and falling as far as they count (Geyer).
    even = count // 2 * 2
    pairs = correlations[:even].reshape(-1, 2, draws.shape[2]).sum(axis=1)
    falling = np.minimum.accumulate(pairs, axis=0)
    positive = np.logical_and.accumulate(falling > 0, axis=0)
    time = np.maximum(-1 + 2 * np.sum(np.where(positive, falling, 0.0), axis=0), 1e-3)
    n_draws = halves.shape[0] * count
    return np.where(total > 0, np.minimum(n_draws / time, n_draws * np.log10(n_draws)), np.nan)


def _halves(draws: Array) -> Array:
    """Split every chain in two, ``(2 n_chains, n_draws // 2, k)``."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, draws.shape[1] - half :]])


def _normal_scores(draws: Array) -> Array:
    """Replace numbers by the normal quantiles of their ranks among all draws."""
    flat = draws.reshape(-1, draws.shape[-1])
    ranks = rankdata(flat, axis=0)
    return np.asarray(ndtri((ranks - 0.375) / (len(flat) + 0.25))).reshape(draws.shape)


def _ratio(draws: Array) -> Array:
    """Return the square root of all variance over that within chains."""
    count = draws.shape[1]
    within = draws.var(axis=1, ddof=1).mean(axis=0)
    between = draws.mean(axis=1).var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.sqrt((count - 1) / count + between / within))
