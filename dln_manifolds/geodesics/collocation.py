r"""One long step by Gauss collocation, with all nodes of a step evaluated in one call.

The step solves ``y(t) = y(0) + int_0^t f(y)`` with the integral taken of the polynomial through f
at Gauss nodes (Hairer, Norsett and Wanner, *Solving Ordinary Differential Equations I*, section
II.7). At its end the solution is of order 2Q for Q nodes. The equations are solved by fixed-point
iteration, Picard's, which starts with few nodes and takes one more each time: early iterates need
none of the others' accuracy. An iteration is one evaluation of the field at all nodes, so that a
step of a single geodesic, several times as long as one of Runge-Kutta, costs fewer calls than that.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from dln_manifolds.geodesics.fields import Field, MovingFrame
from dln_manifolds.geodesics.runge_kutta import Attempt
from dln_manifolds.geodesics.singular import passes_near
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import norms

# Nodes of the first iterate; iterations at most, and as many as a step of the best length takes.
_FIRST, _MOST, _TYPICAL = 4, 24, 14
# Share of the tolerance that may be left of the iteration; iterations after which growing changes
# tell divergence.
_LEFT, _PATIENCE = 0.1, 8
_TINY = float(np.finfo(np.float64).tiny)
_SAFETY, _SHRINK, _GROW = 0.85, 0.4, 3.0


@lru_cache(maxsize=64)
def gauss_nodes(n_nodes: int) -> Array:
    """Return the Gauss nodes of [0, 1]."""
    return (np.polynomial.legendre.leggauss(n_nodes)[0] + 1) / 2


@lru_cache(maxsize=256)
def integrals(n_from: int, n_to: int) -> Array:
    """Integrate polynomials through Gauss nodes of [0, 1] up to other Gauss nodes, and up to 1.

    Returns
    -------
    matrix : ndarray, shape=[n_to + 1, n_from]
        Applied to values at ``n_from`` nodes: the integrals from 0.
    """
    x = np.append(2 * gauss_nodes(n_to) - 1, 1.0)
    legendre = np.polynomial.legendre.legvander(x, n_from)
    k = np.arange(1, n_from)
    primitives = np.empty((n_to + 1, n_from))
    primitives[:, 0] = (x + 1) / 2
    primitives[:, 1:] = (legendre[:, 2:] - legendre[:, :-2]) / (4 * k + 2)
    return primitives @ _analysis(n_from)


@lru_cache(maxsize=32)
def _analysis(n_nodes: int) -> Array:
    """Return the matrix from values at Gauss nodes to Legendre coefficients."""
    x, weights = np.polynomial.legendre.leggauss(n_nodes)
    legendre = np.polynomial.legendre.legvander(x, n_nodes - 1)
    return (np.arange(n_nodes) + 0.5)[:, None] * (legendre.T * weights)


def most_nodes(tolerance: float) -> int:
    """Return the number of nodes of a step: 16 at the tolerance 1e-13, 5 at 1e-3."""
    return max(_FIRST + 1, round(1.7 - 1.1 * math.log10(tolerance)))


def attempt(
    field: Field,
    frame: MovingFrame,
    state: Array,
    rate: Array,
    smallest: Array,
    size: Array,
    tolerance: float,
) -> Attempt:
    """Try a step of the given size for every member, as seen from a frame.

    Parameters and result as for :func:`dln_manifolds.geodesics.runge_kutta.attempt`.
    """
    n_batch, shape = len(state), state.shape[1:]
    most = most_nodes(tolerance)
    result = Attempt(
        state.copy(),
        rate.copy(),
        smallest.copy(),
        np.full(n_batch, np.inf),
        np.full(n_batch, _SHRINK),
        np.zeros(n_batch, dtype=int),
        np.zeros(n_batch, dtype=bool),
    )
    rows = np.arange(n_batch)
    floor = norms(state)
    step = size[:, None, None]
    origin = state.reshape(n_batch, 1, -1)
    values = frame.seen(state, rate).reshape(n_batch, 1, -1)
    end, change = origin + step * values, np.full(n_batch, np.inf)
    n_evaluations, n_nodes = 0, 1
    for iteration in range(1, _MOST + 1):
        n_from, n_nodes = n_nodes, min(most, _FIRST + iteration - 1)
        nodes = origin + step * (integrals(n_from, n_nodes)[:-1] @ values)
        inner = nodes.reshape(len(rows), n_nodes, *shape)
        rates, smallest_inner = field.rates(inner.reshape(-1, *shape))
        n_evaluations += n_nodes
        values = frame.seen(inner, rates.reshape(inner.shape)).reshape(len(rows), n_nodes, -1)
        last, before = end, change
        end = origin + step * (integrals(n_nodes, n_nodes)[-1:] @ values)
        scale = np.maximum(floor, norms(end.reshape(-1, *shape)))
        scale[scale == 0] = 1.0
        change = (norms((end - last).reshape(-1, *shape)) / scale).max(axis=-1)
        # Convergence is faster than linear: what is left is about the change times its last ratio.
        ratio = change / np.where((before > 0) & (before < np.inf), before, change + _TINY)
        settled = change * np.minimum(ratio, 1.0) <= _LEFT * tolerance
        lost = ~np.isfinite(change) | ((iteration > _PATIENCE) & (ratio > 1) & ~settled)
        if not (settled | lost).any():
            continue
        error = error_estimates(values, shape, step[:, 0], scale)[1] / tolerance
        good = settled & ~lost & ((error < 1) | (n_nodes == most))
        done = good | lost
        result.n_evaluations[rows[done]] = n_evaluations
        if good.any():
            growth = _growth(error[good], iteration, most if n_nodes == most else None)
            path = inner[good], smallest_inner.reshape(len(rows), n_nodes)[good]
            _accept(result, rows[good], field, end[good].reshape(-1, *shape), path)
            result.error[rows[good]], result.growth[rows[good]] = error[good], growth
        if done.all():
            break
        kept = ~done
        rows, floor, frame = rows[kept], floor[kept], frame.take(kept)
        step, origin, values = step[kept], origin[kept], values[kept]
        end, change = end[kept], change[kept]
    else:
        result.n_evaluations[rows] = n_evaluations
    return result


def _accept(
    result: Attempt, rows: Array, field: Field, end: Array, path: tuple[Array, Array]
) -> None:
    """Write the end of the step of some members, and whether their paths pass near singular ones.

    ``path`` holds the states at the nodes and their smallest root singular values.
    """
    start, first = result.end[rows], result.smallest[rows]
    result.end[rows] = end
    result.rate[rows], last = field.rates(end)
    result.smallest[rows] = last
    result.n_evaluations[rows] += 1
    positions = np.concatenate([start[:, None], path[0], end[:, None]], axis=1)[:, :, 0]
    watched = field.watched(positions.reshape(-1, *positions.shape[2:]))
    result.near[rows] = passes_near(
        watched.reshape(*positions.shape[:2], *watched.shape[1:]),
        np.column_stack([first, path[1], last]),
    )


def _growth(error: Array, iteration: int, most: int | None) -> Array:
    """Return the factor by which the next step may be longer.

    Limited by the error at the largest number of nodes, and by the iterations that were needed.
    """
    factor = np.full(error.shape, _TYPICAL / iteration)
    if most is not None:
        factor = np.minimum(factor, _SAFETY * np.maximum(error, 1e-30) ** (-2 / 3 / most))
    return np.clip(factor, _SHRINK, _GROW)


def error_estimates(
    values: Array, shape: tuple[int, ...], size: Array, scale: Array
) -> tuple[Array, Array]:
    """Estimate errors at the nodes and at the end of a step, relative to ``scale``.

    At the nodes it is what they do not resolve of the solution: the tail of its Legendre
    coefficients. At the end it is the product of this and of the tail of the linearized flow,
    which may decay more slowly: near a singular matrix it was seen to be the square root of the
    other.

    Parameters
    ----------
    values : ndarray, shape=[n_batch, n_nodes, k]
        Rates at the nodes, their entries in one axis.
    shape : tuple of int
        Shape of a state.
    size, scale : ndarray, shape=[n_batch, 1] and [n_batch, 2]
        Step sizes; norms of position and rate.

    Returns
    -------
    inside, end : ndarray, shape=[n_batch]
        The two errors.
    """
    n_batch, n_nodes = values.shape[:2]
    coefficients = _analysis(n_nodes) @ values
    sizes = norms(coefficients.reshape(n_batch * n_nodes, *shape)).reshape(n_batch, n_nodes, -1)
    sizes *= (size / scale)[:, None]
    tail = np.maximum(sizes[:, -1], 0.1 * sizes[:, -2]) / (4 * n_nodes - 2)
    whole = sizes.max(axis=1)
    share = np.sqrt(tail / np.where(whole > 0, whole, 1.0))
    return 3 * tail.max(axis=-1), 3 * (tail * share).max(axis=-1)
