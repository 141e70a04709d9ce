r"""First conjugate times: when Jacobi fields along a geodesic that start at zero vanish again.

They are sought piece by piece. With the fields ``Phi_1`` and ``Phi_2`` that start at
``t_0`` from an orthonormal basis, at rest and from zero, and U with ``J' = U J`` for all fields
that vanish at t = 0,

.. math::
    Q(t) = \Phi_2(t)^{-1} \Phi_1(t) + U(t_0), \qquad Q' = -\Phi_2^{-1} \Phi_2^{-T}

is symmetric: the index form of fields that break at ``t_0``. As long as no two points after ``t_0``
are conjugate, it is positive until the first conjugate time, where eigenvalues of it, as many as
the multiplicity, pass zero. So a time of even multiplicity, at which a determinant only touches
zero, is found like any other. (The index theorem of Morse; the use of it is ours.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dln_manifolds.geodesics.adjoint import Basis, entered, left_as, pairings
from dln_manifolds.geodesics.integrate import flow, flow_anyhow
from dln_manifolds.geodesics.system import Points, Status, System, Unit
from dln_manifolds.geometry.closed_forms import radial_rate
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import transpose, weigh

# Within a piece singular values of Phi_2, divided by the time, stay above this. Of constant
# curvature they fall to zero at the conjugate time, and never come back to half of this.
_HALF = 0.5
_ROUNDS, _NEWTON, _RESOLVED = 16, 60, 1e-13
# Pieces of geodesics that are followed at once.
_PIECES = 8
# Share of a geodesic before a singular matrix that is looked at.
_SHARE = 1 - 1e-5
# Length to which geodesics are followed that never end, in a space that is no cone.
_FAR = 20.0
# Numbers in the states of pieces that are followed at a time.
_BLOCK = 2**21


class _Pieces(NamedTuple):
    """Pieces of geodesics, in any order, with what Jacobi fields make of their start.

    ``owner`` is the number of the geodesic, ``blocks`` the matrices ``[[Phi_1, Phi_2], [Phi_1',
    Phi_2']]`` in orthonormal bases of both ends.
    """

    owner: Array
    begin: Array
    span: Array
    state: Array
    blocks: Array
    reached: Array
    first: Basis
    last: Basis

    def take(self, members: Array) -> _Pieces:
        """Return some pieces."""
        owner, begin, span, state, blocks, reached = (x[members] for x in self[:6])
        bases = self.first.take(members), self.last.take(members)
        return _Pieces(owner, begin, span, state, blocks, reached, *bases)

    @classmethod
    def joined(cls, parts: list[_Pieces]) -> _Pieces:
        """Return pieces of several lists, in order."""
        owner, begin, span, state, blocks, reached = map(
            np.concatenate, zip(*(part[:6] for part in parts), strict=True)
        )
        bases = Basis.joined([x.first for x in parts]), Basis.joined([x.last for x in parts])
        whole = cls(owner, begin, span, state, blocks, reached, *bases)
        return whole.take(np.lexsort((begin, owner)))


def _propagated(system: System, state: Array, span: Array, tolerance: float) -> _Pieces:
    """Follow all Jacobi fields for a time."""
    unit = system.at(state[:, 0], np.zeros(len(state)))
    first = Basis.of(system, unit)
    zero = np.zeros_like(first.momenta)
    resting = entered(system, state, first.momenta, zero)
    leaving = entered(system, state, zero, first.momenta)
    whole = np.concatenate([resting, leaving[:, :, 1:]], axis=2)
    result = flow(system.linearized, whole, span, tolerance=tolerance)
    unit, fields, slopes = left_as(system, result.state)
    last = Basis.of(system, unit)
    blocks = np.concatenate(
        [pairings(last.momenta, fields), transpose(pairings(slopes, last.vectors))], axis=1
    )
    reached = np.asarray(result.status == Status.CONVERGED)
    owner = np.arange(len(state))
    return _Pieces(owner, np.zeros(len(state)), span, state, blocks, reached, first, last)


def _parts(blocks: Array) -> tuple[Array, Array, Array, Array]:
    """Return ``Phi_1``, ``Phi_2``, ``Phi_1'``, ``Phi_2'``."""
    dim = blocks.shape[-1] // 2
    above, below = blocks[:, :dim], blocks[:, dim:]
    return above[:, :, :dim], above[:, :, dim:], below[:, :, :dim], below[:, :, dim:]


def _cut(
    system: System, owner: Array, begin: Array, span: Array, state: Array, tolerance: float
) -> _Pieces:
    """Return pieces so short that no two of their points are conjugate, in order."""
    done: list[_Pieces] = []
    for left in reversed(range(_ROUNDS)):
        found = _propagated(system, state, span, tolerance)
        found = found._replace(owner=owner, begin=begin)
        least = np.linalg.svd(_parts(found.blocks)[1], compute_uv=False)[:, -1]
        long = ~(least >= _HALF * span) if left else np.zeros(len(span), dtype=bool)
        done.append(found.take(np.nonzero(~long)[0]))
        if not long.any():
            break
        owner, begin, span, state = (x[long] for x in (owner, begin, span, state))
        half = flow(system, state[:, :, None], span / 2, tolerance=tolerance).state[:, :, 0]
        owner, begin = np.tile(owner, 2), np.concatenate([begin, begin + span / 2])
        span, state = np.tile(span / 2, 2), np.concatenate([state, half])
    return _Pieces.joined(done)


def _symmetric(x: Array) -> Array:
    return 0.5 * (x + transpose(x))


def _search(pieces: _Pieces, n_batch: int) -> tuple[Array, Array, Array]:
    """Return which pieces, in order, have a first conjugate time, with U at their start.

    And whether geodesics were followed until then.
    """
    count = np.bincount(pieces.owner, minlength=n_batch)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    dim = pieces.blocks.shape[-1] // 2
    rates, hits = np.zeros((n_batch, dim, dim)), np.full(n_batch, -1)
    followed_all, pending = np.ones(n_batch, dtype=bool), np.nonzero(count)[0]
    for number in range(count.max(initial=0)):
        pending = pending[count[pending] > number]
        rows = first[pending] + number
        followed_all[pending] &= pieces.reached[rows]
        pending, rows = (x[followed_all[pending]] for x in (pending, rows))
        a, b, c, d = _parts(pieces.blocks[rows])
        if number:
            u = rates[pending]
            hit = np.linalg.eigvalsh(_symmetric(np.linalg.solve(b, a) + u))[:, 0] <= 0
            hits[pending[hit]] = rows[hit]
            pending, rows, u, a, b, c, d = (x[~hit] for x in (pending, rows, u, a, b, c, d))
            a, c = a + b @ u, c + d @ u
        else:
            a, c = b, d
        u = _symmetric(transpose(np.linalg.solve(transpose(a), transpose(c))))
        following = np.minimum(rows + 1, len(pieces.owner) - 1)
        # In the basis from which the next piece starts.
        turn = pairings(pieces.first.momenta[following], pieces.last.vectors[rows])
        rates[pending] = turn @ u @ transpose(turn)
    return hits, rates, followed_all


def _refined(system: System, state: Array, span: Array, rate: Array, tolerance: float) -> Array:
    """Return when the least eigenvalue of Q passes zero within a time, by Newton's method.

    Of it times the time, which starts at one and is linear where there is no curvature.
    """
    low, high, time = np.zeros_like(span), span.copy(), 0.5 * span
    pending = np.arange(span.size)
    for _ in range(_NEWTON):
        if pending.size == 0:
            break
        t = time[pending]
        found = _propagated(system, state[pending], t, tolerance)
        a, b, _, _ = _parts(found.blocks)
        form = _symmetric(np.linalg.solve(b, a) + rate[pending])
        values, axes = np.linalg.eigh(form)
        least, axis = values[:, 0], axes[:, :, :1]
        fall = -np.sum(np.linalg.solve(transpose(b), axis) ** 2, axis=(1, 2))
        low[pending] = np.where(least > 0, t, low[pending])
        high[pending] = np.where(least > 0, high[pending], t)
        with np.errstate(divide="ignore", invalid="ignore"):
            new = t - t * least / (least + t * fall)
        inside = (new > low[pending]) & (new < high[pending])
        new = np.where(inside, new, 0.5 * (low[pending] + high[pending]))
        time[pending] = new
        pending = pending[np.abs(new - t) > _RESOLVED * span[pending]]
    return time


def conjugate_times(
    system: System, start: Points, velocity: Array, horizon: Array, *, tolerance: float
) -> Array:
    """Return first conjugate times along geodesics up to ``horizon``, ``(n_batch,)``.

    Infinity where there is none until then or until the geodesic ends, NaN where the integrator
    stalled. A horizon may be infinite: all of a geodesic is searched in a cone, where it is that of
    another one between finite times, and else a length of 20.
    """
    times = np.full(len(velocity), np.inf)
    unit = system.unit(start)
    rate = system.flat(unit, velocity)
    moving = np.nonzero((system.speed(unit, rate) > 0) & (horizon > 0))[0]
    if system.straight or moving.size == 0:
        return times
    dim = system.covector_basis(unit.take(moving[:1])).shape[1]
    step = max(1, _BLOCK // (8 * dim * 4 * rate[0].size))
    for begin in range(0, moving.size, step):
        rows = moving[begin : begin + step]
        times[rows] = _first_times(system, unit.take(rows), rate[rows], horizon[rows], tolerance)
    return times


def _first_times(
    system: System, unit: Unit, rate: Array, horizon: Array, tolerance: float
) -> Array:
    """Do as `conjugate_times` for geodesics that move, from their rates."""
    rate, span, shrink = _bounded(system, unit, rate, horizon)
    state = np.stack([unit.position, weigh(span, rate)], axis=1)[:, :, None]
    run = flow_anyhow(system, state, tolerance=tolerance, record=True)
    knots, states = np.stack(run.trajectory.times), np.stack(run.trajectory.states)
    ended = run.status == Status.CROSSED
    last = np.where(ended, np.maximum(knots[-1], _SHARE * run.time), knots[-1])
    if len(knots) == 2:
        # What is known in closed form is one piece, however long it is.
        times = np.linspace(knots[0], last, _PIECES + 1)[1:-1]
        inner = [flow(system, state, time, tolerance=tolerance).state for time in times]
        knots, states = (np.concatenate(x) for x in ((knots[:1], times), (states[:1], inner)))
    spans = np.diff(knots, axis=0, append=last[None])
    piece, owner = np.nonzero(spans > 0)
    pieces = _cut(
        system,
        owner,
        knots[piece, owner],
        spans[piece, owner],
        states[piece, owner][:, :, 0],
        tolerance,
    )
    hits, rates, known = _search(pieces, len(rate))
    times = np.where(known & (run.status != Status.STALLED), np.inf, np.nan)
    found = np.nonzero(hits >= 0)[0]
    if found.size:
        rows = hits[found]
        after = _refined(system, pieces.state[rows], pieces.span[rows], rates[found], tolerance)
        s = (pieces.begin[rows] + after) * span[found]
        with np.errstate(divide="ignore"):
            times[found] = s / np.maximum(1 - shrink[found] * s, 0.0)
    return times


def _bounded(system: System, unit: Unit, rate: Array, horizon: Array) -> tuple[Array, Array, Array]:
    """Return rates, finite times until which they are followed, and numbers c.

    In a cone the geodesic ``W + t V``, a straight line in its sector, seen from the tip is the one
    from W along ``V - c W`` at ``s = t / (1 + c t)``: with ``c = |V| / |W|`` all of it until
    ``s = 1 / c``.
    """
    endless, shrink = np.isinf(horizon), np.zeros_like(horizon)
    if not endless.any():
        return rate, horizon, shrink
    speed, radial = system.speed(unit, rate), system.radial(unit, np.ones_like(horizon))
    state = np.stack([unit.position, radial], axis=1)[:, :, None]
    ray = system.chart(state, system.rates(state)[0])
    if ray is None:
        return rate, np.where(endless, _FAR / system.length(unit.scale, speed), horizon), shrink
    share = np.where(endless, speed / system.speed(unit, radial), 0.0)
    shrink = share * radial_rate(*ray)[0]
    span = np.where(endless, 1 / np.where(endless, shrink, 1.0), horizon)
    return rate - weigh(share, radial), span, shrink
