"""The initial-value problem: geodesic flow with a step size for each member."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dln_manifolds.geodesics import collocation, runge_kutta
from dln_manifolds.geodesics.fields import Field
from dln_manifolds.geodesics.runge_kutta import step
from dln_manifolds.geodesics.singular import comes_near
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import frobenius, norms

_SHRINK = 0.2
# A step of collocation is about as long as so many of Runge-Kutta. It takes fewer calls and more
# evaluations, which pays for few small positions: up to so many members times 40 + size. (For one
# 30 x 30 matrix both take about as long: collocation gains at N = 2 and loses at N = 64.)
_LONG, _FEW = 9.0, 900
_MAX_STEPS = 10_000
# Share by which the rate of a singular value may change until it vanishes, where its tangent is
# trusted; and products of rates that are rounding, relative to the largest.
_STRAIGHT, _LEVEL = 0.05, 1e-20

_PARTS = 16
_ROUNDS = 14
# Pieces shorter than this, relative to the matrix at the start, are not divided any more.
_FINEST = 1e-14
# What numpy may say of a trial that goes too far and is then rejected.
QUIET: dict[str, Any] = {"over": "ignore", "invalid": "ignore", "divide": "ignore"}

# Status codes of a member, shared by every solver.
CONVERGED, CROSSED, STALLED, DISCONNECTED = 0, 1, 2, 3


@dataclass
class Trajectory:
    """Accepted steps of a batch of geodesics.

    Attributes
    ----------
    times : list of ndarray, shape=[n_batch]
        Time of each recorded state, non-decreasing; a member that has ended repeats its last.
    states : list of ndarray, shape=[n_batch, 2, ...]
        Position and rate at these times.
    """

    times: list[Array] = field(default_factory=list)
    states: list[Array] = field(default_factory=list)


@dataclass
class FlowResult:
    """End of the flow of each member.

    Attributes
    ----------
    state : ndarray, shape=[n_batch, 2, ...]
        Position and rate at the end of the span, or of the last step before a crossing.
    time : ndarray, shape=[n_batch]
        The end of the span, or the time t* of the first singular matrix, or where it stalled.
    status : ndarray of int, shape=[n_batch]
        CONVERGED, CROSSED or STALLED.
    n_steps, n_evaluations : ndarray of int, shape=[n_batch]
        Steps tried and evaluations of the field.
    trajectory : Trajectory
        Filled if it was asked for.
    """

    state: Array
    time: Array
    status: Array
    n_steps: Array
    n_evaluations: Array
    trajectory: Trajectory


def flow(
    field: Field,
    state: Array,
    span: Array,
    *,
    tolerance: float,
    record: bool = False,
) -> FlowResult:
    """Follow geodesics for the time ``span`` of each member.

    Parameters
    ----------
    field : Field
        The flow.
    state : ndarray, shape=[n_batch, 2, ...]
        Initial positions and rates.
    span : ndarray, shape=[n_batch]
        Non-negative lengths of time.
    tolerance : float
        Bound on the local error of position and rate, each relative to its norm.
    record : bool
        Whether to keep the accepted steps.

    Returns
    -------
    result : FlowResult
        It never raises for a geodesic that ends early: see its ``status``.
    """
    state = state.copy()
    n_batch = len(state)
    time, crossing = np.zeros(n_batch), np.full(n_batch, np.inf)
    status = np.where(span == 0, CONVERGED, STALLED)
    n_steps, n_evaluations = np.zeros(n_batch, dtype=int), np.ones(n_batch, dtype=int)
    trajectory = Trajectory([time.copy()], [state.copy()]) if record else Trajectory()

    rate, smallest = field.rates(state)
    size = _first_steps(state, rate, span, tolerance)
    # Until when steps must be short: those that come near a singular matrix are repeated with
    # short ones, which locate it.
    short_until = np.zeros(n_batch)
    weight = 40 + state[:1, 0].size
    pending = np.nonzero(status == STALLED)[0]
    for _ in range(_MAX_STEPS):
        if pending.size == 0:
            break
        attempt, length, active = runge_kutta.attempt, 1.0, pending
        if pending.size * weight <= _FEW:
            free = time[pending] >= short_until[pending]
            if free.any():
                attempt, length, active = collocation.attempt, _LONG, pending[free]
        remaining = span[active] - time[active]
        h = np.minimum(length * size[active], remaining)
        old, old_rate = state[active], rate[active]
        frame = field.frame(old, old_rate)
        n_steps[active] += 1
        try:
            # A trial step that is far too long may overflow; it is then rejected.
            with np.errstate(**QUIET):
                tried = attempt(field, frame, old, old_rate, smallest[active], h, tolerance)
        except np.linalg.LinAlgError:
            size[active] = h * _SHRINK / length
            continue
        new, new_rate = tried.end, tried.rate
        n_evaluations[active] += tried.n_evaluations
        accepted = tried.error < 1
        size[active] = h * tried.growth / length
        suspect = accepted & tried.near
        if suspect.any() and length > 1:
            accepted[suspect] = False
            again = active[suspect]
            short_until[again] = time[again] + h[suspect]
            size[again] = h[suspect] / length
        elif suspect.any():
            pick = np.nonzero(suspect)[0]
            with np.errstate(**QUIET):  # at the tip of the cone itself
                delay = first_singular(field, old[pick], h[pick])
            pick, delay = pick[np.isfinite(delay)], delay[np.isfinite(delay)]
            accepted[pick] = False
            crossing[active[pick]] = time[active[pick]] + delay
            status[active[pick]] = CROSSED
        if field.reach > 0:
            eta, turned = _approach(field, field.watched(old[:, 0]), new, new_rate)
            # Over a singular matrix without having seen it, or thrown off by one (the speed is
            # constant): again, with a shorter step.
            over = accepted & (turned | (norms(new)[:, 1] > 1.1 * norms(old)[:, 1]))
            accepted[over] = False
            size[active[over]] = h[over] * _SHRINK / length
            # Positions were divided by the size of the first: the distance left counts as it is.
            speed = norms(old)[:, 1]
            near = eta <= field.reach / np.where(speed == 0, 1.0, speed)
            hit = accepted & near & (h + eta <= remaining)
            crossing[active[hit]] = (time[active] + h + eta)[hit]
            status[active[hit]] = CROSSED
            accepted[hit] = False
        done = active[accepted]
        if done.size:
            end, rate[done] = frame.take(accepted).leave(
                h[accepted], new[accepted], new_rate[accepted]
            )
            state[done] = field.settle(end)
        smallest[done] = tried.smallest[accepted]
        # The last step lands on the end exactly, whatever the rounding of the sum.
        at_end = (h >= remaining)[accepted]
        time[done] = np.where(at_end, span[done], time[done] + h[accepted])
        status[done[at_end]] = CONVERGED
        if record and done.size:
            trajectory.times.append(time.copy())
            trajectory.states.append(state.copy())
        pending = pending[status[pending] == STALLED]
    time = np.where(status == CROSSED, crossing, time)
    return FlowResult(state, time, status, n_steps, n_evaluations, trajectory)


def _approach(field: Field, was: Array, state: Array, rate: Array) -> tuple[Array, Array]:
    """Time in which the smallest singular value vanishes; whether a step has passed zero.

    The time is that of the tangent, and infinite unless the singular value is sure to vanish about
    then: where the tangent bends by little until then.
    """
    now, slope, bend = (field.watched(x) for x in (state[:, 0], state[:, 1], rate[:, 1]))
    left, values, right_t = np.linalg.svd(now)
    inside = np.swapaxes(left, -1, -2) @ slope @ np.swapaxes(right_t, -1, -2)
    last, rest = values[:, -1:], values[:, :-1]
    row, column = inside[:, -1, :-1], inside[:, :-1, -1]
    first = inside[:, -1, -1]
    closing = first < 0
    eta = np.where(closing, values[:, -1] / np.where(closing, -first, 1.0), np.inf)
    # Second derivative of the smallest singular value.
    with np.errstate(over="ignore", invalid="ignore"):
        turning = last * (row**2 + column**2) + 2 * rest * row * column
        level = _LEVEL * rest * np.sum(inside**2, axis=(-2, -1))[:, None]
        gap = np.minimum((last - rest) * (last + rest), -np.finfo(float).tiny)
        turning[np.abs(turning) <= level] = 0.0
        second = np.sum(turning / gap, axis=-1)
        second += np.einsum("bi,bij,bj->b", left[:, :, -1], bend, right_t[:, -1])
        eta[~(np.abs(second) * eta <= _STRAIGHT * np.abs(first))] = np.inf
    sign = np.linalg.slogdet(was)[0] != np.linalg.slogdet(now)[0]
    return eta, sign | (np.einsum("bij,bij->b", was, now) <= 0)


def _first_steps(state: Array, rate: Array, span: Array, tolerance: float) -> Array:
    """Guess first step sizes from the relative speed of position and rate.

    The factor is the one with the fewest steps, rejected ones included, on Gaussian geodesics and
    shorter ones at tolerances from 1e-6 to 1e-13, for n from 2 to 30: the more entries a norm is
    taken of, the faster than it is the fastest of them.
    """
    size, speed = norms(state), norms(rate)
    pace = np.max(speed / np.where(size == 0, 1.0, size), axis=-1)
    factor = 2.6 * max(1.0, state.shape[-1] / 3) ** -0.3
    guess = factor * tolerance**0.125 / np.where(pace == 0, 1.0, pace)
    return np.where(pace == 0, span, np.minimum(span, guess))


def first_singular(field: Field, state: Array, size: Array) -> Array:
    """Time from the start of a step to its first singular matrix, infinite where there is none.

    Parameters
    ----------
    field : Field
        The flow.
    state : ndarray, shape=[n_batch, 2, ...]
        States at the start of the step.
    size : ndarray, shape=[n_batch]
        Step sizes.

    Notes
    -----
    The step is divided by 16 again and again, every time by single steps of the integrator from
    its start, seen from its frame: rotations change no singular value. A piece is kept if its
    chord, from A to B, comes near a singular matrix: it meets one where ``A^{-1} B`` has a real
    eigenvalue below zero. That holds for geodesics that run along the singular matrices, where a
    bound by lengths would need very many pieces, and for singular values that vanish in pairs, as
    on rays of the cone, where the determinant keeps its sign.
    """
    rate, _ = field.rates(state)
    frame = field.frame(state, rate)
    scale = frobenius(field.watched(state[:, 0]))
    crossing = np.full(size.shape, np.inf)
    member, low, width = np.arange(size.size), np.zeros_like(size), size.copy()
    fractions = np.arange(_PARTS + 1) / _PARTS
    for _ in range(_ROUNDS):
        if member.size == 0:
            break
        times = low[:, None] + fractions * width[:, None]
        each = np.repeat(member, _PARTS + 1)
        ends, _ = step(field, frame.take(each), state[each], rate[each], times.ravel())
        path = field.watched(ends[:, 0])
        path = path.reshape(*times.shape, *path.shape[1:])
        values = np.linalg.svd(path, compute_uv=False)
        smallest = values[..., -1]
        suspect = comes_near(path, smallest, values[..., 0])
        chord = frobenius(np.diff(path, axis=1))
        final = chord <= _FINEST * scale[member, None]
        row, part = np.nonzero(suspect & final)
        before, after = smallest[row, part], smallest[row, part + 1]
        share = before / np.maximum(before + after, np.finfo(float).tiny)
        hit = times[row, part] + share * (times[row, part + 1] - times[row, part])
        np.minimum.at(crossing, member[row], hit)
        earlier = times[:, :-1] < crossing[member][:, None]
        row, part = np.nonzero(suspect & ~final & earlier)
        member, low, width = member[row], times[row, part], width[row] / _PARTS
    # What is left is as narrow as numbers allow.
    np.minimum.at(crossing, member, low)
    return crossing
