r"""Following a geodesic that a path has nearly found: one collocation step over all of [0, 1].

The initial-value problem ``y(t) = y(0) + int_0^t f(y)`` is solved as in
:mod:`dln_manifolds.geodesics.collocation`, at Gauss nodes of its own. Picard's iteration starts
from the path instead of from nothing, and sees the geodesic from the path's frame. That saves most
iterations and changes nothing of what it converges to: the solution is determined by the initial
state alone, and frames by their angular velocities. How far an iterate is from it is read off the
largest change at any node, since that at the end may be small by chance.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

import numpy as np

from dln_manifolds.geodesics.collocation import error_estimates, gauss_nodes, integrals
from dln_manifolds.geodesics.fields import Field, MovingFrame
from dln_manifolds.geodesics.integrate import CONVERGED, QUIET, FlowResult, Trajectory
from dln_manifolds.geodesics.singular import passes_near
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import frobenius, norms

# Iterations at most, and after how many it may be given up.
_MOST, _PATIENCE = 15, 3
# The least rate c of convergence that is assumed, and iterations ahead that are summed. With it the
# errors of Gaussian geodesics are below the tolerance up to N = 4, and below 8 times it at N = 30.
_RATE, _AHEAD = 2.0, 8
_TINY = float(np.finfo(np.float64).tiny)


class Followed(NamedTuple):
    """Geodesics on [0, 1] as far as the iteration has found them.

    Attributes
    ----------
    solved : ndarray of bool, shape=[n_batch]
        Whether the iteration has settled, the nodes resolve the geodesic, and it stays away from
        singular matrices.
    states : ndarray, shape=[n_batch, n_nodes + 1, 2, ...]
        States at the nodes and at the end, seen from the frame; NaN unless they have settled.
    n_evaluations : ndarray of int, shape=[n_batch]
        Evaluations of the field.
    """

    solved: Array
    states: Array
    n_evaluations: Array

    def result(self, field: Field, frame: MovingFrame, state: Array, record: bool) -> FlowResult:
        """Return the flow of the members that are solved, given their initial states."""
        state, frame = state[self.solved], frame.take(self.solved)
        states = self.states[self.solved]
        n_batch, n_knots = states.shape[:2]
        ones, trajectory = np.ones(n_batch), Trajectory()
        end = field.settle(frame.leave(ones, states[:, -1])[0])
        if record:
            times = gauss_nodes(n_knots - 1)
            members = np.repeat(np.arange(n_batch), times.size)
            inner = states[:, :-1].reshape(-1, *state.shape[1:])
            inner = field.settle(frame.take(members).leave(np.tile(times, n_batch), inner)[0])
            inner = np.moveaxis(inner.reshape(n_batch, times.size, *state.shape[1:]), 1, 0)
            trajectory.times.extend([0 * ones, *times[:, None] * ones, ones])
            trajectory.states.extend([state, *inner, end])
        return FlowResult(
            end,
            ones,
            np.full(n_batch, CONVERGED),
            np.ones(n_batch, dtype=int),
            self.n_evaluations[self.solved],
            trajectory,
        )


def nodes_needed(state: Array, rates: Array, tolerance: float, *, inside: bool) -> Array:
    """Return numbers of nodes that will resolve geodesics, infinite if none may.

    Parameters as for :func:`follow`. The error decays geometrically with the number of nodes.
    """
    values = rates.reshape(*rates.shape[:2], -1)
    estimates = error_estimates(values, state.shape[1:], np.ones((1, 1)), _sizes(state))
    error = np.maximum(estimates[0 if inside else 1], _TINY)
    decay = np.minimum(np.log(error), 0.0) / rates.shape[1]
    return np.where(decay < 0, np.log(tolerance) / np.where(decay < 0, decay, -1.0), np.inf)


def follow(
    field: Field,
    frame: MovingFrame,
    state: Array,
    rates: Array,
    n_nodes: int,
    tolerance: float,
    *,
    inside: bool,
) -> Followed:
    """Follow geodesics from t = 0 to t = 1, given approximations of them.

    Parameters
    ----------
    field : Field
        The flow.
    frame : MovingFrame
        Where the geodesics are seen from; at t = 0 it agrees with the frame at rest.
    state : ndarray, shape=[n_batch, 2, ...]
        Initial states.
    rates : ndarray, shape=[n_batch, n_given, 2, ...]
        Approximate rates at ``n_given`` Gauss nodes, seen from the frame.
    n_nodes : int
        Nodes of the solution.
    tolerance : float
        Bound on the error of position and rate, each relative to its norm at t = 0.
    inside : bool
        Whether states at the nodes have to be as accurate as that at the end.

    Returns
    -------
    followed : Followed
        What came of it; never an error.
    """
    n_batch, shape = len(state), state.shape[1:]
    result = Followed(
        np.zeros(n_batch, dtype=bool),
        np.full((n_batch, n_nodes + 1, *shape), np.nan),
        np.zeros(n_batch, dtype=int),
    )
    # What goes astray is left to the flow in steps.
    with np.errstate(**QUIET), suppress(np.linalg.LinAlgError):
        _iterate(result, field, frame, state, rates, tolerance, inside)
    return result


def _iterate(
    result: Followed,
    field: Field,
    frame: MovingFrame,
    state: Array,
    rates: Array,
    tolerance: float,
    inside: bool,
) -> None:
    """Iterate until every member has settled or is lost, and write those that have settled."""
    n_batch, shape, n_nodes = len(state), state.shape[1:], result.states.shape[1] - 1
    rows, weights = np.arange(n_batch), integrals(n_nodes, n_nodes)
    origin, scale = state.reshape(n_batch, 1, -1), _sizes(state)
    points = origin + integrals(rates.shape[1], n_nodes) @ rates.reshape(*rates.shape[:2], -1)
    change = np.full(n_batch, np.inf)
    for iteration in range(1, _MOST + 1):
        inner = points[:, :-1].reshape(len(rows), n_nodes, *shape)
        there, smallest = field.rates(inner.reshape(-1, *shape))
        values = frame.seen(inner, there.reshape(inner.shape)).reshape(len(rows), n_nodes, -1)
        result.n_evaluations[rows] += n_nodes
        fresh = origin + weights @ values
        moved = norms((fresh - points).reshape(-1, *shape)).reshape(len(rows), n_nodes + 1, 2)
        points, before = fresh, change
        change = (moved.max(axis=1) / scale).max(axis=1)
        # The k-th iteration multiplies changes by about c / k. Early on c is hidden by what the
        # guess leaves of high modes, which vanish faster.
        rate = np.full(len(rows), _RATE)
        if iteration > 1:
            rate = np.maximum(rate, iteration * change / np.maximum(before, _TINY))
        ahead = np.arange(iteration + 1, _MOST + _AHEAD)
        factors = (rate[:, None] / ahead).cumprod(axis=1)
        settled = change * factors.sum(axis=1) <= tolerance
        lost = ~np.isfinite(change)
        if _PATIENCE <= iteration < _MOST:
            lost |= ~settled & (change * factors[:, _MOST - iteration - 1] > tolerance)
        if settled.any():
            done = rows[settled]
            result.states[done] = points[settled].reshape(-1, n_nodes + 1, *shape)
            errors = error_estimates(values[settled], shape, np.ones((1, 1)), scale[settled])
            near = _passes_near(
                field, state[done], result.states[done], smallest.reshape(-1, n_nodes)[settled]
            )
            result.solved[done] = (errors[0 if inside else 1] <= tolerance) & ~near
        running = ~(settled | lost)
        if not running.any():
            break
        if not running.all():
            rows, origin, scale = rows[running], origin[running], scale[running]
            points, change, frame = points[running], change[running], frame.take(running)


def _sizes(state: Array) -> Array:
    """Norms of position and rate that may be divided by, shape ``(n_batch, 2)``."""
    scale = norms(state)
    scale[scale == 0] = 1.0
    return scale


def _passes_near(field: Field, start: Array, states: Array, smallest: Array) -> Array:
    """Whether geodesics may meet a singular matrix, from their smallest roots at the nodes."""
    positions = np.concatenate([start[:, None, 0], states[:, :, 0]], axis=1)
    watched = field.watched(positions.reshape(-1, *positions.shape[2:]))
    watched = watched.reshape(*positions.shape[:2], *watched.shape[1:])
    chords = frobenius(watched[:, 1:] - watched[:, :-1])
    # Singular matrices are as far as the smallest singular value, which changes by no more than the
    # matrix does: chords of half of it are safe, from the ends as well.
    near = np.asarray(2 * chords.max(axis=1) >= smallest.min(axis=1))
    if near.any():
        # Of the ends it is known by how much they differ from the nodes next to them.
        outer = np.maximum(smallest[near][:, [0, -1]] - chords[near][:, [0, -1]], 0.0)
        roots = np.concatenate([outer[:, :1], smallest[near], outer[:, 1:]], axis=1)
        near[near] = passes_near(watched[near], roots)
    return near
