r"""The flow of depth 2 along one polar factor, where balanced factors move on straight lines.

Of points ``X = U l^2 V^T`` whose velocities change S in ``X = O S`` alone, ``O = U V^T``, the
factors ``U l`` and ``V l`` move on straight lines: with a symmetric G,

.. math:: X(t) = U (1 + t G) \, l^2 \, (1 + t G) V^T,

the geodesics of Bures and Wasserstein (Bhatia, Jain and Lim 2019; Chen, arXiv 2510.07324, Theorem
3.5). They end where ``1 + t G`` is singular. An integrator would have to resolve the least roots at
the start, where directions in which a point is nearly singular, if several, turn at once.
"""

import numpy as np

from dln_manifolds.geometry.polar_flow import Layout, core_of
from dln_manifolds.geometry.stretch import pair_weights
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import frobenius, transpose, weigh

# Part of a velocity X' that turns the polar factor and is rounding, relatively, for each row.
_ROUNDING = 16 * float(np.finfo(float).eps)
_DEPTH = 2


def straight_flow(state: Array, span: Array, layout: Layout) -> tuple[Array, Array, Array]:
    """Return which states of the polar chart move so, their ends, and when they meet singular ones.

    States ``(n_batch, 2, rows, r)`` of square matrices of full rank, followed for ``span``,
    ``(n_batch,)``; the times of singular matrices are infinite where they are not met.
    """
    core = core_of(layout.split(state[:, 0])[0], layout.split(state[:, 1])[0], _DEPTH)
    roots = core.roots
    row, column = roots[:, :, None], roots[:, None, :]
    # X' in the frame: G and turns of both frames against each other, times the sum of squares.
    squares, even = row * row + column * column, 0.5 * core.s * (row + column)
    turning = frobenius(0.5 * core.w * squares)
    straight = turning <= _ROUNDING * layout.rank * frobenius(even)
    which = np.nonzero((roots[:, 0] > 0) & straight)[0]
    pull = even / np.maximum(squares, np.finfo(float).tiny)
    rate = pull * column
    roots, rate, time = roots[which], rate[which], span[which]
    moved = weigh(time, rate) + roots[:, :, None] * np.eye(layout.rank)
    axes, sizes, right_t = np.linalg.svd(moved)
    inside = transpose(axes) @ rate @ transpose(right_t)
    growth = inside * sizes[:, None, :]
    growth = 2 * (growth + transpose(growth)) / (sizes[:, :, None] + sizes[:, None, :])
    stretch = _DEPTH * (sizes - 1)
    momentum = pair_weights(stretch, _DEPTH).alpha * growth
    axes = core.axes[which] @ axes
    ends = state[which].copy()
    layout.split(ends[:, 0])[0][...] = (axes * stretch[:, None, :]) @ transpose(axes)
    layout.split(ends[:, 1])[0][...] = axes @ momentum @ transpose(axes)
    return which, ends, _first_singular(roots, pull[which], time)


def _first_singular(roots: Array, pull: Array, span: Array) -> Array:
    """Return when ``1 + t G`` is first singular, infinite if after the span."""
    # By congruence with l^(1/2), which keeps the signs and the digits of small roots.
    half = np.sqrt(roots)
    even = half[:, :, None] * pull * half[:, None, :]
    last = weigh(span, even) + roots[:, :, None] * np.eye(roots.shape[-1])
    ends = np.linalg.eigvalsh(last)[:, 0] <= 0
    least = np.where(ends, np.linalg.eigvalsh(pull)[:, 0], -1.0)
    return np.where(ends, np.minimum(-1 / np.minimum(least, -1e-300), span), np.inf)
