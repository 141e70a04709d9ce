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

import numpy as np

from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.hamiltonian import NodalState, SecondVariation, nodal_state
from dln_manifolds.geometry.metric import (
    CometricDerivative,
    lower,
)
from dln_manifolds.numerics.arrays import Array

# Singular values of X with a ratio below exp(_CROWDED) lose digits to quotients of differences.
_CROWDED = 1e-2
# Central differences of order 8, and their step relative to the radius of analyticity.
_WEIGHTS = np.array([4 / 5, -1 / 5, 4 / 105, -1 / 280])
_REACH = 0.01
# Condition at which the differential of exp counts as singular.
_SINGULAR = 1e12


def linearized_rates(
    root: Array, momentum: Array, root_dir: Array, momentum_dir: Array, depth: float
) -> tuple[NodalState, Array, Array]:
    """Differentiate ``(dH/dP, -dH/dT)`` at points of phase space along directions.

    Where singular values are close, the quotients of the closed form lose digits. There the field,
    which is accurate everywhere and analytic, is differenced with order 8 and a step of a hundredth
    of its radius of analyticity: the error is about 1e-13 in both cases.

    Parameters
    ----------
    root, momentum : ndarray, shape=[n_batch, n, n]
        Points (T, P).
    root_dir, momentum_dir : ndarray, shape=[n_batch, k, n, n]
        Directions of T and of P.
    depth : float
        Depth N >= 1.

    Returns
    -------
    nodal : NodalState
        The system at the points themselves.
    root_rate, momentum_rate : ndarray, shape=[n_batch, k, n, n]
        Derivatives along the directions.
    """
    nodal = nodal_state(root, depth, momentum=momentum)
    crowded = np.asarray((2 * depth * nodal.u < _CROWDED).any(axis=-1))
    rates = np.empty_like(root_dir), np.empty_like(momentum_dir)
    for pick, method in ((~crowded, _by_closed_form), (crowded, _by_differences)):
        if pick.any():
            part = NodalState(*(value[pick][:, None] for value in nodal))
            given = root[pick], momentum[pick], root_dir[pick], momentum_dir[pick]
            rates[0][pick], rates[1][pick] = method(part, *given, depth)
    return nodal, *rates


def _by_closed_form(
    nodal: NodalState,
    root: Array,
    momentum: Array,
    root_dir: Array,
    momentum_dir: Array,
    depth: float,
) -> tuple[Array, Array]:
    variation = SecondVariation(nodal, depth)
    moved, _ = variation.apply(root_dir, np.zeros_like(root_dir))
    velocity_dir = nodal.raise_(momentum_dir - moved)
    return velocity_dir, variation.apply(root_dir, velocity_dir)[1]


def _by_differences(
    nodal: NodalState,
    root: Array,
    momentum: Array,
    root_dir: Array,
    momentum_dir: Array,
    depth: float,
) -> tuple[Array, Array]:
    radius = _REACH * min(1.0, np.pi / (2 * depth)) * nodal.roots[..., -1]
    size = np.linalg.norm(root[:, None], axis=(-2, -1))
    pace = (
        np.linalg.norm(root_dir, axis=(-2, -1)) / radius
        + np.linalg.norm(momentum_dir, axis=(-2, -1)) / size
    )
    step = 1 / np.where(pace == 0, 1.0, pace)
    count = np.arange(1, len(_WEIGHTS) + 1)
    offsets = step[..., None] * np.concatenate([count, -count])
    offsets = offsets[..., None, None]
    around = nodal_state(
        root[:, None, None] + offsets * root_dir[:, :, None],
        depth,
        momentum=momentum[:, None, None] + offsets * momentum_dir[:, :, None],
    )
    weights = np.concatenate([_WEIGHTS, -_WEIGHTS])
    both = around.leave(around.velocity), -around.leave(around.gradient)
    per_step = (1 / step)[..., None, None]
    return tuple(np.einsum("q,bkqij->bkij", weights, rate) * per_step for rate in both)


def _root_connection(root: Array, frame: Frame, velocity: Array, xi: Array) -> Array:
    r"""Return the covector ``<Gamma(., xi), velocity>`` of the root chart.

    ``(-g (D_xi A) p - d<p, A q> + g (D_v A) q) / 2`` with the momenta p of the velocity v and q
    of xi.
    """
    p, q = lower(frame, velocity), lower(frame, xi)
    directions = np.stack([xi, np.zeros_like(xi)], axis=1), np.stack([np.zeros_like(q), q], axis=1)
    _, along, force = linearized_rates(root, p, *directions, frame.depth)
    _, across, _ = linearized_rates(
        root, q, velocity[:, None], np.zeros_like(velocity)[:, None], frame.depth
    )
    return 0.5 * (lower(frame, across[:, 0] - along[:, 0]) + force[:, 1])


def _point_connection(frame: Frame, vector: Array, xi: Array) -> Array:
    """Return the covector ``<Gamma(., xi), vector>`` of the chart of X."""
    derivative = CometricDerivative(frame)
    v, x = frame.enter(vector), frame.enter(xi)
    p, q = v / frame.a, x / frame.a
    turn = derivative.along_in_frame(v, q) - derivative.along_in_frame(x, p)
    return frame.leave(0.5 * (turn / frame.a - derivative.gradient_in_frame(p, q)))
