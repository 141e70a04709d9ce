r"""Linearized geodesic flow of the root chart, and derivatives of exp and log from it.

The flow is Hamiltonian, so its linearization keeps the symplectic form: for variations along a
geodesic, ``<dT, mu> - <xi, dP>`` is constant in time. With the variation ``(xi, mu)`` that ends in
``(0, c)``, followed backwards,

.. math:: \langle c, dT(1) \rangle = \langle dT(0), \mu(0) \rangle - \langle \xi(0), dP(0) \rangle,

so one backward variation is the adjoint of the differential of exp, and ``n^2`` of them in one
batch are the matrix that the implicit function theorem inverts for log. Momenta are differentiated
covariantly at the start, which makes results independent of the chart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dln_manifolds.errors import ConjugatePointsError
from dln_manifolds.geodesics.fields import MovingFrame, turning_with
from dln_manifolds.geodesics.integrate import CONVERGED, flow
from dln_manifolds.geometry.connection import linearized_rates, point_connection, root_connection
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import (
    lower,
    pull_from_root,
    push_to_root,
    raise_,
)
from dln_manifolds.numerics.arrays import Array

# Condition at which the differential of exp counts as singular.
_SINGULAR = 1e12


@dataclass(frozen=True)
class VariationField:
    """Geodesic flow with its linearization: states are ((T, dT, ...), (P, dP, ...)).

    Geodesic and variations share the norm that bounds the error of a step.
    """

    depth: float
    reach = 0.0

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return the Hamiltonian field and its derivative along the variations."""
        rate = np.empty_like(state)
        nodal, rate[:, 0, 1:], rate[:, 1, 1:] = linearized_rates(
            state[:, 0, 0], state[:, 1, 0], state[:, 0, 1:], state[:, 1, 1:], self.depth
        )
        rate[:, 0, 0] = nodal.leave(nodal.velocity)
        rate[:, 1, 0] = -nodal.leave(nodal.gradient)
        return rate, nodal.roots[:, -1]

    def frame(self, state: Array, rate: Array) -> MovingFrame:
        """Return a frame that turns with T: the variations see the same isometries."""
        return turning_with(state[:, 0, 0], rate[:, 0, 0], self.depth)

    def watched(self, position: Array) -> Array:
        """Return T."""
        return position[:, 0]

    def settle(self, state: Array) -> Array:
        """Return the state: the chart is open."""
        return state

    def points(self, position: Array, scale: Array) -> Array:
        """Return T itself; a variation has no end point of its own."""
        return position[:, 0] * scale[:, None, None]


def _backward_variations(
    end: Array, covectors: Array, depth: float, tolerance: float
) -> tuple[Array, Array]:
    """Follow variations that end in ``(0, c)`` back to the start of their geodesics.

    Parameters
    ----------
    end : ndarray, shape=[n_batch, 2, n, n]
        (T, P) at the end of unit time.
    covectors : ndarray, shape=[n_batch, k, n, n]
        Covectors c at the end.
    depth, tolerance : float
        Depth, and relative local error of the integrator.

    Returns
    -------
    xi, mu : ndarray, shape=[n_batch, k, n, n]
        Variations of T and P at the start; NaN where the integrator stalled.
    """
    # Reversing time turns the signs of momenta.
    state = np.empty((len(end), 2, 1 + covectors.shape[1], *end.shape[2:]))
    state[:, 0, 0], state[:, 1, 0] = end[:, 0], -end[:, 1]
    state[:, 0, 1:] = 0.0
    size = np.sqrt(np.sum(covectors**2, axis=(1, 2, 3), keepdims=True))
    size = np.where(size == 0, 1.0, size)
    state[:, 1, 1:] = -covectors / size
    result = flow(VariationField(depth), state, np.ones(len(end)), tolerance=tolerance)
    final = result.state[:, :, 1:] * size[:, None]
    final[result.status != CONVERGED] = np.nan
    return final[:, 0], -final[:, 1]


