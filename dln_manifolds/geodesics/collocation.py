r"""Long steps by Gauss collocation, with all nodes of a step evaluated in one call.

A step solves ``y(t) = y(0) + int_0^t f(y)`` with the integral taken of the polynomial through f at
Gauss nodes (Hairer, Norsett and Wanner, *Solving Ordinary Differential Equations I*, section II.7).
At its end the solution is of order 2Q for Q nodes. The equations are solved by fixed-point
iteration, Picard's: one evaluation of the flow at all nodes each time.

:func:`attempt` starts from nothing, with few nodes and one more each time, as early iterates need
none of the others' accuracy. For a single geodesic that costs fewer calls than Runge-Kutta, whose
steps are shorter. :func:`follow` takes all of [0, 1] in one step and starts from a path that has
nearly found the geodesic. That saves most iterations and changes nothing of what it converges to:
the solution is determined by the initial state alone.
"""

import math
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from dln_manifolds.geodesics.runge_kutta import Attempt, Now
from dln_manifolds.geodesics.system import Chart, Flow, FlowResult, Status, Trajectory
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import norms
from dln_manifolds.numerics.polynomials import gauss, integrals, legendre_analysis
from dln_manifolds.numerics.singular import passes_near, stays_away

# Nodes of the first iterate; iterations at most, and as many as a step of the best length takes.
_FIRST, _MOST, _TYPICAL = 4, 24, 14
# Share of the tolerance that may be left of the iteration; iterations after which growing changes
# tell divergence.
_LEFT, _PATIENCE = 0.1, 8
_TINY = float(np.finfo(np.float64).tiny)
_SAFETY, _SHRINK, _GROW = 0.85, 0.4, 3.0
# Of geodesics that start from a path: iterations at most, and after how many it may be given up.
_MOST_FOLLOWED, _SOON = 15, 3
# The least rate c of convergence that is assumed there, and iterations ahead that are summed. With
# it the errors of Gaussian geodesics are below the tolerance up to N = 4, and below 8 times it at
# N = 30.
_RATE, _AHEAD = 2.0, 8


class _Iterates:
    """Picard's iterates of one step of some members.

    ``values`` are the rates of the last iterate at its nodes, ``(n_rows, n_nodes, k)``, and
    ``inner`` the states there.
    """

    def __init__(self, system: Flow, state: Array, size: Array, values: Array) -> None:
        self.system, self.shape = system, state.shape[1:]
        self.rows = np.arange(len(state))
        self.origin = state.reshape(len(state), 1, -1)
        self.size, self.values = size[:, None, None], values.reshape(*values.shape[:2], -1)
        self.n_nodes, self.n_evaluations = values.shape[1], 0

    def integrated(self, weights: Array) -> Array:
        """Return the states that follow from the rates, ``(n_rows, n_points, k)``."""
        return self.origin + self.size * (weights @ self.values)

    def advance(self, points: Array) -> None:
        """Evaluate the flow at states at Gauss nodes, ``(n_rows, n_nodes, k)``."""
        self.n_nodes = points.shape[1]
        self.n_evaluations += self.n_nodes
        self.inner = points.reshape(*points.shape[:2], *self.shape)
        rates, smallest = self.system.rates(points.reshape(-1, *self.shape))
        self.values = rates.reshape(points.shape)
        self.smallest = smallest.reshape(points.shape[:2])

    def sizes_of(self, points: Array) -> Array:
        """Norms of positions and rates, shape ``(n_rows, n_points, 2)``."""
        flat = points.reshape(*points.shape[:2], 2, -1)
        return np.sqrt(np.einsum("bnki,bnki->bnk", flat, flat))

    def take(self, members: Array) -> None:
        """Go on with some rows only."""
        self.rows, self.origin = self.rows[members], self.origin[members]
        self.size, self.values = self.size[members], self.values[members]


def most_nodes(tolerance: float) -> int:
    """Return the number of nodes of a step: 16 at the tolerance 1e-13, 5 at 1e-3."""
    return max(_FIRST + 1, round(1.7 - 1.1 * math.log10(tolerance)))


