r"""Geodesic flows known in closed form: they verify logarithms, and are what exp needs there.

- Depth 1 and rank ``min(m, n)``: straight lines, up to the first matrix of lower rank.
- Rank 1: ``X = l^N u v^T`` moves on a straight line in the plane sector with the polar coordinates
  l and psi, ``N dpsi^2 = |du|^2 + |dv|^2``, while u and v move on great circles (ours).
- Along the same singular vectors, at any depth: a straight line in the root chart.
- Depth 2 along one polar factor: of points ``X = U l^2 V^T`` whose velocities change S in
  ``X = O S`` alone, ``O = U V^T``, the balanced factors ``U l`` and ``V l`` move on straight lines:
  with a symmetric G,

  .. math:: X(t) = U (1 + t G) \, l^2 \, (1 + t G) V^T,

  the geodesics of Bures and Wasserstein (Bhatia, Jain and Lim 2019; Chen, arXiv 2510.07324, Theorem
  3.5). They end where ``1 + t G`` is singular. An integrator would have to resolve the least roots
  at the start, where directions in which a point is nearly singular, if several, turn at once.
"""

import math

import numpy as np

from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.polar_flow import Layout, core_of
from dln_manifolds.geometry.polar_frame import PolarFrame
from dln_manifolds.geometry.scaling import rescaled
from dln_manifolds.geometry.stretch import pair_weights
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import divided, frobenius, inner, size_of, transpose, weigh

# Part of a velocity X' that turns the polar factor and is rounding, relatively, for each row.
_ROUNDING = 16 * float(np.finfo(float).eps)
_DEPTH = 2
# Part of an eigenvalue that is not real and may be rounding; steps to a singular matrix.
_REAL, _STEPS = 1e-3, 6


def singular_times(frame: Frame, velocity: Array, span: Array) -> Array:
    """Return when ``X + t V`` of full rank first loses rank, infinite if after the span.

    In the bases of X it does so at ``-1 / mu`` for real eigenvalues mu < 0 of ``s^-1 U^T V V_0``:
    where that is singular and the rest of V, of matrices that are not square, does not help.
    """
    inside = frame.enter(velocity) / frame.values[:, :, None]
    found = np.linalg.eigvals(weigh(span, inside))
    ahead = (found.real < -1 / (1 + _REAL)) & (np.abs(found.imag) <= _REAL * np.abs(found))
    which, place = np.nonzero(ahead)
    first = np.full(len(span), np.inf)
    if which.size == 0:
        return first
    times = -span[which] / found.real[which, place]
    point, moved = frame.compose(frame.values)[which], velocity[which]
    size, speed = frame.values[which, 0], frobenius(moved)
    sign = np.linalg.slogdet(frame.polar[which])[0] if frame.sides == (0, 0) else None
    for _ in range(_STEPS):
        u, s, vt = np.linalg.svd(point + weigh(times, moved), full_matrices=False)
        met = s[:, -1] <= _ROUNDING * s.shape[-1] * (size + times * speed)
        slope = np.einsum("bi,bij,bj->b", u[:, :, -1], moved, vt[:, -1])
        step = -s[:, -1] / np.where(slope == 0, np.inf, slope)
        times = np.where(met, times, np.clip(times + step, 0.0, 2 * span[which]))
    if sign is not None:
        met |= np.linalg.slogdet(u @ vt)[0] != sign
    met &= (times > 0) & (times <= span[which] * (1 + _ROUNDING))
    np.minimum.at(first, which[met], times[met])
    return first


def rank_one_flow(frame: Frame, velocity: Array, span: Array) -> tuple[Array, Array, Array, Array]:
    """Return points of rank 1 after a span, their velocities, and the u that u has become.

    Points and velocities divided by their singular values, the logarithms of which come last.
    """
    depth, s = frame.depth, frame.singular_values[:, 0]
    u, v = frame.left[:, :, 0], frame.right_t[:, 0]
    core, *sides = (x[:, :, 0] for x in frame.split(frame.blocks(velocity)))
    pairs = [(u, side) if k == 0 else (v, side) for k, side in enumerate(sides)]
    growth = core[:, 0] / (depth * s)
    speeds = [size_of(side) / s if side.shape[-1] else np.zeros_like(s) for _, side in pairs]
    pace = np.hypot(*speeds) / np.sqrt(depth)
    along, aside = 1 + span * growth, span * pace
    angle, radius = np.arctan2(aside, along), np.hypot(along, aside)
    turning = pace / radius / radius
    near = radius < 2.0
    square = np.where(near, span * growth * (1 + along) + aside**2, 0.0)
    log_ratio = np.where(near, 0.5 * np.log1p(square), np.log(radius))
    ends, rates = [], []
    for (vector, side), speed in zip(pairs, speeds, strict=True):
        share = np.where(pace > 0, speed / np.where(pace > 0, pace, 1.0), 0.0)
        theta = (share * angle)[:, None]
        axis = np.zeros_like(vector)
        if side.shape[-1]:
            axis = side / np.where(speed > 0, speed * s, 1.0)[:, None]
        ends.append(np.cos(theta) * vector + np.sin(theta) * axis)
        rate = (share * turning)[:, None]
        rates.append(rate * (np.cos(theta) * axis - np.sin(theta) * vector))
    stretch = depth * (growth * (along / radius) + pace * (aside / radius)) / radius
    left = stretch[:, None] * ends[0] + rates[0]
    point = ends[0][:, :, None] * ends[1][:, None, :]
    moved = left[:, :, None] * ends[1][:, None, :] + ends[0][:, :, None] * rates[1][:, None, :]
    return point, moved, ends[0], np.log(s) + depth * log_ratio