def exp_pullback(
    start: Array, end: Array, covector: Array, depth: float, tolerance: float
) -> tuple[Array, Array]:
    """Apply the transpose of the differential of ``(X, Z) -> exp_X(Z)``.

    Parameters
    ----------
    start, end : ndarray, shape=[n_batch, 2, n, n]
        (T, P) at both ends of the geodesics.
    covector : ndarray, shape=[n_batch, n, n]
        Gradient by the end point.
    depth, tolerance : float
        Depth, and relative local error of the integrator.

    Returns
    -------
    by_point, by_vector : ndarray, shape=[n_batch, n, n]
        Gradients by X and by Z, as matrices.
    """
    first, last = (Frame.of_root(state[:, 0], depth) for state in (start, end))
    final = pull_from_root(last, covector)[:, None]
    xi, mu = (part[:, 0] for part in _backward_variations(end, final, depth, tolerance))
    velocity = raise_(first, start[:, 1])
    force = mu - root_connection(first, velocity, xi)
    # Z is kept as a matrix while X moves, not parallel.
    by_point = push_to_root(first, force) - point_connection(
        first, pull_from_root(first, xi), pull_from_root(first, velocity)
    )
    return by_point, -push_to_root(first, lower(first, xi))


def log_pullback(
    start: Array, end: Array, covector: Array, depth: float, tolerance: float
) -> tuple[Array, Array]:
    """Apply the transpose of the differential of ``(X, Y) -> log_X(Y)``, by implicit functions.

    Parameters
    ----------
    start, end : ndarray, shape=[n_batch, 2, n, n]
        (T, P) at both ends of the geodesics.
    covector : ndarray, shape=[n_batch, n, n]
        Gradient by the logarithm.
    depth, tolerance : float
        Depth, and relative local error of the integrator.

    Returns
    -------
    by_point, by_end : ndarray, shape=[n_batch, n, n]
        Gradients by X and by Y, as matrices.

    Raises
    ------
    ConjugatePointsError
        If the differential of exp is singular: log has no derivative.
    """
    n_batch, n = len(end), end.shape[-1]
    first, last = (Frame.of_root(state[:, 0], depth) for state in (start, end))
    target = raise_(first, pull_from_root(first, covector))
    basis = np.broadcast_to(np.eye(n * n).reshape(n * n, n, n), (n_batch, n * n, n, n))
    xi, mu = _backward_variations(end, basis, depth, tolerance)
    coordinates = solve_variations(xi, -target)
    velocity = raise_(first, start[:, 1])
    force = np.einsum("bk,bkij->bij", coordinates, mu)
    force -= root_connection(first, velocity, -target)
    by_point = -push_to_root(first, force) - point_connection(
        first, pull_from_root(first, target), pull_from_root(first, velocity)
    )
    return by_point, push_to_root(last, coordinates.reshape(n_batch, n, n))


def squared_dist_gradients(start: Array, end: Array, depth: float) -> tuple[Array, Array]:
    """Gradients of the squared length by both end points: twice the momenta there.

    Parameters
    ----------
    start, end : ndarray, shape=[n_batch, 2, n, n]
        (T, P) at both ends of the geodesics.

    Returns
    -------
    by_point, by_end : ndarray, shape=[n_batch, n, n]
        Gradients by X and by Y, as matrices.
    """
    first, last = (Frame.of_root(state[:, 0], depth) for state in (start, end))
    return push_to_root(first, -2 * start[:, 1]), push_to_root(last, 2 * end[:, 1])


def solve_variations(variations: Array, target: Array) -> Array:
    """Return the coordinates of vectors in the span of variations, shape ``(n_batch, k)``.

    Parameters
    ----------
    variations : ndarray, shape=[n_batch, k, ...]
        Vectors, as many as their span has dimensions if all is well.
    target : ndarray, shape=[n_batch, ...]
        Vectors in that span.

    Raises
    ------
    ConjugatePointsError
        If the variations are linearly dependent.
    """
    matrix = np.swapaxes(variations.reshape(*variations.shape[:2], -1), 1, 2)
    left, values, right_t = np.linalg.svd(matrix, full_matrices=False)
    dependent = ~(values[:, -1] * _SINGULAR > values[:, 0])
    if dependent.any():
        raise ConjugatePointsError(
            f"Batch member {int(np.argmax(dependent))}: the end points are conjugate along their "
            f"geodesic, where log has no derivative. Move one of them."
        )
    inner = np.einsum("bik,bi->bk", left, target.reshape(len(target), -1)) / values
    return np.einsum("bki,bk->bi", right_t, inner)
