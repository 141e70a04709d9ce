"""Jacobi fields of the balanced manifold, and derivatives of exp and log from them.

As in :mod:`dln_manifolds.geodesics.variation`, with covariant derivatives: for Jacobi fields J and
I along a geodesic, ``<J, I'> - <J', I>`` is constant. A field that ends with J = 0 and J' = c,
followed backwards, is the adjoint of the differential of exp applied to c.
"""

from __future__ import annotations

import numpy as np

from dln_manifolds.geodesics.fields import MovingFrame, Rest, settle_layers
from dln_manifolds.geodesics.integrate import CONVERGED, flow
from dln_manifolds.geodesics.variation import solve_variations
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.second_fundamental_form import bending, bending_derivative
from dln_manifolds.geometry.sectors import (
    jacobi_basis,
    second_fundamental_form,
    tangent_part,
    weingarten,
)
from dln_manifolds.numerics.arrays import Array


class JacobiField:
    """Geodesic flow of balanced layers with its linearization: ((W, J, ...), (V, dV, ...)).

    Geodesic and variations share the norm that bounds the error of a step.
    """

    reach = 0.0

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return ``((V, dV, ...), (II(V, V), d II(V, V), ...))``."""
        layers, velocity = state[:, 0, :1], state[:, 1, :1]
        frame = Frame.of_layers(layers)
        bent, multiplier = bending(frame, layers, velocity)
        rate = np.empty_like(state)
        rate[:, 0], rate[:, 1, :1] = state[:, 1], bent
        rate[:, 1, 1:] = bending_derivative(
            frame, layers, velocity, multiplier, state[:, 0, 1:], state[:, 1, 1:]
        )
        return rate, frame.roots[:, 0, -1]

    def frame(self, state: Array, rate: Array) -> MovingFrame:
        """Return the frame at rest."""
        return Rest()

    def watched(self, position: Array) -> Array:
        """Return the first layer: all have the same singular values."""
        return position[:, 0, 0]

    def settle(self, state: Array) -> Array:
        """Take a Newton step onto the manifold, and its variations with it."""
        layers = settle_layers(state[:, 0, :1])
        frame = Frame.of_layers(layers)
        whole = frame.beside()
        settled = tangent_part(whole, state)
        settled[:, 0, :1] = layers
        fields, velocity = settled[:, 0, 1:], settled[:, 1, :1]
        settled[:, 1, 1:] += second_fundamental_form(frame, layers, velocity, fields)
        return settled

    def points(self, position: Array, scale: Array) -> Array:
        """Return layers W; a variation has no end point of its own."""
        return position[:, 0] * scale[:, None, None, None]


def _backward_fields(end: Array, covectors: Array, tolerance: float) -> tuple[Array, Array]:
    """Follow Jacobi fields that end with J = 0, J' = c back to the start.

    Parameters
    ----------
    end : ndarray, shape=[n_batch, 2, N, n, n]
        (W, V) at the end of unit time.
    covectors : ndarray, shape=[n_batch, k, N, n, n]
        Tangent vectors c at the end.

    Returns
    -------
    fields, derivatives : ndarray, shape=[n_batch, k, N, n, n]
        J and its covariant derivative at the start; NaN where the integrator stalled.
    """
    state = np.empty((len(end), 2, 1 + covectors.shape[1], *end.shape[2:]))
    state[:, 0, 0], state[:, 1, 0] = end[:, 0], -end[:, 1]
    state[:, 0, 1:] = 0.0
    size = np.sqrt(np.sum(covectors**2, axis=(1, 2, 3, 4), keepdims=True))
    size = np.where(size == 0, 1.0, size)
    # Reversing time turns the signs of velocities.
    state[:, 1, 1:] = -covectors / size
    result = flow(JacobiField(), state, np.ones(len(end)), tolerance=tolerance)
    final = result.state[:, :, 1:] * size[:, None]
    final[result.status != CONVERGED] = np.nan
    frame = Frame.of_layers(result.state[:, 0, :1])
    return final[:, 0], -tangent_part(frame, final[:, 1])


def balanced_exp_pullback(end: Array, cotangent: Array, *, tolerance: float) -> tuple[Array, Array]:
    """Apply the transpose of the differential of ``(W, V) -> exp_W(V)``.

    Parameters
    ----------
    end : ndarray, shape=[n_batch, 2, N, n, n]
        End point and velocity there, divided by any positive factor.
    cotangent : ndarray, shape=[n_batch, N, n, n]
        Gradient by the end point.

    Returns
    -------
    by_point, by_vector : ndarray, shape=[n_batch, N, n, n]
        Tangent vectors at W; V is taken along parallel where W moves.
    """
    tangent = tangent_part(Frame.of_layers(end[:, 0]), cotangent)
    field, derivative = _backward_fields(end, tangent[:, None], tolerance)
    return derivative[:, 0], -field[:, 0]


def balanced_log_pullback(
    start: Array, end: Array, cotangent: Array, *, tolerance: float
) -> tuple[Array, Array]:
    """Apply the transpose of the differential of ``(W, W') -> log_W(W')``, by implicit functions.

    Parameters
    ----------
    start, end : ndarray, shape=[n_batch, 2, N, n, n]
        Points and velocities at both ends, divided by any positive factor.
    cotangent : ndarray, shape=[n_batch, N, n, n]
        Gradient by the logarithm.

    Returns
    -------
    by_point, by_end : ndarray, shape=[n_batch, N, n, n]
        Tangent vectors at W and W'.

    Raises
    ------
    ConjugatePointsError
        If the differential of exp is singular: log has no derivative.
    """
    first, last = (Frame.of_layers(state[:, 0]) for state in (start, end))
    sectors = jacobi_basis(last)
    basis = np.concatenate([sectors.horizontal, sectors.vertical], axis=1)
    fields, derivatives = _backward_fields(end, basis, tolerance)
    coordinates = solve_variations(fields, -tangent_part(first, cotangent))
    by_end = np.einsum("bk,bkpij->bpij", coordinates, basis)
    force = np.einsum("bk,bkpij->bpij", coordinates, derivatives)
    return weingarten(first, start[:, 1], cotangent) - force, by_end