def attempt(system: Flow, now: Now, size: Array, tolerance: float) -> Attempt:
    """Try a step as :func:`dln_manifolds.geodesics.runge_kutta.attempt` does, with its result."""
    (state, rate, smallest), most = now, most_nodes(tolerance)
    n_batch = len(state)
    error, growth = np.full(n_batch, np.inf), np.full(n_batch, _SHRINK)
    n_evaluations, near = np.zeros(n_batch, dtype=int), np.zeros(n_batch, dtype=bool)
    result = Attempt(state.copy(), rate.copy(), smallest.copy(), error, growth, n_evaluations, near)
    iterates = _Iterates(system, state, size, rate[:, None])
    floor, change = norms(state), np.full(n_batch, np.inf)
    end = iterates.origin + iterates.size * iterates.values
    for iteration in range(1, _MOST + 1):
        n_nodes = min(most, _FIRST + iteration - 1)
        iterates.advance(iterates.integrated(integrals(iterates.n_nodes, n_nodes)[:-1]))
        last, before, end = end, change, iterates.integrated(integrals(n_nodes, n_nodes)[-1:])
        scale = np.maximum(floor, iterates.sizes_of(end)[:, 0])
        scale[scale == 0] = 1.0
        change = (iterates.sizes_of(end - last)[:, 0] / scale).max(axis=-1)
        # Convergence is faster than linear: what is left is about the change times its last ratio.
        ratio = change / np.where((before > 0) & (before < np.inf), before, change + _TINY)
        settled = change * np.minimum(ratio, 1.0) <= _LEFT * tolerance
        lost = ~np.isfinite(change) | ((iteration > _PATIENCE) & (ratio > 1) & ~settled)
        if not (settled | lost).any():
            continue
        full = n_nodes == most
        error = error_estimates(iterates.values, iterates.shape, iterates.size[:, 0], scale)[1]
        error /= tolerance
        good = settled & ~lost & ((error < 1) | full)
        done = good | lost
        result.n_evaluations[iterates.rows[done]] = iterates.n_evaluations
        if good.any():
            rows = iterates.rows[good]
            result.error[rows] = error[good]
            result.growth[rows] = _growth(error[good], iteration, most if full else None)
            _accept(result, iterates, good, end)
        if done.all():
            break
        kept = ~done
        iterates.take(kept)
        floor, end, change = floor[kept], end[kept], change[kept]
    else:
        result.n_evaluations[iterates.rows] = iterates.n_evaluations
    return result


def _accept(result: Attempt, iterates: _Iterates, good: Array, end: Array) -> None:
    """Write the end of the step of some members, and whether they pass near singular matrices."""
    system, rows, shape = iterates.system, iterates.rows[good], iterates.shape
    start, first = result.end[rows], result.smallest[rows]
    end = end[good].reshape(-1, *shape)
    result.end[rows] = end
    result.rate[rows], last = system.rates(end)
    result.smallest[rows] = last
    result.n_evaluations[rows] += 1
    states = np.concatenate([start[:, None], iterates.inner[good], end[:, None]], axis=1)
    smallest = np.column_stack([first, iterates.smallest[good], last])
    result.near[rows] = passes_near(_cores(system, states), smallest, system.core_rank)


def _cores(system: Flow, states: Array) -> Array:
    """Return the cores of states, shape ``(n_rows, n_times, *core)``."""
    positions = states[:, :, 0, 0]
    cores = system.core(positions.reshape(-1, *positions.shape[2:]))
    return cores.reshape(*positions.shape[:2], *cores.shape[1:])


def _growth(error: Array, iteration: int, most: int | None) -> Array:
    """Return the factor by which the next step may be longer.

    Limited by the error at the largest number of nodes, and by the iterations that were needed.
    """
    factor = np.full(error.shape, _TYPICAL / iteration)
    if most is not None:
        factor = np.minimum(factor, _SAFETY * np.maximum(error, 1e-30) ** (-2 / 3 / most))
    return np.clip(factor, _SHRINK, _GROW)


class Followed(NamedTuple):
    """Geodesics on [0, 1] as far as the iteration has found them.

    ``solved`` tells whether it has settled, the nodes resolve the geodesic, and it stays away from
    singular matrices; ``states`` are those at the nodes and at the end,
    ``(n_batch, n_nodes + 1, 2, 1, *shape)``; NaN unless they have settled.
    """

    solved: Array
    states: Array
    n_evaluations: Array


def flow_of(system: Chart, state: Array, followed: Followed, record: bool) -> FlowResult:
    """Return what was followed, of the members that are solved, as a flow in one step."""
    solved = followed.solved
    state, states = state[solved], followed.states[solved]
    n_batch, n_knots = states.shape[:2]
    ones, trajectory = np.ones(n_batch), Trajectory()
    end = system.project(states[:, -1])
    if record:
        times = gauss(n_knots - 1).nodes
        inner = system.project(states[:, :-1].reshape(-1, *state.shape[1:]))
        inner = np.moveaxis(inner.reshape(n_batch, times.size, *state.shape[1:]), 1, 0)
        trajectory.times.extend([0 * ones, *times[:, None] * ones, ones])
        trajectory.states.extend([state, *inner, end])
    status, n_steps = np.full(n_batch, Status.CONVERGED), np.ones(n_batch, dtype=int)
    return FlowResult(end, ones, status, n_steps, followed.n_evaluations[solved], trajectory)


def nodes_needed(state: Array, rates: Array, tolerance: float, *, inside: bool) -> Array:
    """Return numbers of nodes that will resolve geodesics, infinite if none may.

    Arguments as for :func:`follow`. The error decays geometrically with the number of nodes.
    """
    values = rates.reshape(*rates.shape[:2], -1)
    estimates = error_estimates(values, state.shape[1:], np.ones((1, 1)), _scale(state))
    error = np.maximum(estimates[0 if inside else 1], _TINY)
    decay = np.minimum(np.log(error), 0.0) / rates.shape[1]
    return np.where(decay < 0, np.log(tolerance) / np.where(decay < 0, decay, -1.0), np.inf)


