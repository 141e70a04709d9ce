r"""Jacobi fields, and derivatives of exp, log and the squared distance: variations of geodesics.

A Jacobi field J is a variation of geodesics, carried by the linearized flow. Its covariant
derivative is that of the velocity along J, so that both are entered and left by the rates of a
system's parallel vectors along J itself.

The flow of geodesics keeps a form on its variations: the symplectic form of a Hamiltonian flow,
``<dx, mu> - <xi, dp>``; for Jacobi fields of a submanifold ``<J, I'> - <J', I>``. With the
variation ``(xi, mu)`` that ends in ``(0, c)``,

.. math:: \langle c, dx(1) \rangle = \langle dx(0), \mu(0) \rangle - \langle \xi(0), dp(0) \rangle,

so one backward variation is the adjoint of the differential of exp, and as many as there are
dimensions, in one batch, are the matrix that the implicit function theorem inverts for log. Rates
are differentiated covariantly at the start, which makes results independent of the chart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from dln_manifolds.errors import ConjugatePointsError
from dln_manifolds.geodesics.integrate import flow, flow_anyhow
from dln_manifolds.geodesics.solution import GeodesicSolution
from dln_manifolds.geodesics.solve import followed
from dln_manifolds.geodesics.system import FlowResult, Points, Status, System, Unit
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import transpose, weigh

# Condition at which the differential of exp counts as singular.
_SINGULAR = 1e12


def exp_pullback(
    solution: GeodesicSolution, members: Array, cotangent: Array
) -> tuple[Array, Array]:
    """Return the gradients by X and by Z of ``<c, exp_X(Z)>``, each ``(k, *point_shape)``.

    ``members`` are indices of solved ones in the flat batch of a recorded exp, and ``cotangent``
    the gradients c by their end points. Points and vectors are divided by one factor, which drops
    out.
    """
    system = solution.system
    _, _, last, end = _ends(solution, members)
    covectors = system.covector(last, cotangent)[:, None]
    first, rate, fields, changes = _backwards(system, end, covectors, solution.tolerance)
    field, change = fields[:, 0], changes[:, 0]
    by_point = _by_point(system, first, rate, field, change)
    return by_point, -system.gradient(first, system.momentum(first, field))


def log_pullback(
    solution: GeodesicSolution, members: Array, cotangent: Array
) -> tuple[Array, Array]:
    """Return the gradients by X and by Y of ``<c, log_X(Y)>``, by implicit functions.

    Arguments as for `exp_pullback`, of a recorded log. Raises `ConjugatePointsError` if the
    differential of exp is singular: log has no derivative.
    """
    system = solution.system
    _, _, last, end = _ends(solution, members)
    basis = system.covector_basis(last)
    first, rate, fields, changes = _backwards(system, end, basis, solution.tolerance)
    target = -system.vector(first, system.covector(first, cotangent))
    coordinates = solve_variations(fields, target)
    change = np.einsum("bk,bk...->b...", coordinates, changes)
    by_point = _by_point(system, first, rate, target, change)
    by_end = system.gradient(last, np.einsum("bk,bk...->b...", coordinates, basis))
    return system.curved(first, rate, cotangent) - by_point, by_end


def squared_length_gradients(solution: GeodesicSolution, members: Array) -> tuple[Array, Array]:
    """Return the gradients of the squared length by both end points: twice the momenta there.

    For some members of a recorded log, each of shape ``(k, *point_shape)``.
    """
    system = solution.system
    first, rate, last, end = _ends(solution, members)
    factor = 2 * system.length_factor(solution.trajectory.scales[-1][members])
    by_ends = system.gradient(first, -rate), system.gradient(last, end[:, 1, 0])
    return weigh(factor, by_ends[0]), weigh(factor, by_ends[1])


def _ends(solution: GeodesicSolution, members: Array) -> tuple[Unit, Array, Unit, Array]:
    """Return both ends of geodesics, the rate at the first and the state at the last.

    Both divided by the scale of the last, which is forgotten.
    """
    system, scales = solution.system, solution.trajectory.scales
    start, end = (state[members] for state in solution.ends)
    start = system.rescaled(start, scales[0][members], scales[-1][members])
    forgotten = np.zeros(len(start))
    first, last = (system.at(state[:, 0, 0], forgotten) for state in (start, end))
    return first, start[:, 1, 0], last, end


def _by_point(system: System, first: Unit, rate: Array, field: Array, change: Array) -> Array:
    """Return the gradient by the start of geodesics of what the adjoint variation says of them."""
    covariant = system.covariant(first, rate, field, change)
    return system.gradient(first, covariant) - system.held(first, rate, field)


def _backwards(
    system: System, end: Array, covectors: Array, tolerance: float
) -> tuple[Unit, Array, Array, Array]:
    """Follow variations that end in ``(0, c)`` back to the start of geodesics of unit time.

    ``end`` are the states at their end, ``(n_batch, 2, 1, *shape)``, and ``covectors`` have the
    shape ``(n_batch, k, *shape)``. Returns the start, its rates, and in that shape vectors and
    changes of covectors as the system sees them, NaN where the integrator stalled.
    """
    n_batch, k = covectors.shape[:2]
    state = np.zeros((n_batch, 2, 1 + k, *end.shape[3:]))
    size = np.sqrt(np.sum(covectors**2, axis=tuple(range(1, covectors.ndim))))
    size[size == 0] = 1.0
    # Reversing time turns the signs of rates.
    state[:, 0, 0], state[:, 1, 0] = end[:, 0, 0], -end[:, 1, 0]
    state[:, 1, 1:] = weigh(-1 / size, covectors)
    result = flow(system.linearized, state, np.ones(n_batch), tolerance=tolerance)
    final = result.state
    final[:, 1] *= -1
    fields, changes = system.gauged(final[:, :, 0], final[:, 0, 1:], final[:, 1, 1:])
    size[result.status != Status.CONVERGED] = np.nan
    first = system.at(final[:, 0, 0], np.zeros(n_batch))
    return first, final[:, 1, 0], weigh(size, fields), weigh(size, changes)


def solve_variations(variations: Array, target: Array) -> Array:
    """Return the coordinates of vectors in the span of variations, shape ``(n_batch, k)``.

    ``variations`` are as many vectors, ``(n_batch, k, *shape)``, as their span has dimensions if
    all is well, and ``target`` vectors in that span, or several, ``(n_batch, m, *shape)``, whose
    coordinates have the shape ``(n_batch, m, k)``. Raises `ConjugatePointsError` if variations are
    linearly dependent.
    """
    size = math.prod(variations.shape[2:])
    matrix = np.swapaxes(variations.reshape(*variations.shape[:2], size), 1, 2)
    left, values, right_t = np.linalg.svd(matrix, full_matrices=False)
    dependent = ~(values[:, -1] * _SINGULAR > values[:, 0])
    if dependent.any():
        raise ConjugatePointsError(
            f"Batch member {int(np.argmax(dependent))}: the end points are conjugate along their "
            f"geodesic, where log has no derivative. Move one of them."
        )
    single = target.ndim < variations.ndim
    several = target[:, None] if single else target
    found = (several.reshape(*several.shape[:2], size) @ left) / values[:, None] @ right_t
    return found[:, 0] if single else found


# --- fields and states


def _each(function: Callable[[Unit, Array], Array], unit: Unit, many: Array) -> Array:
    """Apply what takes one array at a point to several, ``(n_batch, k, *shape)``."""
    n_batch, k = many.shape[:2]
    rows = np.repeat(np.arange(n_batch), k)
    found = function(unit.take(rows), many.reshape(n_batch * k, *many.shape[2:]))
    return found.reshape(n_batch, k, *found.shape[1:])


def _moved(system: System, state: Array, fields: Array) -> Array:
    """Return how states move along fields, momenta, if their rate is taken along parallel.

    ``state`` has the shape ``(n_batch, 2, *shape)``, ``fields`` and each part of the result
    ``(n_batch, k, *shape)``; the result ``(n_batch, 2, k, *shape)``.
    """
    n_batch, k = fields.shape[:2]
    each = np.zeros((n_batch, k, 2, 2, *fields.shape[2:]))
    each[:, :, 0, 0], each[:, :, 1, 0] = state[:, None, 0], fields
    each[:, :, 0, 1] = state[:, None, 1]
    rates = system.parallel.rates(each.reshape(n_batch * k, *each.shape[2:]))[0]
    return np.moveaxis(rates[:, 0].reshape(n_batch, k, 2, *fields.shape[2:]), 1, 2)


def entered(system: System, state: Array, fields: Array, slopes: Array) -> Array:
    """Return states ``(n_batch, 2, 1 + k, *shape)`` with the variations of Jacobi fields.

    ``fields`` and ``slopes`` are momenta of J and J', ``(n_batch, k, *shape)``.
    """
    varied = np.zeros((len(state), 2, 1 + fields.shape[1], *state.shape[2:]))
    varied[:, :, 0] = state
    varied[:, 1, 1:] = slopes
    if fields.any():
        varied[:, :, 1:] += _moved(system, state, fields)
    return varied


def left_as(system: System, state: Array) -> tuple[Unit, Array, Array]:
    """Return points, and of the variations there the vectors J and the momenta of J'."""
    first = state[:, :, 0]
    unit = system.at(first[:, 0], np.zeros(len(state)))
    fields, changes = system.gauged(first, state[:, 0, 1:], state[:, 1, 1:])
    return unit, fields, _slopes(system, first, _each(system.momentum, unit, fields), changes)


