"""Minimization of the energy of paths by Newton's method with truncated conjugate gradients.

A direction of negative curvature ends the inner iteration, and every step must decrease the energy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np

from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import inner, weigh

_MAX_INNER, _MAX_HALVINGS = 200, 25
# Share of members still iterating below which the finished ones are dropped.
_KEEP = 0.8
# Below these slopes, relative to the length of the path and to the size of its ends, a Newton step
# that does not halve them has met the rounding of the gradient.
_ROUNDING, _ROUNDING_OF_ENDS = 1e-8, 1e-13
# Slope above which a path that no part of a Newton step improves is given up.
_HOPELESS = 1e-4
# What a Newton step leaves of the slope of large paths, in units of its square: 10 to 100. To solve
# for it more exactly is in vain. Small ones are solved to one: on plateaus exact steps see sooner
# where it goes down, and others have ended in longer geodesics.
_BENT, _BENT_MANY = 1.0, 20.0
# One path with so many unknowns keeps, from this slope on, what its solves find of the Hessian: of
# at most so many bytes of residuals, the directions with eigenvalues below, and so many of them.
_MANY, _NEAR, _REMEMBERED = 4096, 1e-2, 2**27
_FLAT, _MOST_FLAT = 0.3, 24
# Bytes of an array that is freed unused: glibc keeps memory that was freed from then on, up to
# twice as much, where it would return it, and every array begin with page faults.
_KEPT = 2**23
np.empty(_KEPT, dtype=np.uint8)


class Model(Protocol):
    """Quadratic model of an energy: its Hessian and a preconditioner."""

    def take(self, members: Array) -> Self:
        """Return the model of some members."""

    def product(self, direction: Array) -> Array:
        """Apply the Hessian."""

    def precondition(self, residual: Array) -> Array:
        """Apply an approximate inverse of the Hessian."""


class Path(Protocol):
    """A batch of paths with their energy, as functions of what is varied."""

    @property
    def unknowns(self) -> Array:
        """What is varied, ``(n_batch, ...)``."""

    @property
    def energy(self) -> Array:
        """Energies, infinite where paths are not allowed."""

    @property
    def gradient(self) -> Array:
        """Their gradients."""

    @property
    def n_nodes(self) -> int:
        """Number of nodes of each path."""

    def take(self, members: Array) -> Self:
        """Return some members."""

    def moved(self, step: Array) -> Self:
        """Return the paths after a step of the unknowns."""

    def precondition(self, residual: Array) -> Array:
        """Apply an approximate inverse of the Hessian."""

    def quadratic_model(self) -> Model:
        """Prepare Hessian products."""


AnyPath = TypeVar("AnyPath", bound=Path)


@dataclass
class Minimum:
    """Paths of (nearly) least energy; ``slope`` is the gradient's dual norm by the length.

    ``n_products`` counts products with the Hessian at a node, beside evaluations of the energy.
    """

    energy: Array
    slope: Array
    n_iterations: Array
    n_evaluations: Array
    n_products: Array


class _Flat:
    """Directions in which the preconditioned Hessian H of one path is small, from its last solves.

    Conjugate gradients are Lanczos' method: they find vectors w of ``P H w = theta w``, orthonormal
    in the inverse of the preconditioner P. ``P + sum (1 / theta - 1) w w^T`` has theta moved to
    one, and no other eigenvalue above the largest plus one, however inexact they are.
    """

    def __init__(self, size: int) -> None:
        self.vectors, self.factors = np.empty((0, size), np.float32), np.empty(0, np.float32)
        self.most = max(1, _REMEMBERED // (4 * size))
        self.forget()

    def forget(self) -> None:
        """Begin a new solve."""
        self._basis, self._steps = list[Array](), list[tuple[float, float]]()

    def improve(self, residual: Array, z: Array) -> Array:
        """Return what the preconditioner has made of a residual with what is known added."""
        if len(self.factors) == 0:
            return z
        inside = self.vectors @ residual.reshape(-1).astype(np.float32)
        return z + ((self.factors * inside) @ self.vectors).reshape(z.shape)

    def note(self, z: Array, rho: Array, alpha: Array, beta: Array) -> None:
        """Note a step of conjugate gradients, from the residual z of the last."""
        if len(self._basis) < self.most:
            self._basis.append((z.reshape(-1) / np.sqrt(rho)).astype(np.float32))
            self._steps.append((float(alpha[0]), float(beta[0])))

    def learn(self) -> None:
        """Add the directions that the solve has found."""
        if len(self._basis) < 2:
            return
        alpha, beta = np.array(self._steps).T
        beside = -np.sqrt(beta[:-1]) / alpha[:-1]
        along = 1 / alpha
        along[1:] += beta[:-1] / alpha[:-1]
        values, axes = np.linalg.eigh(np.diag(along) + np.diag(beside, 1) + np.diag(beside, -1))
        low = (values < _FLAT) & (values > 0)
        fresh = axes[:, low].T.astype(np.float32) @ np.stack(self._basis)
        self.vectors = np.concatenate([fresh, self.vectors])[:_MOST_FLAT]
        factors = (1 / values[low] - 1).astype(np.float32)
        self.factors = np.concatenate([factors, self.factors])[:_MOST_FLAT]


def _newton_direction(
    path: Path, first: Array, goal: Array, flat: _Flat | None
) -> tuple[Array, Array]:
    """Solve ``Hessian s = -gradient`` by conjugate gradients, residuals reduced to ``goal``.

    Returns how many products each member has taken, too.
    """
    model = path.quadratic_model()
    part, solution, rows = np.zeros_like(first), None, np.arange(len(first))
    count_of = np.zeros(len(first), dtype=int)
    residual, z = -path.gradient, -first
    if flat is not None:
        flat.forget()
        z = flat.improve(residual, z)
    direction, rho = z, inner(residual, z)
    stop, running = goal**2 * rho, rho > 0
    for iteration in range(_MAX_INNER):
        image = model.product(direction)
        count_of[rows[running]] += 1
        curvature = inner(direction, image)
        convex = running & (curvature > 0)
        alpha = np.divide(rho, curvature, out=np.zeros_like(rho), where=convex)
        if iteration == 0:
            # Steepest descent is the fallback where the energy is not convex along it.
            alpha[running & ~convex] = 1.0
        part += weigh(alpha, direction)
        residual -= weigh(alpha, image)
        last, z = z, model.precondition(residual)
        if flat is not None:
            z = flat.improve(residual, z)
        fresh = inner(residual, z)
        if flat is not None and convex.all():
            flat.note(last, rho, alpha, fresh / rho)
        running = convex & (fresh > stop)
        count = np.count_nonzero(running)
        if count == 0:
            break
        beta = np.divide(fresh, rho, out=np.zeros_like(rho), where=running)
        direction = z + weigh(beta, direction)
        rho = fresh
        if count < _KEEP * len(rows):
            if solution is None:
                solution = np.empty_like(part)
            solution[rows] = part
            model, rows, stop, part = (
                model.take(running),
                rows[running],
                stop[running],
                part[running],
            )
            residual, direction, rho = residual[running], direction[running], rho[running]
            running = running[running]
    if solution is None:
        return part, count_of
    solution[rows] = part
    return solution, count_of


def minimize(
    path: AnyPath,
    *,
    tolerance: float,
    max_iterations: int = 60,
    rough: float = 0.0,
    most: Array | float = np.inf,
    worthwhile: Callable[[Array, AnyPath, Array], Array] | None = None,
    finished: Callable[[Array, AnyPath, Array], None] | None = None,
) -> Minimum:
    """Minimize the energy of paths whose ends have size one; see the ``slope`` for convergence.

    A member is done when its slope is at most the tolerance, and given up after the ``most``
    evaluations and products at nodes, or if its energy is infinite. At ``rough`` it is asked
    whether members are ``worthwhile`` to go on with. That and ``finished``, for members that are
    done, are called with indices, the current paths, and the mask of these members among them.
    """
    n_batch = len(path.unknowns)
    energy, slope = np.empty((2, n_batch))
    steps, evaluations = np.zeros(n_batch, dtype=int), np.full(n_batch, path.n_nodes)
    products, most = np.zeros(n_batch, dtype=int), np.broadcast_to(most, n_batch)
    result = Minimum(energy, slope, steps, evaluations, products)
    active, last_slope = np.arange(n_batch), np.full(n_batch, np.inf)
    flat: _Flat | None = None
    for iteration in range(max_iterations + 1):
        first = path.precondition(path.gradient)
        absolute = np.sqrt(np.maximum(inner(path.gradient, first), 0))
        slope = absolute / np.sqrt(np.where(path.energy > 0, 2 * path.energy, 1.0))
        small = (slope < _ROUNDING) | (absolute < _ROUNDING_OF_ENDS)
        stuck = small & (slope > 0.5 * last_slope)
        keep = (slope > tolerance) & ~stuck & (iteration < max_iterations)
        keep &= np.isfinite(path.energy) & (last_slope > 0)
        keep &= (evaluations + products)[active] <= most[active]
        asked = keep & (slope <= rough)
        if worthwhile is not None and asked.any():
            keep[asked] = worthwhile(active[asked], path, asked)
        if not keep.all():
            done, rows = ~keep, active[~keep]
            result.energy[rows], result.slope[rows] = path.energy[done], slope[done]
            if finished is not None:
                finished(rows, path, done)
            if not keep.any():
                break
            active, first, slope, path = active[keep], first[keep], slope[keep], path.take(keep)
        many = first.size >= _MANY * len(first) > 0
        bent = (_BENT_MANY if many else _BENT) * slope
        goal = np.maximum(np.minimum(0.1, bent), 0.3 * tolerance / slope)
        if flat is None and len(active) == 1 and many and slope[0] <= _NEAR:
            flat = _Flat(first.size)
        move, count = _newton_direction(path, first, goal, flat)
        products[active] += count * path.n_nodes
        if flat is not None:
            flat.learn()
        result.n_iterations[active] += 1
        trial = path.moved(move)
        result.n_evaluations[active] += path.n_nodes
        # Near the minimum the decrease drowns in the rounding of the energy itself.
        descent, slack = inner(path.gradient, move), 1e-13 * path.energy
        factor = np.ones(len(active))
        for halvings in range(_MAX_HALVINGS + 1):
            failed = ~(trial.energy <= path.energy + 1e-4 * factor * descent + slack)
            failed |= ~np.isfinite(trial.energy)
            if halvings == _MAX_HALVINGS or not failed.any():
                break
            factor = np.where(failed, 0.5 * factor, factor)
            trial = path.moved(weigh(factor, move))
            result.n_evaluations[active] += path.n_nodes
        # What no part of a step improves is given up, if it is not the rounding of energies.
        path, last_slope = trial, np.where(failed & (slope > _HOPELESS), 0.0, slope)
    return result
