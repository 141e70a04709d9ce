"""From a cost with exact derivatives to a pymanopt problem."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pymanopt

from dln_manifolds.checks import as_array
from dln_manifolds.costs.base import Cost, Domain
from dln_manifolds.costs.layers import OfLayers
from dln_manifolds.errors import (
    ConvergenceError,
    DisconnectedPointsError,
    IncompleteGeodesicError,
    InvalidPointError,
)
from dln_manifolds.manifolds.pymanopt_balanced import BalancedOptimization
from dln_manifolds.manifolds.pymanopt_half import NetworkOptimization, refused
from dln_manifolds.numerics.arrays import Array

if TYPE_CHECKING:
    from pymanopt.manifolds.manifold import Manifold
    from pymanopt.optimizers.optimizer import OptimizerResult


# How far above what was accepted costs of trials are not worked out.
_FAR = 1e3


class _Derivatives(NamedTuple):
    """Functions that are to be the derivatives of a problem."""

    gradient: Callable[[Array], Array]
    hessian: Callable[[Array, Array], Array]


def pymanopt_problem(manifold: Manifold, cost: Cost, **options: object) -> pymanopt.Problem:
    """Return the problem of minimizing a cost, with exact gradient and Hessian.

    By the numpy decorator: nothing is differentiated automatically. Where a solver has left the
    domain of the cost, a trial point that is not finite or to which a geodesic of the cost leads
    nowhere, the cost is infinite: such trials are refused. Trials whose rigorous lower bound is a
    thousand times what the solver has accepted are refused by that, without geodesics.

    The points of the ``manifold`` are arrays that the ``cost`` takes: X, or layers W for
    `OfLayers`, which is told the widths if they are unequal. It need not be of this package:
    ``Euclidean(N, n, n)`` trains the factors freely, and so does ``Euclidean(k)`` with the number
    of entries of layers of unequal widths.
    The ``options`` are further arguments of ``pymanopt.Problem``, such as a preconditioner.

    Raises `TypeError` if the cost is none, or is one of layers where points are matrices, or the
    other way round, and `ValueError` if it is about matrices of another size or rank or networks of
    another depth or other hidden widths. On manifolds of other packages that is noticed at the
    first point, as far as its shape tells, not here.

    Examples
    --------
    >>> import numpy as np
    >>> from pymanopt.optimizers import TrustRegions
    >>> from dln_manifolds import BalancedManifold, PointRecorder, costs, pymanopt_problem
    >>> total, recorder = BalancedManifold(n=2, depth=3), PointRecorder()
    >>> loss = costs.OfLayers(costs.MatrixCompletion([[2.0, 0.0], [0.5, 1.0]], np.ones((2, 2))))
    >>> problem = pymanopt_problem(total, loss, preconditioner=recorder)
    >>> result = TrustRegions(verbosity=0).run(problem, initial_point=total.factor(np.eye(2)))
    >>> path = recorder.path(result)  # shape (n_points, 3, 2, 2), from the start to the result
    >>> bool(result.cost < 1e-10 < loss(path)[0])
    True
    """
    if not isinstance(cost, Cost):
        raise TypeError(
            f"cost must be a dln_manifolds.costs.Cost, not {type(cost).__name__}: a function alone "
            f"has no derivatives here. Decorate it by pymanopt.function and use pymanopt.Problem."
        )
    domain = cost.domain
    if isinstance(manifold, NetworkOptimization):
        of_layers = isinstance(manifold, BalancedOptimization)
        points = Domain.of_network(of_layers, manifold.stratum)
        domain = domain.agree(points, "The cost", "the manifold is")

    kind, of_cost = "euclidean", _Derivatives(cost.euclidean_gradient, cost.euclidean_hessian)
    if (
        isinstance(manifold, BalancedOptimization)
        and manifold.stratum.is_square
        and manifold.stratum.chain.is_uniform
        and isinstance(cost, OfLayers)
    ):
        # Beside cores, products in the frames save nothing.
        kind, of_cost = "riemannian", _inside_the_frames(manifold, cost)

    trials = _Trials(cost)

    # Plain functions, as the decorator sets attributes of what it decorates.
    def value(point: Array) -> float:
        return _value(trials, domain, as_array(point, "point"))

    def gradient(point: Array) -> Array:
        found = of_cost.gradient(point)
        trials.accept(np.asarray(point))
        return found

    def hessian(point: Array, tangent_vector: Array) -> Array:
        return tangent_vector if refused(tangent_vector) else of_cost.hessian(point, tangent_vector)

    plain = pymanopt.function.numpy(manifold)
    derivatives = {f"{kind}_gradient": plain(gradient), f"{kind}_hessian": plain(hessian)}
    return pymanopt.Problem(manifold, plain(value), **derivatives, **options)


class _Trials:
    """The cost as solvers see it: trials far above all that they accepted are not worked out.

    Accepted is where a gradient was asked for. Where the rigorous lower bound of the cost is more
    than `_FAR` times the largest value there, it stands for the cost: a line search or a trust
    region refuses either. What is not refused has its exact value, so nothing else changes; a
    new run that starts far out begins with the bound, and has exact values from its first step on.
    """

    def __init__(self, cost: Cost) -> None:
        self._cost, self._largest = cost, 0.0

    def __call__(self, point: Array) -> Array:
        if self._largest > 0:
            bound = self._cost.lower_bound(point)
            if bound > _FAR * self._largest:
                return np.asarray(bound)
        return self._cost(point)

    def accept(self, point: Array) -> None:
        """Remember the value at a point where the gradient is known."""
        if self._cost.lower_bound(point) >= 0:
            self._largest = max(self._largest, float(self._cost(point)))


def _value(cost: Callable[[Array], Array], domain: Domain, point: Array) -> float:
    """Return the cost at a point, infinite where a solver has left the domain of the cost."""
    domain.agree(Domain.of_shape(point.shape), "The problem", f"a point of shape {point.shape} is")
    try:
        found = np.asarray(cost(point))
    except (ConvergenceError, DisconnectedPointsError, IncompleteGeodesicError):
        return np.inf  # its derivatives tell why, if a solver starts here
    except np.linalg.LinAlgError:
        if np.isfinite(point).all():
            raise
        return np.inf
    if found.ndim:
        shapes = f"shape {found.shape} at a point of shape {point.shape}"
        raise ValueError(f"The cost has {shapes}: one number is needed.")
    if isnan(found) and np.isfinite(point).all():
        raise InvalidPointError(
            "The cost is NaN at a finite point; solvers would take that for an improvement. "
            "Let the cost be infinite outside its domain."
        )
    return np.inf if isnan(found) else np.float64(found)


def _inside_the_frames(manifold: BalancedOptimization, cost: OfLayers) -> _Derivatives:
    """Return gradient and Hessian at balanced layers, where the products of layers are diagonal."""

    def gradient(point: Array) -> Array:
        point = as_array(point, "point")
        found = cost.riemannian_gradient(point, manifold.tangent_space(point))
        return manifold._derivative(found, "gradient of the cost")

    def hessian(point: Array, tangent_vector: Array) -> Array:
        point = as_array(point, "point")
        return cost.riemannian_hessian(point, manifold.tangent_space(point), tangent_vector)

    return _Derivatives(gradient, hessian)


class PointRecorder:
    """Note the points that a solver visits; pymanopt's TrustRegions keeps no log.

    Pass it as ``preconditioner`` of the problem: it changes no vector, and TrustRegions and
    ConjugateGradient call it at every point they move to. `pymanopt_problem` has an example.
    """

    def __init__(self) -> None:
        self._points: list[Array] = []
        self._latest: Array | None = None

    def __call__(self, point: Array, vector: Array) -> Array:
        """Return the vector."""
        if point is not self._latest:
            self._latest = point
            self._points.append(np.array(point))
        return vector

    def path(self, result: OptimizerResult) -> Array:
        """Return all points up to that of an optimization result, along the first axis."""
        last, known = np.asarray(result.point), self._points
        ended = bool(known) and np.array_equal(known[-1], last)
        return np.stack(known if ended else [*known, last])