def follow(
    system: Flow,
    state: Array,
    rates: Array,
    n_nodes: int,
    tolerance: float,
    *,
    inside: bool,
) -> Followed:
    """Follow geodesics from t = 0 to t = 1, given approximations of them; never raises.

    ``rates`` approximate those at any number of Gauss nodes, ``(n_batch, n_given, *state)``; the
    solution has ``n_nodes``. ``tolerance`` bounds the error of position and rate, each relative to
    its norm at t = 0, at the end or also ``inside``, at the nodes.
    """
    result = Followed(
        np.zeros(len(state), dtype=bool),
        np.full((len(state), n_nodes + 1, *state.shape[1:]), np.nan),
        np.zeros(len(state), dtype=int),
    )
    iterates = _Iterates(system, state, np.ones(len(state)), rates)
    # What goes astray is left to the flow in steps.
    with np.errstate(over="ignore", invalid="ignore"), suppress(np.linalg.LinAlgError):
        _settle(result, iterates, tolerance, inside)
    return result


def _settle(result: Followed, iterates: _Iterates, tolerance: float, inside: bool) -> None:
    """Iterate until every member has settled or is lost, and write those that have settled.

    How far an iterate is from the solution is read off the largest change at any node, since that
    at the end may be small by chance.
    """
    state = iterates.origin.reshape(-1, *iterates.shape)
    scale, change, n_nodes = _scale(state), np.full(len(state), np.inf), result.states.shape[1] - 1
    points = iterates.integrated(integrals(iterates.n_nodes, n_nodes))
    weights = integrals(n_nodes, n_nodes)
    for iteration in range(1, _MOST_FOLLOWED + 1):
        result.n_evaluations[iterates.rows] += n_nodes
        iterates.advance(points[:, :-1])
        fresh = iterates.integrated(weights)
        moved, before, points = iterates.sizes_of(fresh - points), change, fresh
        change = (moved.max(axis=1) / scale).max(axis=1)
        # The k-th iteration multiplies changes by about c / k. Early on c is hidden by what the
        # guess leaves of high modes, which vanish faster.
        rate = np.full(len(change), _RATE)
        if iteration > 1:
            rate = np.maximum(rate, iteration * change / np.maximum(before, _TINY))
        ahead = np.arange(iteration + 1, _MOST_FOLLOWED + _AHEAD)
        factors = (rate[:, None] / ahead).cumprod(axis=1)
        settled = change * factors.sum(axis=1) <= tolerance
        lost = ~np.isfinite(change)
        if _SOON <= iteration < _MOST_FOLLOWED:
            lost |= ~settled & (change * factors[:, _MOST_FOLLOWED - iteration - 1] > tolerance)
        if settled.any():
            done = iterates.rows[settled]
            result.states[done] = points[settled].reshape(-1, *result.states.shape[1:])
            values = iterates.values[settled]
            errors = error_estimates(values, iterates.shape, np.ones((1, 1)), scale[settled])
            path = np.concatenate([state[done][:, None], result.states[done]], axis=1)
            system, nearest = iterates.system, iterates.smallest[settled]
            away = stays_away(_cores(system, path), nearest, system.core_rank)
            result.solved[done] = (errors[0 if inside else 1] <= tolerance) & away
        running = ~(settled | lost)
        if not running.any():
            break
        if not running.all():
            iterates.take(running)
            scale, change, points = scale[running], change[running], points[running]


def _scale(state: Array) -> Array:
    """Norms of position and rate that may be divided by, shape ``(n_batch, 2)``."""
    scale = norms(state)
    scale[scale == 0] = 1.0
    return scale


def error_estimates(
    values: Array, shape: tuple[int, ...], size: Array, scale: Array
) -> tuple[Array, Array]:
    """Estimate errors at the nodes and at the end of a step, relative to ``scale``.

    At the nodes it is what they do not resolve of the solution: the tail of its Legendre
    coefficients. At the end it is the product of this and of the tail of the linearized flow,
    which may decay more slowly: near a singular matrix it was seen to be the square root of the
    other.

    ``values`` are rates at the nodes with their entries in one axis, ``(n_batch, n_nodes, k)``,
    ``shape`` is that of a state, ``size`` the step sizes, ``(n_batch, 1)``, and ``scale`` the norms
    of position and rate, ``(n_batch, 2)``. Returns both errors, each of shape ``(n_batch,)``.
    """
    n_batch, n_nodes = values.shape[:2]
    coefficients = legendre_analysis(n_nodes) @ values
    sizes = norms(coefficients.reshape(n_batch * n_nodes, *shape)).reshape(n_batch, n_nodes, -1)
    sizes *= (size / scale)[:, None]
    tail = np.maximum(sizes[:, -1], 0.1 * sizes[:, -2]) / (4 * n_nodes - 2)
    whole = sizes.max(axis=1)
    share = np.sqrt(tail / np.where(whole > 0, whole, 1.0))
    return 3 * tail.max(axis=-1), 3 * (tail * share).max(axis=-1)