def closed_flow(state: Array, span: Array, layout: Layout) -> tuple[Array, Array, Array] | None:
    """Return which states of the polar chart are followed in closed form, or None if none can be.

    States ``(n_batch, 2, rows, r)``, followed for ``span``, ``(n_batch,)``; also their ends, and
    the times of singular matrices, infinite where they are not met.
    """
    if layout.depth == _DEPTH and layout.full:
        return straight_flow(state, span, layout)
    straight = layout.depth == 1 and layout.rank == min(layout.shape)
    if not (straight or (layout.rank == 1 and math.isfinite(layout.depth))):
        return _steady_flow(state, span, layout)
    at, nothing = PolarFrame.of_positions(state[:, 0], layout), np.zeros(len(state))
    velocity, frame = at.velocity(at.raised(state[:, 1])), at.frame
    if straight:
        singular = singular_times(frame, velocity, span)
        ends = _entered(at.points(nothing) + weigh(span, velocity), velocity, nothing, layout)
    else:
        point, velocity, column, logs = rank_one_flow(frame, velocity, span)
        ends, singular = _entered(point, velocity, logs, layout), np.full(len(state), np.inf)
        # Of both signs of the frames, that which is the same all along.
        left = [layout.split(x[:, 0])[1][:, :, 0] for x in (state, ends)]
        same = inner(left[0], frame.left[:, :, 0]) * inner(left[1], column)
        ends[:, :, 1:] = weigh(np.sign(same), ends[:, :, 1:])
    return np.arange(len(state)), ends, singular


def _steady_flow(state: Array, span: Array, layout: Layout) -> tuple[Array, Array, Array] | None:
    """Do the same for states whose frames do not turn: D moves on a straight line."""
    stretch, (momentum, *beside) = layout.split(state[:, 0])[0], layout.split(state[:, 1])
    size, unit = frobenius(momentum), _ROUNDING * layout.rank
    turning = frobenius(momentum - transpose(momentum)) + sum(map(frobenius, beside))
    which = np.flatnonzero(turning <= unit * size)
    if which.size == 0:
        return None
    core = core_of(stretch[which], momentum[which], layout.depth)
    along = frobenius(core.commutator) <= unit * size[which] * frobenius(stretch[which])
    which, rate = which[along], (core.axes @ core.s @ transpose(core.axes))[along]
    ends, time = state[which].copy(), span[which]
    moved, pushed = (layout.split(ends[:, k])[0] for k in range(2))
    first = np.full(which.size, np.inf)
    if math.isfinite(layout.depth):
        half = np.sqrt(np.maximum(core.roots[along], 1e-290))
        inside = core.s[along] / (layout.depth * half[:, :, None] * half[:, None, :])
        least = np.linalg.eigvalsh(inside)[:, 0]
        first = np.where(least * time <= -1, -1 / np.minimum(least, -1e-300), np.inf)
    moved += weigh(time, rate)
    d, axes = np.linalg.eigh(moved)
    alpha = pair_weights(np.where(np.isinf(first)[:, None], d, 0.0), layout.depth).alpha
    pushed[...] = axes @ (alpha * (transpose(axes) @ rate @ axes)) @ transpose(axes)
    return which, ends, first


def _entered(point: Array, velocity: Array, by: Array, layout: Layout) -> Array:
    """Return states, in any gauge, of matrices and velocities, times ``e^by``."""
    frame = Frame.of_point(point, layout.depth, layout.rank)
    at, scale = PolarFrame.of_matrices(frame, layout)
    momentum = at.lowered(at.body(divided(velocity, scale)))
    state = np.stack([at.position, momentum], axis=1)[:, :, None]
    return rescaled(state, scale + by, layout)[:, :, 0]


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
