r"""Parallel transport along geodesics in the polar chart, at every rank and depth (ours).

The frames of the chart turn against each other and never together. For velocities x of the
geodesic, y of the vector and any z, with constant entries in these frames, Koszul's formula gives
the rate of the momentum ``eta = G y`` of a parallel vector, G the metric ``N g_N``:

.. math::
    2 \langle \eta', z \rangle = DG[s_x](y, z) - DG[s_y](x, z) + DG[s_z](x, y)
    - \langle [x, y], z \rangle + \langle [x, z], y \rangle + \langle [y, z], x \rangle.

Of ``y = x`` it is the equation of geodesics; the three terms with z in a bracket or as a direction
are that equation, made bilinear. The first two are derivatives of the weights. The bracket, with
``T = y_x^T y_y - y_y^T y_x`` on both sides, has

.. math::
    m = [w_x, w_y]/4 - (T_L + T_R)/2, \quad s = [m, D], \quad w = T_R - T_L, \quad
    \pm (y_x w_y - y_y w_x)/2.
"""

import numpy as np

from dln_manifolds.geometry.polar_flow import (
    Core,
    Layout,
    Sides,
    core_force,
    pull_beside,
    rates_with_core,
    skewed,
)
from dln_manifolds.geometry.polar_variation import core_variation
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import transpose


def parallel_polar_rates(state: Array, layout: Layout) -> tuple[Array, Array]:
    """Return time derivatives of states ``(n_batch, 2, 1 + k, rows, r)`` and the least root.

    The first of k + 1 is the geodesic; both rows of the others are momenta of parallel vectors.
    """
    rates = np.empty_like(state)
    rates[:, :, 0], core, sides = rates_with_core(state[:, 0, 0], state[:, 1, 0], layout)
    # All vectors in one list, each with its geodesic; a place that is empty stays so.
    places = state[:, :, 1:].any(axis=(-2, -1))
    vectors, each = state[:, :, 1:][places], np.nonzero(places)[0]
    members = Core(*(value[each] for value in core))
    axes, (inside, left, right) = members.axes, layout.split(vectors)
    q = transpose(axes) @ inside @ axes
    a, b = 0.5 * (q + transpose(q)), 0.25 * (q - transpose(q))
    other = members._replace(
        a=a, b=b, s=a / members.alpha, w=b * members.alpha / (members.mean * members.mean)
    )
    pull = _core_rates(members, other, layout.depth)
    moved = np.zeros_like(vectors)
    inner, *outer = layout.split(moved)
    if sides is not None:
        first = Sides(sides.inertia[each], *((u[each], v[each]) for u, v in sides[1:]))
        second = Sides.of(other, left, right, layout.depth)
        pull += _pull_beside(members, first, second)
        frames = layout.split(state[:, 0, 0])[1:]
        beside = _side_rates(members, other, first, second)
        for k in range(2):
            turned = transpose(first.velocities[k]) @ second.momenta[k]
            outer[k][...] = (beside[k] - frames[k][each] @ axes @ turned) @ transpose(axes)
    inner[...] = axes @ pull @ transpose(axes)
    rates[:, :, 1:] = 0.0
    rates[:, :, 1:][places] = moved
    return rates, core.roots[..., 0]


def _core_rates(x: Core, y: Core, depth: float) -> Array:
    """Return what the core contributes to the rate of ``A + 2B`` of y along x."""
    total = x._replace(a=x.a + y.a, b=x.b + y.b, s=x.s + y.s, w=x.w + y.w)
    rest = x._replace(a=x.a - y.a, b=x.b - y.b, s=x.s - y.s, w=x.w - y.w)
    pull = 0.25 * (core_force(total, depth) - core_force(rest, depth))
    pull += 0.25 * (skewed(x.commutator @ y.w) + skewed(y.commutator @ x.w))
    # DG[s_x] y = -G D(G^-1)[s_x] eta
    zero = np.zeros_like(x.a)[:, None]
    ds_y, dw_y, _ = (v[:, 0] for v in core_variation(y, x.s[:, None], zero, zero, depth))
    ds_x, dw_x, _ = (v[:, 0] for v in core_variation(x, y.s[:, None], zero, zero, depth))
    turning = x.mean * x.mean / x.alpha
    pull += 0.5 * x.alpha * (ds_x - ds_y) + turning * (dw_x - dw_y)
    return pull + 0.5 * x.alpha * (0.25 * skewed(x.w @ y.w) * x.gap)


def _pull_beside(x: Core, first: Sides, second: Sides) -> Array:
    """Return what the sides contribute to the rate of ``A + 2B``."""
    mixed = [transpose(u) @ v for u, v in zip(first.velocities, second.velocities, strict=True)]
    left, right = (0.5 * (product + transpose(product)) for product in mixed)
    pull = x.mean * pull_beside(left, right, x.gap)
    # Of the bracket: s = -m (d_i - d_j), w = T_R - T_L.
    twist_left, twist_right = (skewed(product) for product in mixed)
    pull -= 0.25 * x.alpha * (twist_left + twist_right) * x.gap
    return pull + x.mean * x.mean / x.alpha * (twist_left - twist_right)


def _side_rates(x: Core, y: Core, first: Sides, second: Sides) -> list[Array]:
    """Return the rates of momenta beside the core, in the complements of the frames."""
    found = []
    for k, sign in (0, 1.0), (1, -1.0):
        u, v = first.velocities[k], second.velocities[k]
        rate = 0.25 * sign * (first.momenta[k] @ y.w + second.momenta[k] @ x.w)
        rate -= 0.5 * u @ (y.commutator + 2 * sign * y.b)
        rate -= 0.5 * v @ (x.commutator + 2 * sign * x.b)
        rate += v @ (x.mean * x.s) - u @ (x.mean * y.s)
        rate -= 0.25 * sign * first.inertia[:, None, :] * (u @ y.w - v @ x.w)
        found.append(rate)
    return found
