r"""Derivatives of exp, log and the squared distance, by variations that are followed backwards.

The flow of geodesics keeps a form on its variations: the symplectic form of a Hamiltonian flow,
``<dx, mu> - <xi, dp>``; for Jacobi fields of a submanifold ``<J, I'> - <J', I>``. With the
variation ``(xi, mu)`` that ends in ``(0, c)``,

.. math:: \langle c, dx(1) \rangle = \langle dx(0), \mu(0) \rangle - \langle \xi(0), dp(0) \rangle,

so one backward variation is the adjoint of the differential of exp, and as many as there are
dimensions, in one batch, are the matrix that the implicit function theorem inverts for log. Rates
are differentiated covariantly at the start, which makes results independent of the chart.
"""

import numpy as np

from dln_manifolds.errors import ConjugatePointsError
from dln_manifolds.geodesics.integrate import flow
from dln_manifolds.geodesics.solution import GeodesicSolution
from dln_manifolds.geodesics.system import Status, System, Unit
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import weigh

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
    first, rate, last, end = _ends(solution, members)
    covectors = system.covector(last, cotangent)[:, None]
    fields, changes = _backwards(system, end, covectors, solution.tolerance)
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
    first, rate, last, end = _ends(solution, members)
    target = -system.vector(first, system.covector(first, cotangent))
    basis = system.covector_basis(last)
    fields, changes = _backwards(system, end, basis, solution.tolerance)
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
) -> tuple[Array, Array]:
    """Follow variations that end in ``(0, c)`` back to the start of geodesics of unit time.

    ``end`` are the states at their end, ``(n_batch, 2, 1, *shape)``, and ``covectors`` have the
    shape ``(n_batch, k, *shape)``, as both results: vectors and changes of covectors as the system
    sees them, NaN where the integrator stalled.
    """
    n_batch, k = covectors.shape[:2]
    state = np.zeros((n_batch, 2, 1 + k, *end.shape[3:]))
    size = np.sqrt(np.sum(covectors.reshape(n_batch, -1) ** 2, axis=1))
    size[size == 0] = 1.0
    # Reversing time turns the signs of rates.
    state[:, 0, 0], state[:, 1, 0] = end[:, 0, 0], -end[:, 1, 0]
    state[:, 1, 1:] = weigh(-1 / size, covectors)
    result = flow(system.linearized, state, np.ones(n_batch), tolerance=tolerance)
    final = result.state
    final[:, 1] *= -1
    fields, changes = system.gauged(final[:, :, 0], final[:, 0, 1:], final[:, 1, 1:])
    size[result.status != Status.CONVERGED] = np.nan
    return weigh(size, fields), weigh(size, changes)


def solve_variations(variations: Array, target: Array) -> Array:
    """Return the coordinates of vectors in the span of variations, shape ``(n_batch, k)``.

    ``variations`` are as many vectors, ``(n_batch, k, *shape)``, as their span has dimensions if
    all is well, and ``target`` vectors in that span. Raises `ConjugatePointsError` if they are
    linearly dependent.
    """
    matrix = np.swapaxes(variations.reshape(*variations.shape[:2], -1), 1, 2)
    left, values, right_t = np.linalg.svd(matrix, full_matrices=False)
    dependent = ~(values[:, -1] * _SINGULAR > values[:, 0])
    if dependent.any():
        raise ConjugatePointsError(
            f"Batch member {int(np.argmax(dependent))}: the end points are conjugate along their "
            f"geodesic, where log has no derivative. Move one of them."
        )
    inner = np.einsum("bik,bi->bk", left, target.reshape(len(target), -1)) / values
    return np.einsum("bki,bk->bi", right_t, inner)
