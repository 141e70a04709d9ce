r"""Second derivatives of the Lagrangian ``L(T, v) = g_T(v, v) / 2`` at the nodes of a path.

In the singular frame a direction ``d`` of T turns the frame by the antisymmetric ``Omega_L``,
``Omega_R`` and moves the roots by ``d_ii``; everything else follows by the product rule. The
derivative serves Newton's method, whose limit does not depend on it: where singular values are
closer than a relative 1e-4 they are spread before it is evaluated, which changes it by about as
much and keeps every quotient well defined.
"""

from __future__ import annotations

import numpy as np

from dln_manifolds.spectral.coefficients import log_kappa_second_derivative, symmetric_matrix
from dln_manifolds.spectral.elementary import Array
from dln_manifolds.spectral.frame import diagonal, transpose
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
        roots, g, p = nodal.roots, nodal.velocity, nodal.momentum
        n = roots.shape[-1]
        self._over_difference, self._over_sum = 2 * nodal.over_difference, 2 * nodal.over_sum
        self._per_root = 0.5 / roots
        self._cosine, self._sine = nodal.cosh, nodal.sinh
        self._slope = nodal.slope
        bend = symmetric_matrix(log_kappa_second_derivative(nodal.u, depth), n)
        self._diagonal = diagonal(nodal.gradient)

        g_t, p_t = transpose(g), transpose(p)
        mixed = p * g_t
        self._bend_mixed = bend * (mixed + transpose(mixed))
        outer_left, outer_right = g @ p_t, p_t @ g
        k_left, k_right = outer_left - transpose(outer_left), outer_right - transpose(outer_right)
        self._quotient = (k_right - k_left) * self._over_difference
        self._shared = (k_right + k_left) * self._over_sum

        # Small products cost by the call, so factors are stacked; contiguous ones are faster.
        self._left, self._left_t = nodal.left, np.ascontiguousarray(transpose(nodal.left))
        self._right_t, self._right = (
            nodal.right_t,
            np.ascontiguousarray(transpose(nodal.right_t)),
        )
        self._g, self._p = g, p
        self._g_t, self._p_t = np.ascontiguousarray(g_t), np.ascontiguousarray(p_t)
        self._beside = np.concatenate([g, p, nodal.gradient], axis=-1)
        self._below = np.concatenate([g, p, nodal.gradient], axis=-2)
        self._g_over_p = np.concatenate([g, p], axis=-2)
        self._pt_over_gt = np.concatenate([p_t, g_t], axis=-2)

    def take(self, members: Array) -> SecondVariation:
        """Return the linearization of some members, along the first batch axis."""
        part = object.__new__(SecondVariation)
        for name, value in vars(self).items():
            setattr(part, name, value[members])
        return part

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
        n = root_dir.shape[-1]
        d = self._left_t @ root_dir @ self._right
        w = self._left_t @ velocity_dir @ self._right
        d_t = transpose(d)
        total, twist = (d + d_t) * self._over_difference, (d - d_t) * self._over_sum
        omega_l, omega_r = 0.5 * (total + twist), 0.5 * (total - twist)
        moved = diagonal(d)
        rate = moved * self._per_root
        du = rate[..., :, None] - rate[..., None, :]

        turned_l, turned_r = omega_l @ self._beside, self._below @ omega_r
        dg = w - turned_l[..., :n] + turned_r[..., :n, :]
        dg_t = transpose(dg)
        dp = self._cosine * dg + self._sine * dg_t + du * self._slope * self._p_t
        dp_t = transpose(dp)

        # KL = G P^T - P G^T and KR = P^T G - G^T P, differentiated
        left = np.concatenate([dg, -dp], axis=-1) @ self._pt_over_gt
        right = np.concatenate([dp_t, -dg_t], axis=-1) @ self._g_over_p
        d_left, d_right = left - transpose(left), right - transpose(right)
        spacing = moved[..., None, :] - moved[..., :, None]
        drift = moved[..., None, :] + moved[..., :, None]
        df = 0.5 * (
            (d_right - d_left - spacing * self._quotient) * self._over_difference
            - (d_right + d_left - drift * self._shared) * self._over_sum
        )
        d_mixed = dp * self._g_t + self._p * dg_t
        change = (du * self._bend_mixed + self._slope * (d_mixed + transpose(d_mixed))).sum(axis=-1)
        diagonal(df)[...] = -2 * rate * self._diagonal - 0.5 * self._per_root * change
        dp += turned_l[..., n : 2 * n] - turned_r[..., n : 2 * n, :]
        df += turned_l[..., 2 * n :] - turned_r[..., 2 * n :, :]
        return self._left @ dp @ self._right_t, -(self._left @ df @ self._right_t)


def _spread(nodal: NodalState, depth: float) -> NodalState:
    """Separate singular values that are too close for quotients of differences."""
    crowded = np.asarray((2 * depth * nodal.u < _SPREAD).any(axis=-1))
    if not crowded.any():
        return nodal
    n = nodal.roots.shape[-1]
    ramp = np.exp(2 * _SPREAD / depth * np.arange(n)[::-1])
    roots = nodal.roots * np.where(crowded[..., None], ramp, 1.0)
    return nodal_state(
        (nodal.left * roots[..., None, :]) @ nodal.right_t,
        depth,
        velocity=nodal.leave(nodal.velocity),
    )
