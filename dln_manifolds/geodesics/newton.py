"""Minimization of the energy of paths by Newton's method with truncated conjugate gradients.

Globally convergent: a direction of negative curvature ends the inner iteration, and every step
must decrease the energy. Batched: each member has its own inner and outer iteration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dln_manifolds.geodesics.path import PathBasis, PathState
from dln_manifolds.spectral.elementary import Array

_MAX_INNER = 200
_MAX_HALVINGS = 25
# Share of members still iterating below which the finished ones are dropped.
_KEEP = 0.8
# Below this slope a Newton step that does not halve it has met the rounding of the gradient.
_ROUNDING = 1e-8


@dataclass
class Minimum:
    """Paths of (nearly) least energy.

    Attributes
    ----------
    coefficients : ndarray, shape=[n_batch, n_modes, n, n]
        Coefficients of the paths.
    slope : ndarray, shape=[n_batch]
        Dual norm of the energy's gradient relative to the length: what is left of it.
    momentum : ndarray, shape=[n_batch, n, n]
        Initial momentum.
    n_iterations, n_evaluations : ndarray of int, shape=[n_batch]
        Newton steps; evaluations at a node (singular value decompositions).
    """

    coefficients: Array
    slope: Array
    momentum: Array
    n_iterations: Array
    n_evaluations: Array


def _dot(a: Array, b: Array) -> Array:
    return np.einsum("bmij,bmij->b", a, b)


def _column(x: Array) -> Array:
    return x[:, None, None, None]


def _newton_direction(path: PathState, first: Array, goal: Array) -> Array:
    """Solve ``Hessian s = -gradient`` by preconditioned conjugate gradients.

    Parameters
    ----------
    path : PathState
        Current paths.
    first : ndarray
        The preconditioned gradient.
    goal : ndarray, shape=[n_batch]
        Relative reduction of the residual at which a member is done.
    """
    model = path.quadratic_model()
    solution = np.zeros_like(first)
    rows = np.arange(len(first))
    residual, z = -path.gradient, -first
    direction, rho = z.copy(), _dot(residual, z)
    stop = goal**2 * rho
    running = rho > 0
    for iteration in range(_MAX_INNER):
        image = model.product(direction)
        curvature = _dot(direction, image)
        convex = running & (curvature > 0)
        if iteration == 0:
            # Steepest descent is the fallback where the energy is not convex along it.
            solution[running & ~convex] = direction[running & ~convex]
        alpha = np.where(convex, rho / np.where(convex, curvature, 1.0), 0.0)
        solution[rows] += _column(alpha) * direction
        residual -= _column(alpha) * image
        z = model.precondition(residual)
        fresh = _dot(residual, z)
        running = convex & (fresh > stop)
        if not running.any():
            break
        beta = np.where(running, fresh / np.where(running, rho, 1.0), 0.0)
        direction = z + _column(beta) * direction
        rho = fresh
        if np.count_nonzero(running) < _KEEP * len(rows):
            model, rows, stop = model.take(running), rows[running], stop[running]
            residual, direction, rho = residual[running], direction[running], rho[running]
            running = running[running]
    return solution


def minimize(
    start: Array,
    end: Array,
    coefficients: Array,
    basis: PathBasis,
    depth: float,
    *,
    tolerance: float,
    max_iterations: int,
) -> Minimum:
    """Minimize the energy of paths from T_0 to T_1 over their coefficients.

    Parameters
    ----------
    start, end : ndarray, shape=[n_batch, n, n]
        End points in the root chart.
    coefficients : ndarray, shape=[n_batch, n_modes, n, n]
        Where to start.
    basis : PathBasis
        Modes and nodes.
    depth : float
        Depth N >= 1.
    tolerance : float
        Dual norm of the gradient, relative to the length of the path, at which a member is done.
    max_iterations : int
        Newton steps at most.

    Returns
    -------
    minimum : Minimum
        Not necessarily converged: see its ``slope``.
    """
    n_batch = len(start)
    result = Minimum(
        coefficients.copy(),
        np.full(n_batch, np.inf),
        np.zeros_like(start),
        np.zeros(n_batch, dtype=int),
        np.zeros(n_batch, dtype=int),
    )
    active = np.arange(n_batch)
    c = coefficients
    path = PathState(start, end, c, basis, depth)
    result.n_evaluations += basis.nodes.size
    for iteration in range(max_iterations + 1):
        first = path.precondition(path.gradient)
        square = _dot(path.gradient, first)
        slope = np.sqrt(np.maximum(square, 0) / np.where(path.energy > 0, 2 * path.energy, 1.0))
        stuck = (slope < _ROUNDING) & (slope > 0.5 * result.slope[active])
        result.coefficients[active], result.slope[active] = c, slope
        result.momentum[active] = path.momentum_at_start()
        keep = (slope > tolerance) & ~stuck
        if iteration == max_iterations or not keep.any():
            break
        if not keep.all():
            active, c, first, slope = active[keep], c[keep], first[keep], slope[keep]
            path = PathState(start[active], end[active], c, basis, depth)
        goal = np.maximum(np.minimum(0.1, slope), 0.3 * tolerance / slope)
        move = _newton_direction(path, first, goal)
        result.n_iterations[active] += 1
        trial = PathState(start[active], end[active], c + move, basis, depth)
        result.n_evaluations[active] += basis.nodes.size
        descent = _dot(path.gradient, move)
        # Near the minimum the decrease drowns in the rounding of the energy itself.
        slack = 1e-13 * path.energy
        factor = np.ones(len(active))
        for _ in range(_MAX_HALVINGS):
            failed = ~(trial.energy <= path.energy + 1e-4 * factor * descent + slack)
            if not failed.any():
                break
            factor = np.where(failed, 0.5 * factor, factor)
            trial = PathState(start[active], end[active], c + _column(factor) * move, basis, depth)
            result.n_evaluations[active] += basis.nodes.size
        c, path = c + _column(factor) * move, trial
    return result
