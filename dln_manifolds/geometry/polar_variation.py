r"""The geodesic flow of the polar chart, linearized: exact at equal eigenvalues.

A variation h of D turns its eigenframe by ``omega_ij = h_ij / (d_j - d_i)`` and moves the
eigenvalues by ``h_ii``. Seen from the turning frame every term of the flow is a function of
eigenvalues times entries, which is differentiated by products; turned back, the poles cancel. So
where eigenvalues are close, the result is the mean over a circle of complex ones around them, of
which it is an analytic function. (Ours.)
"""

import numpy as np

from dln_manifolds.geometry.polar_flow import (
    Core,
    Layout,
    Sides,
    pull_beside,
    rates_with_core,
    skewed,
)
from dln_manifolds.geometry.stretch import pair_weights, per_layer, roots_of
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import diagonal, transpose

# Logarithmic gaps ``N log(l_i / l_j)`` of neighbours below which they are moved around a circle,
# _RADIUS from first to last. What is computed is analytic up to gaps of pi: the mean over _PHASES
# points is exact to (_RADIUS / pi)^_PHASES.
_CROWDED, _RADIUS, _PHASES = 0.1, 0.3, 16


def linearized_polar_rates(state: Array, layout: Layout) -> tuple[Array, Array]:
    """Return time derivatives of states ``(n_batch, 2, 1 + k, rows, r)`` and the least root.

    The first of k + 1 is the geodesic; the others are variations of position and momentum.
    """
    rates = np.empty_like(state)
    rates[:, :, 0], core, sides = rates_with_core(state[:, 0, 0], state[:, 1, 0], layout)
    if state.shape[2] == 1:
        return rates, core.roots[..., 0]
    axes = core.axes[:, None]
    back = transpose(axes)
    stretch, *frames = layout.split(state[:, 0, 1:])
    momentum, *momenta = layout.split(state[:, 1, 1:])
    h, q = back @ (0.5 * (stretch + transpose(stretch))) @ axes, back @ momentum @ axes
    da, db = 0.5 * (q + transpose(q)), 0.25 * (q - transpose(q))
    ds, dw, pull = core_variation(core, h, da, db, layout.depth)
    core = Core(*(value[:, None] for value in core))
    commutator = core.commutator
    turned = skewed(core.a @ h) - da * core.gap
    pull += 0.5 * (skewed(turned @ core.w) + skewed(commutator @ dw))
    first, second = layout.split(rates[:, 0, 1:]), layout.split(rates[:, 1, 1:])
    points = layout.split(state[:, 0, :1])[1:]
    half = 0.5 * core.w @ back, 0.5 * dw @ back
    for k, sign in (0, 1.0), (1, -1.0):
        first[k + 1][...] = sign * (frames[k] @ axes @ half[0] + points[k] @ axes @ half[1])
        second[k + 1][...] = 0.0
    if sides is not None:
        beside = Sides(
            sides.inertia[:, None],
            *((value[0][:, None], value[1][:, None]) for value in sides[1:]),
        )
        pull += _beside(
            core, beside, (h, dw, db, turned), (frames, momenta, points), first, second, layout
        )
    first[0][...], second[0][...] = axes @ ds @ back, axes @ pull @ back
    return rates, core.roots[:, 0, 0]


def _beside(
    core: Core,
    sides: Sides,
    inside: tuple[Array, Array, Array, Array],
    varied: tuple[list[Array], list[Array], tuple[Array, ...]],
    first: tuple[Array, ...],
    second: tuple[Array, ...],
    layout: Layout,
) -> Array:
    """Add what stands beside the core to rates of frames and momenta; return the pull on it.

    ``inside`` are the variations of D, w, B and J in the eigenframe, ``varied`` those of frames and
    momenta with the frames themselves.
    """
    (h, dw, db, turned), (frames, momenta, points) = inside, varied
    axes, depth = core.axes, layout.depth
    back, commutator = transpose(axes), core.commutator
    inertia = sides.inertia[..., None, :]
    changed = 2 * core.mean * h  # of N H^2
    squares = []
    for k, sign in (0, 1.0), (1, -1.0):
        pi, y = sides.momenta[k], sides.velocities[k]
        dpi = momenta[k] @ axes
        dy = (dpi - y @ changed) / inertia
        first[k + 1][...] += dy @ back
        product = transpose(y) @ pi
        varied_product = transpose(dy) @ pi + transpose(y) @ dpi
        moved = 0.5 * sign * (dpi @ core.w + pi @ dw)
        moved -= dy @ (commutator + 2 * sign * core.b) + y @ (turned + 2 * sign * db)
        moved -= (frames[k] @ axes) @ product + (points[k] @ axes) @ varied_product
        second[k + 1][...] = moved @ back
        gram = transpose(y) @ dy
        squares.append(gram + transpose(gram))
    both, apart = sides.squares[0] + sides.squares[1], sides.squares[0] - sides.squares[1]
    mixed = both @ h
    pull = core.mean * pull_beside(squares[0], squares[1], core.gap)
    pull += per_layer(0.5 * (mixed + transpose(mixed)), depth)
    return pull + 0.5 * skewed(apart @ changed)


