r"""The geodesic flow of the root chart as a Hamiltonian system.

``H(T, P) = (1/2) <P, A_T P>`` with the cometric ``A_T``. In the singular frame, with the momentum
``P`` and the velocity ``G = dH/dP``, put ``KL = G P^T - P G^T`` and ``KR = P^T G - G^T P``. Then

.. math::
    (dH/dT)_{ij} = \frac{(KR - KL)_{ij}}{2 (l_j - l_i)} - \frac{(KR + KL)_{ij}}{2 (l_i + l_j)},
    \qquad
    (dH/dT)_{ii} = -\frac{1}{4 l_i} \sum_j \frac{d \log \kappa_{ij}}{du}
                   (P_{ij} G_{ji} + P_{ji} G_{ij}).

``KR - KL`` vanishes where singular values meet, and the quotient has a limit that is not zero.
Pairs that are close are summed with divided differences of the cometric instead, in which nothing
cancels. Equivalent to Hamilton's equations in X of Chen, arXiv 2510.07324.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dln_manifolds.spectral.coefficients import (
    NO_EXCESS,
    cometric_slopes,
    index_pairs,
    pair_coefficients,
    symmetric_matrix,
)
from dln_manifolds.spectral.elementary import Array
from dln_manifolds.spectral.frame import diagonal, transpose

# Singular values of X whose ratio is below exp(_CLOSE) take the divided-difference sum. The
# quotient loses a factor 1/_CLOSE in accuracy just above the bound.
_CLOSE = 0.04

# Least root, relative to the largest, that is told from zero.
_SMALLEST = 1e-280
_TINY = float(np.finfo(np.float64).tiny)


class NodalState(NamedTuple):
    """A point (T, P) of phase space with its frame and everything the solvers read off it.

    ``left``, ``roots``, ``right_t`` is the singular frame of T. ``velocity`` and ``momentum`` are
    expressed in the frame, as is ``gradient = dH/dT``. ``u`` belongs to the pairs of singular
    values that `index_pairs` lists; ``cosh`` and ``sinh`` of ``log(kappa)`` and
    ``slope = d log(kappa)/du`` are matrices. So are ``over_difference = 1 / (2 (l_j - l_i))`` and
    ``over_sum = 1 / (2 (l_i + l_j))``, zero on the diagonal.
    """

    left: Array
    roots: Array
    right_t: Array
    u: Array
    cosh: Array
    sinh: Array
    slope: Array
    over_difference: Array
    over_sum: Array
    velocity: Array
    momentum: Array
    gradient: Array

    def leave(self, matrix: Array) -> Array:
        """Return a matrix of the frame to the chart: ``U Z V^T``."""
        return self.left @ matrix @ self.right_t

    def enter(self, matrix: Array) -> Array:
        """Express a matrix of the chart in the frame: ``U^T Z V``."""
        return transpose(self.left) @ matrix @ transpose(self.right_t)

    def raise_(self, momentum: Array) -> Array:
        """Apply the cometric to a momentum of the chart."""
        p = self.enter(momentum)
        return self.leave(self.cosh * p - self.sinh * transpose(p))

    @property
    def energy(self) -> Array:
        """``H = <P, G> / 2``, shape ``(...)``."""
        return 0.5 * np.sum(self.velocity * self.momentum, axis=(-2, -1))


def _close_pairs(
    gradient: Array, roots: Array, u: Array, momentum: Array, added: Array, depth: float
) -> None:
    """Overwrite the off-diagonal gradient of pairs with nearly equal singular values, in place."""
    n = roots.shape[-1]
    first, second, _, _ = index_pairs(n)
    # One point may serve many momenta.
    u = np.broadcast_to(u, (*momentum.shape[:-2], first.size))
    roots = np.broadcast_to(roots, momentum.shape[:-1])
    *batch, pair = np.nonzero(u < _CLOSE / (2 * depth))
    i, j = first[pair], second[pair]
    u = symmetric_matrix(u, n)
    u_i, u_j = u[(*batch, i)], u[(*batch, j)]
    outer, inner = np.maximum(u_i, u_j), np.minimum(u_i, u_j)
    gap = outer - inner
    slope_c, slope_e = cometric_slopes(outer, inner, gap, depth)
    # Divided difference of |u_ik| in l_i: the same for all k outside the pair, up to its sign.
    l_i, l_j = roots[(*batch, i)][:, None], roots[(*batch, j)][:, None]
    equal = l_i == l_j
    distance = np.where(equal, 1.0, l_j - l_i)
    outside = np.where(equal, 0.5 / l_i, 0.5 * np.log1p((l_j - l_i) / l_i) / distance)
    k, i_col, j_col = np.arange(n), i[:, None], j[:, None]
    between = np.where(equal, 0.0, (u_j - u_i) / distance)
    rate = np.where(k <= i_col, -outside, np.where(k >= j_col, outside, between))
    rows_i, rows_j = momentum[(*batch, i)], momentum[(*batch, j)]
    moved = transpose(momentum)
    cols_i, cols_j = moved[(*batch, i)], moved[(*batch, j)]
    total = np.sum(
        rate
        * (
            slope_c * (cols_i * cols_j + rows_i * rows_j)
            + slope_e * (cols_i * rows_j + rows_i * cols_j)
        ),
        axis=-1,
    )
    shared = added[(*batch, i, j)] / (2 * (l_i + l_j)[:, 0])
    gradient[(*batch, i, j)] = 0.5 * total - shared
    gradient[(*batch, j, i)] = 0.5 * total + shared


def nodal_state(
    root: Array, depth: float, *, momentum: Array | None = None, velocity: Array | None = None
) -> NodalState:
    """Evaluate the Hamiltonian system at points T with either a momentum or a velocity.

    Parameters
    ----------
    root : ndarray, shape=[..., n, n]
        Points T of the root chart, any sign of det.
    depth : float
        Depth N >= 1.
    momentum, velocity : ndarray, shape=[..., n, n]
        Exactly one of the two, in the chart.

    Returns
    -------
    state : NodalState
        Frame, velocity, momentum and gradient.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a root is not finite.
    """
    left, roots, right_t = np.linalg.svd(root)
    # A root that vanishes to the last bit still has a well-defined limit.
    roots = np.maximum(roots, _SMALLEST * roots[..., :1] + _TINY)
    first, second, place, sign = index_pairs(roots.shape[-1])
    larger, smaller = roots.take(first, axis=-1), roots.take(second, axis=-1)
    excess = np.maximum((larger - smaller) / smaller, NO_EXCESS)
    u, weight, slope = pair_coefficients(excess, depth)
    inverse = 1 / weight
    packed = np.empty((5, *u.shape[:-1], first.size + 1))
    pairs = packed[..., :-1]
    pairs[0] = weight + inverse
    pairs[1] = weight - inverse
    pairs[2] = 2 * slope
    pairs[3] = -1 / (excess * smaller)
    pairs[4] = 1 / (larger + smaller)
    packed[0, ..., -1] = depth + 1 / depth
    packed[1, ..., -1] = depth - 1 / depth
    packed[2:, ..., -1] = 0.0
    packed *= 0.5
    matrices = packed.take(place, axis=-1)
    matrices[2:4] *= sign
    cosh, sinh, slope, over_difference, over_sum = matrices

    if velocity is None:
        p = transpose(left) @ momentum @ transpose(right_t)
        p_t = transpose(p)
        g = cosh * p - sinh * p_t
    else:
        g = transpose(left) @ velocity @ transpose(right_t)
        p = cosh * g + sinh * transpose(g)
        p_t = transpose(p)
    outer_left, outer_right = g @ p_t, p_t @ g
    k_left = outer_left - transpose(outer_left)
    k_right = outer_right - transpose(outer_right)
    added = k_right + k_left
    gradient = k_right
    gradient -= k_left
    gradient *= over_difference
    gradient -= added * over_sum
    mixed = p * transpose(g)
    mixed = slope * (mixed + transpose(mixed))
    diagonal(gradient)[...] = mixed.sum(axis=-1) / (-4 * roots)
    if (u < _CLOSE / (2 * depth)).any():
        _close_pairs(gradient, roots, u, p, added, depth)
    return NodalState(
        left, roots, right_t, u, cosh, sinh, slope, over_difference, over_sum, g, p, gradient
    )