def _slopes(system: System, state: Array, fields: Array, changes: Array) -> Array:
    """Return the momenta of J' from those of J and the changes of covectors along J, at states."""
    moved = _moved(system, state, fields)
    return np.asarray(changes - system.gauged(state, moved[:, 0], moved[:, 1])[1])


class Basis(NamedTuple):
    """An orthonormal basis of tangent spaces, ``(n_batch, dim, *shape)``, and its momenta."""

    vectors: Array
    momenta: Array

    @classmethod
    def of(cls, system: System, unit: Unit) -> Basis:
        """Return a basis at points."""
        momenta = system.covector_basis(unit)
        vectors = _each(system.vector, unit, momenta)
        inverse = np.linalg.inv(np.linalg.cholesky(pairings(momenta, vectors)))
        return cls(vectors, momenta).combined(inverse)

    @classmethod
    def joined(cls, parts: list[Basis]) -> Basis:
        """Return the bases of several batches."""
        return cls(*map(np.concatenate, zip(*parts, strict=True)))

    def coordinates(self, momenta: Array) -> Array:
        """Return the coordinates of momenta, ``(n_batch, k, dim)``, without normal parts."""
        return pairings(momenta, self.vectors)

    def combined(self, coordinates: Array) -> Basis:
        """Return vectors and momenta of coordinates."""
        shape = (*coordinates.shape[:2], *self.vectors.shape[2:])
        flat = (x.reshape(*x.shape[:2], math.prod(shape[2:])) for x in self)
        return Basis(*((coordinates @ x).reshape(shape) for x in flat))

    def take(self, members: Array) -> Basis:
        """Return some members."""
        return Basis(self.vectors[members], self.momenta[members])


