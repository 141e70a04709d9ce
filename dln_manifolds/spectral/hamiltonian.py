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
cancels. Equivalent to Hamilton's equations in X of Chen, arXiv 2510.07324, section 3.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dln_manifolds.spectral.coefficients import cometric_slopes, kappa, log_kappa_derivative
from dln_manifolds.spectral.elementary import Array
from dln_manifolds.spectral.frame import parity_combine, transpose

# Singular values of X whose ratio is below exp(_CLOSE) take the divided-difference sum. The
# quotient loses a factor 1/_CLOSE in accuracy just above the bound.
_CLOSE = 0.04

_TINY = np.finfo(np.float64).tiny


class NodalState(NamedTuple):
    """A point (T, P) of phase space with its frame and everything the solvers read off it.

    ``left``, ``roots``, ``right_t`` is the singular frame of T. ``velocity`` and ``momentum`` are
    expressed in the frame, as is ``gradient = dH/dT``. ``u``, ``kappa`` and
    ``slope = d log(kappa)/du`` belong to all pairs of singular values.
    """

    left: Array
    roots: Array
    right_t: Array
    u: Array
    kappa: Array
    slope: Array
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
        return self.leave(parity_combine(1 / self.kappa, self.kappa, self.enter(momentum)))

    @property
    def energy(self) -> Array:
        """``H = <P, G> / 2``, shape ``(...)``."""
        return 0.5 * np.sum(self.velocity * self.momentum, axis=(-2, -1))


def _close_pairs(
    gradient: Array, roots: Array, u: Array, momentum: Array, added: Array, depth: float
) -> None:
    """Overwrite the off-diagonal gradient of pairs with nearly equal singular values, in place."""
    n = roots.shape[-1]
    # One point may serve many momenta.
    u, roots = np.broadcast_to(u, momentum.shape), np.broadcast_to(roots, momentum.shape[:-1])
    upper = np.triu(np.abs(u) * (2 * depth) < _CLOSE, 1)
    where = np.nonzero(upper)
    if where[0].size == 0:
        return
    batch, i, j = where[:-2], where[-2], where[-1]
    u_i, u_j = np.abs(u[(*batch, i)]), np.abs(u[(*batch, j)])
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
    roots = np.maximum(roots, _TINY)
    # Relative to the largest, so that a common scale costs no digits.
    log_roots = np.log(np.maximum(roots / roots[..., :1], _TINY))
    u = 0.5 * (log_roots[..., :, None] - log_roots[..., None, :])
    weight = kappa(u, depth)
    inverse = 1 / weight
    if velocity is None:
        p = transpose(left) @ momentum @ transpose(right_t)
        g = parity_combine(inverse, weight, p)
    else:
        g = transpose(left) @ velocity @ transpose(right_t)
        p = parity_combine(weight, inverse, g)
    outer_left = g @ transpose(p)
    outer_right = transpose(p) @ g
    k_left = outer_left - transpose(outer_left)
    k_right = outer_right - transpose(outer_right)
    slope = log_kappa_derivative(u, depth)
    mixed = p * transpose(g)
    diagonal = -np.sum(slope * (mixed + transpose(mixed)), axis=-1) / (4 * roots)
    row, column = roots[..., :, None], roots[..., None, :]
    difference = column - row
    added = k_right + k_left
    gradient = (k_right - k_left) / (2 * np.where(difference == 0, 1.0, difference)) - added / (
        2 * (row + column)
    )
    index = np.arange(roots.shape[-1])
    gradient[..., index, index] = diagonal
    _close_pairs(gradient, roots, u, p, added, depth)
    return NodalState(left, roots, right_t, u, weight, slope, g, p, gradient)
