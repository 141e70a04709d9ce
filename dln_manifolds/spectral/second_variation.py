r"""Second derivatives of the Lagrangian ``L(T, v) = g_T(v, v) / 2`` at the nodes of a path.

In the singular frame a direction ``d`` of T turns the frame by the antisymmetric ``Omega_L``,
``Omega_R`` and moves the roots by ``d_ii``; everything else follows by the product rule. The
derivative serves Newton's method, whose limit does not depend on it: where singular values are
closer than a relative 1e-4 they are spread before it is evaluated, which changes it by about as
much and keeps every quotient well defined.
"""

from __future__ import annotations

import numpy as np

from dln_manifolds.spectral.coefficients import log_kappa_second_derivative
from dln_manifolds.spectral.elementary import Array
from dln_manifolds.spectral.frame import transpose
from dln_manifolds.spectral.hamiltonian import NodalState, nodal_state

_SPREAD = 1e-4


class SecondVariation:
    """Linearization of momentum and force of a batch of nodes, for repeated application.

    Parameters
    ----------
    nodal : NodalState
        Frames, velocities and momenta at the nodes, any batch shape.
    depth : float
        Depth N >= 1.
    """

    def __init__(self, nodal: NodalState, depth: float) -> None:
        nodal = _spread(nodal, depth)
        self._nodal = nodal
        roots = nodal.roots
        row, column = roots[..., :, None], roots[..., None, :]
        difference = column - row
        identity = np.eye(roots.shape[-1], dtype=bool)
        difference = np.where(identity, 1.0, difference)
        off = np.where(identity, 0.0, 1.0)
        self._over_difference = off / difference
        self._over_sum = off / (row + column)
        self._per_root = 0.5 / roots
        self._cosine = 0.5 * (nodal.kappa + 1 / nodal.kappa)
        self._sine = 0.5 * (nodal.kappa - 1 / nodal.kappa)
        self._bend = log_kappa_second_derivative(nodal.u, depth)
        g, p = nodal.velocity, nodal.momentum
        mixed = p * transpose(g)
        self._mixed = mixed + transpose(mixed)
        outer_left, outer_right = g @ transpose(p), transpose(p) @ g
        k_left = outer_left - transpose(outer_left)
        k_right = outer_right - transpose(outer_right)
        self._quotient = (k_right - k_left) * self._over_difference
        self._shared = (k_right + k_left) * self._over_sum

    def apply(self, root_dir: Array, velocity_dir: Array) -> tuple[Array, Array]:
        r"""Differentiate ``(dL/dv, dL/dT)`` along a direction of (T, v), in the chart.

        Parameters
        ----------
        root_dir, velocity_dir : ndarray, shape=[..., n, n]
            Direction of T and of v.

        Returns
        -------
        momentum_dir, force_dir : ndarray, shape=[..., n, n]
            Derivatives of the momentum ``dL/dv`` and of the force ``dL/dT``.
        """
        nodal = self._nodal
        g, p, f = nodal.velocity, nodal.momentum, nodal.gradient
        d, w = nodal.enter(root_dir), nodal.enter(velocity_dir)
        d_t = transpose(d)
        total, twist = (d + d_t) * self._over_difference, (d - d_t) * self._over_sum
        omega_l, omega_r = 0.5 * (total + twist), 0.5 * (total - twist)
        moved = np.diagonal(d, axis1=-2, axis2=-1)
        rate = moved * self._per_root
        du = rate[..., :, None] - rate[..., None, :]

        dg = w - omega_l @ g + g @ omega_r
        p_t, g_t = transpose(p), transpose(g)
        dp = self._cosine * dg + self._sine * transpose(dg) + du * nodal.slope * p_t
        dp_t = transpose(dp)

        left = dg @ p_t + g @ dp_t
        right = dp_t @ g + p_t @ dg
        d_left, d_right = left - transpose(left), right - transpose(right)
        spacing = moved[..., None, :] - moved[..., :, None]
        drift = moved[..., None, :] + moved[..., :, None]
        df = 0.5 * (
            (d_right - d_left - spacing * self._quotient) * self._over_difference
            - (d_right + d_left - drift * self._shared) * self._over_sum
        )
        d_mixed = dp * g_t + p * transpose(dg)
        change = np.sum(
            du * self._bend * self._mixed + nodal.slope * (d_mixed + transpose(d_mixed)), axis=-1
        )
        index = np.arange(moved.shape[-1])
        df[..., index, index] = -2 * rate * f[..., index, index] - 0.5 * self._per_root * change
        return (
            nodal.leave(dp + omega_l @ p - p @ omega_r),
            -nodal.leave(df + omega_l @ f - f @ omega_r),
        )


def _spread(nodal: NodalState, depth: float) -> NodalState:
    """Separate singular values that are too close for quotients of differences."""
    gaps = 2 * depth * np.abs(np.diagonal(nodal.u, 1, -2, -1))
    crowded = (gaps < _SPREAD).any(axis=-1)
    if not crowded.any():
        return nodal
    n = nodal.roots.shape[-1]
    ramp = np.exp(2 * _SPREAD / depth * np.arange(n)[::-1])
    roots = nodal.roots * np.where(crowded[..., None], ramp, 1.0)
    apart = nodal_state(
        (nodal.left * roots[..., None, :]) @ nodal.right_t,
        depth,
        velocity=nodal.leave(nodal.velocity),
    )
    return apart