def pairings(first: Array, second: Array) -> Array:
    """Return pairings, ``(n_batch, k, l)``, of lists of momenta and vectors."""
    size = math.prod(first.shape[2:])
    flat = (x.reshape(*x.shape[:2], size) for x in (first, second))
    return next(flat) @ transpose(next(flat))


# --- one field


def jacobi_fields(
    system: System,
    start: Points,
    velocity: Array,
    values: Array,
    slopes: Array,
    times: Array,
    *,
    tolerance: float,
) -> tuple[Array, GeodesicSolution]:
    """Return Jacobi fields at times, ``(n_batch, n_times, k, *point_shape)``, and the geodesics.

    ``values`` and ``slopes`` are J and its covariant derivative at t = 0, ``(n_batch, k,
    *point_shape)``; ``times`` are not negative. Fields are NaN where a geodesic does not reach the
    last time; the solution is that until then, not callable.
    """
    last = times.max(initial=0.0)
    shares = times / (last or 1.0)
    unit, state, _, solution = _to_end(system, start, velocity * last, tolerance)
    here = [_each(system.flat, unit, x) for x in (values, slopes * last)]
    # Near singular matrices variations take very short steps: to where geodesics end in vain.
    span = solution.success.astype(float)
    varied, several = entered(system, state, *here), times.size > 1
    result = flow(system.linearized, varied, span, tolerance=tolerance, record=several)
    ends = _between(system, result, shares, tolerance) if several else result.state[:, None]
    there, found, _ = left_as(system, ends.reshape(-1, *ends.shape[2:]))
    there = system.at(there.position, np.repeat(unit.scale, times.size))
    fields = _velocities(system, there, _each(system.momentum, there, found))
    fields = fields.reshape(len(state), times.size, *values.shape[1:])
    solution = _known(solution, np.asarray(result.status == Status.CONVERGED), fields)
    return fields, replace(solution, crossing_time=solution.crossing_time * (last or 1.0))


def _known(solution: GeodesicSolution, followed_too: Array, found: Array) -> GeodesicSolution:
    """Make fields NaN, in place, where geodesics or fields could not be followed, and say so."""
    status = np.where(solution.success & ~followed_too, Status.STALLED, solution.status)
    solution = replace(solution, status=status)
    found[~solution.success] = np.nan
    return solution


def _start(system: System, unit: Unit, velocity: Array) -> Array:
    """Return states ``(n_batch, 2, *shape)`` of geodesics."""
    return np.stack([unit.position, system.flat(unit, velocity)], axis=1)