def core_variation(
    core: Core, h: Array, da: Array, db: Array, depth: float
) -> tuple[Array, Array, Array]:
    """Differentiate s, w and G along variations of D, A and B, all in the eigenframe.

    ``h``, ``da``, ``db`` have the shape ``(n_batch, k, r, r)``.
    """
    neighbours = np.log(core.roots[:, 1:] / core.roots[:, :-1]) if depth < np.inf else None
    gaps = np.diff(core.d, axis=-1) if neighbours is None else depth * neighbours
    crowded = np.asarray((gaps < _CROWDED).any(axis=-1))
    if not crowded.any():
        return _in_frame(core, h, da, db, depth)
    results = np.empty((3, *h.shape))
    for pick, method in ((~crowded, _in_frame), (crowded, _around_circle)):
        if pick.any():
            part = Core(*(value[pick] for value in core))
            results[:, pick] = method(part, h[pick], da[pick], db[pick], depth)
    return results[0], results[1], results[2]


def _around_circle(
    core: Core, h: Array, da: Array, db: Array, depth: float
) -> tuple[Array, Array, Array]:
    """Do as `_in_frame` where eigenvalues are close: the mean over complex ones around them."""
    roots = core.roots
    logs = depth * np.log(roots) if depth < np.inf else core.d
    share = np.zeros_like(core.d)
    np.cumsum(np.diff(logs, axis=-1) < _RADIUS, axis=-1, out=share[:, 1:])
    share = _RADIUS * (share / share[:, -1:] - 0.5)
    # Conjugate points give conjugate values; none is real, as equal ones would meet there.
    angles = 2 * np.pi / _PHASES * (np.arange(_PHASES // 2) + 0.5)
    total = np.zeros((3, *h.shape))
    for phase in np.exp(1j * angles):
        moved = core.d + phase * share
        if depth < np.inf:
            moved = core.d + depth * roots * np.expm1(phase * share / depth)
        complex_roots = roots_of(moved, depth)
        mean = 0.5 * (complex_roots[..., :, None] + complex_roots[..., None, :])
        weights = pair_weights(moved, depth)
        s, w = core.a / weights.alpha, core.b * weights.alpha / mean**2
        around = Core(moved, core.axes, complex_roots, *weights[:2], mean, core.a, core.b, s, w)
        total += [value.real for value in _in_frame(around, h, da, db, depth)]
    total /= angles.size
    return total[0], total[1], total[2]


def _in_frame(
    core: Core, h: Array, da: Array, db: Array, depth: float
) -> tuple[Array, Array, Array]:
    """Differentiate s, w and G where no eigenvalues are close, or around a circle."""
    weights = pair_weights(core.d, depth, second=True)
    alpha, slope, bend, mixed = (np.asarray(value)[:, None] for value in weights)
    core = Core(*(value[:, None] for value in core))
    a, b, s, w, gap = core.a, core.b, core.s, core.w, core.gap
    diagonal(gap)[...] = 1.0
    over = 1 / gap
    diagonal(over)[...] = 0.0
    # d log(mean^2 / alpha) / d d_i
    per_mean = per_layer(1 / core.mean, depth)
    twist_slope = per_mean - slope
    force = skewed(a @ s - b @ w) * over
    stretched, twisted = a * s, b * w
    diagonal(force)[...] = (slope * stretched + twist_slope * twisted).sum(axis=-1)
    omega, moved = -h * over, diagonal(h)
    rows, columns = moved[..., :, None], moved[..., None, :]

    def turn(x: Array, sign: float) -> Array:
        product = omega @ x
        return product + sign * transpose(product)

    growth = slope * rows + transpose(slope) * columns
    twist_growth = (rows + columns) * per_mean - growth
    da_, db_ = da - turn(a, 1.0), db - turn(b, -1.0)
    ds_, dw_ = da_ / alpha - growth * s, db_ * alpha / core.mean**2 - twist_growth * w
    number = skewed(da_ @ s + a @ ds_ - db_ @ w - b @ dw_)
    change = (number - (rows - columns) * force) * over
    slope_growth = bend * rows + mixed * columns
    twist_slope_growth = -(rows + columns) * 0.5 * per_mean**2 - slope_growth
    terms = (2 * a * ds_ + growth * stretched) * slope + stretched * slope_growth
    terms += (2 * b * dw_ + twist_growth * twisted) * twist_slope + twisted * twist_slope_growth
    diagonal(change)[...] = terms.sum(axis=-1)
    return ds_ + turn(s, 1.0), dw_ + turn(w, -1.0), change + turn(force, 1.0)
