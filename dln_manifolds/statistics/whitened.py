r"""Fréchet means at N = 2 of matrices with equal polar factors, positive definite ones among them.

That is the geometry of Bures and Wasserstein, times ``sqrt(2)``. In whitened coordinates
``S -> S^{1/2} (1 + K) S^{1/2}`` half the mean squared distance has the gradient and the Hessian

.. math::
    S - \sum_k w_k M_k^{1/2}, \qquad
    K \mapsto \sum_k w_k Q_k \left[\frac{q_i q_j}{q_i + q_j} (Q_k^T K Q_k)_{ij}\right] Q_k^T,

with ``M_k = S^{1/2} Y_k S^{1/2} = Q_k q_k^2 Q_k^T`` (ours).
"""

from typing import NamedTuple

import numpy as np

from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import nearest_orthogonal, transpose

# Relative asymmetry that is rounding of polar factors; conjugate gradients for a step of Newton.
_SYMMETRIC, _MAX_PRODUCTS = 1e-13, 50


class WhitenedMean(NamedTuple):
    """A mean, its weighted mean squared distance, the norm of its gradient, and the steps."""

    point: Array
    variance: float
    gradient_norm: float
    n_iter: int


class _State(NamedTuple):
    """A mean by its eigenvalues and eigenvectors, and in these the samples around it."""

    values: Array
    vectors: Array
    roots: Array
    turns: Array
    gradient: Array

    @property
    def norm(self) -> float:
        """Length of the mean of logarithms."""
        return float(np.sqrt(2 * np.sum(self.gradient**2 / self.values)))


def common_polar_factor(points: Array) -> Array | None:
    """Return the O with all ``X_k O^T`` symmetric positive definite, or None if there is none.

    Of matrices that are symmetric to the last bit it is the identity.
    """
    factor, turned = np.eye(points.shape[-1]), points
    if (points != transpose(points)).any():
        factor = nearest_orthogonal(points[0])
        turned = points @ factor.T
    size = np.abs(turned).max(axis=(-2, -1))
    skew = np.abs(turned - transpose(turned)).max(axis=(-2, -1))
    if (skew > _SYMMETRIC * points.shape[-1] * size).any():
        return None
    least = np.linalg.eigvalsh(0.5 * (turned + transpose(turned)))[:, 0]
    return factor if (least > 0).all() else None


def whitened_mean(
    points: Array, weights: Array, factor: Array, tolerance: float, max_iter: int
) -> WhitenedMean:
    """Return the mean of matrices ``Y O``, with the positive ``Y`` and a common polar factor O."""
    positive = points @ factor.T
    scale = float(np.mean(np.trace(positive, axis1=1, axis2=2)))
    positive = 0.5 * (positive + transpose(positive)) / scale
    state, n_iter = _state(np.tensordot(weights, positive, 1), positive, weights), 0
    while state.norm > tolerance and n_iter < max_iter:
        step = 0.5 * _newton_step(state, weights)
        middle, n_iter = np.eye(len(step)) + step, n_iter + 1
        half = state.vectors * np.sqrt(state.values) @ middle
        after = _state(half @ half.T, positive, weights)
        if not after.norm < state.norm:
            break
        state = after
    # tr (S^{1/2} Y S^{1/2})^{1/2} is the sum of q
    traces = np.trace(positive, axis1=1, axis2=2) - 2 * state.roots.sum(axis=1)
    squares = 2 * np.maximum(traces + state.values.sum(), 0.0)
    mean = (0.5 * scale * state.vectors * state.values) @ state.vectors.T
    return WhitenedMean(
        (mean + mean.T) @ factor,
        scale * float(weights @ squares),
        float(np.sqrt(scale)) * state.norm,
        n_iter,
    )


def _state(mean: Array, positive: Array, weights: Array) -> _State:
    """Decompose the samples around a mean."""
    values, vectors = np.linalg.eigh(mean)
    half = vectors * np.sqrt(values)
    squares, turns = np.linalg.eigh(half.T @ positive @ half)
    roots = np.sqrt(np.maximum(squares, 0.0))
    along = (turns * (weights[:, None] * roots)[:, None, :]) @ transpose(turns)
    return _State(values, vectors, roots, turns, np.diag(values) - along.sum(axis=0))


def _newton_step(state: _State, weights: Array) -> Array:
    """Solve for a step by conjugate gradients."""
    roots, turns = state.roots, state.turns
    table = weights[:, None, None] * _harmonic(roots)
    at_mean, back = _harmonic(state.values), transpose(turns)
    step, rest = np.zeros_like(at_mean), -state.gradient
    direction = ahead = rest / at_mean
    energy = start = float(np.sum(rest * ahead))
    for _ in range(_MAX_PRODUCTS):
        if energy <= min(1e-4, start) ** 2 * start or energy == 0:
            break
        product = (turns @ (table * (back @ direction @ turns)) @ back).sum(axis=0)
        share = energy / float(np.sum(direction * product))
        step, rest = step + share * direction, rest - share * product
        ahead = rest / at_mean
        before, energy = energy, float(np.sum(rest * ahead))
        direction = ahead + energy / before * direction
    return 0.5 * (step + step.T)


def _harmonic(values: Array) -> Array:
    """Return ``x_i x_j / (x_i + x_j)``."""
    first, last = values[..., :, None], values[..., None, :]
    return np.asarray(first * last / (first + last))