def _between(system: System, result: FlowResult, times: Array, tolerance: float) -> Array:
    """Return states at times, ``(n_batch, n_times, 2, 1 + k, *shape)``, from the steps before."""
    knots, states = np.stack(result.trajectory.times), np.stack(result.trajectory.states)
    before = np.maximum((knots[:, :, None] <= times).sum(axis=0) - 1, 0)
    members = np.arange(len(before))[:, None]
    origin = states[before, members]
    lapse = np.maximum(times - knots[before, members], 0.0)
    flat = origin.reshape(-1, *origin.shape[2:])
    found = flow(system.linearized, flat, lapse.ravel(), tolerance=tolerance)
    return found.state.reshape(origin.shape)


# --- the differential of exp


def exp_adjoint(
    system: System, start: Points, velocity: Array, vectors: Array, *, tolerance: float
) -> tuple[Array, GeodesicSolution]:
    """Apply the adjoint, in the metric, of the differential of exp by its vector.

    ``vectors`` at the end points have the shape ``(n_batch, k, *point_shape)``; their normal parts
    drop out. NaN where a geodesic ends before; the solution is not callable.
    """
    first, _, fields, _, solution = _taken_back(system, start, velocity, vectors, tolerance)
    return _velocities(system, first, -_each(system.momentum, first, fields)), solution


def exp_adjoints(
    system: System, start: Points, velocity: Array, vectors: Array, *, tolerance: float
) -> tuple[Array, Array, GeodesicSolution]:
    """Apply the adjoints of the differential of exp by its point and by its vector.

    By the point with the vector carried along parallel. Arguments as for `exp_adjoint`.
    """
    first, rate, fields, changes, solution = _taken_back(
        system, start, velocity, vectors, tolerance
    )
    state = np.stack([first.position, rate], axis=1)
    momenta = _each(system.momentum, first, fields)
    slopes = _slopes(system, state, momenta, changes)
    by_point, by_vector = (_velocities(system, first, x) for x in (slopes, -momenta))
    return by_point, by_vector, solution


def _taken_back(
    system: System, start: Points, velocity: Array, vectors: Array, tolerance: float
) -> tuple[Unit, Array, Array, Array, GeodesicSolution]:
    """Follow variations that end in ``(0, u)`` back to the start, NaN where there is none."""
    unit, state, result, solution = _to_end(system, start, velocity, tolerance)
    ended = ~solution.success
    result.state[ended, 0, 0], result.state[ended, 1] = state[ended, 0], 0.0
    last = system.at(result.state[:, 0, 0], unit.scale)
    basis = Basis.of(system, last)
    momenta = basis.combined(basis.coordinates(_each(system.flat, last, vectors)))[1]
    # The start as it comes back: its frame may be turned, by flips for instance.
    first, rate, fields, changes = _backwards(system, result.state, momenta, tolerance)
    followed_too = np.isfinite(fields).all(axis=tuple(range(1, fields.ndim)))
    solution = _known(solution, np.asarray(followed_too), fields)
    changes[~solution.success] = np.nan
    return system.at(first.position, unit.scale), rate, fields, changes, solution


def exp_inverse(
    system: System, start: Points, velocity: Array, vectors: Array, *, tolerance: float
) -> tuple[Array, GeodesicSolution]:
    """Apply the inverse of the differential of exp by its vector.

    Arguments as for `exp_adjoint`. Raises `ConjugatePointsError` where there is none.
    """
    unit, state, result, solution = _to_end(system, start, velocity, tolerance)
    first = Basis.of(system, unit)
    leaving = entered(system, state, np.zeros_like(first.momenta), first.momenta)
    span = np.where(solution.success, 1.0, 0.5 * result.time)
    moved = flow(system.linearized, leaving, span, tolerance=tolerance)
    last, fields, _ = left_as(system, moved.state)
    basis = Basis.of(system, last)
    target = basis.coordinates(_each(system.flat, system.at(last.position, unit.scale), vectors))
    matrix = transpose(pairings(basis.momenta, fields))
    momenta = first.combined(solve_variations(matrix, target))[1]
    found = _velocities(system, unit, momenta)
    return found, _known(solution, np.asarray(moved.status == Status.CONVERGED), found)


def _to_end(
    system: System, start: Points, velocity: Array, tolerance: float
) -> tuple[Unit, Array, FlowResult, GeodesicSolution]:
    """Follow geodesics for unit time."""
    unit = system.unit(start)
    state = _start(system, unit, velocity)
    result = flow_anyhow(system, state[:, :, None], tolerance=tolerance, record=False)
    rate = state[:, 1]
    solution = followed(system, start, velocity, unit, rate, result, tolerance, record=False)
    return unit, state, result, solution


def _velocities(system: System, unit: Unit, momenta: Array) -> Array:
    """Return velocities, ``(n_batch, k, *point_shape)``, of momenta ``(n_batch, k, *shape)``."""
    return _each(lambda each, momentum: system.sharp(each, momentum, each.scale), unit, momenta)
