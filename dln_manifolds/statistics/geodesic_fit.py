"""Fits of a geodesic to points with covariates: residuals, gradient, steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from dln_manifolds.geodesics import (
    FailurePolicy,
    Points,
    System,
    exp_adjoints,
    parallel_transport,
    solve_exp,
)
from dln_manifolds.geometry.stratum import Stratum
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.statistics.passes import (
    FAILED,
    ROUNDING,
    Pair,
    Space,
    at_point,
    direction,
    passed,
    size_at,
    solved_log,
)

_RAISES = FailurePolicy("raise")
# Tolerance of vectors that are carried along.
_CARRIED = 1e-6
# Steps that are halved until the loss falls by this share of what the gradient tells; changes of
# the loss, relative to it, that rounding may hide, so that the gradient decides.
_MAX_HALVINGS, _DESCENT, _LEVEL = 20, 1e-4, 1e-9
_MEMORY = 10


@dataclass(frozen=True, eq=False)
class Fit:
    """A geodesic: a point and vectors there, with the logs of targets at their predictions.

    ``variance`` is the mean squared residual, ``farthest`` the largest residual, and ``noise`` what
    rounding makes of gradients. ``ascent`` is minus the gradient, by the point and by the vectors.
    """

    base: Points
    coefficients: Array
    velocities: Array
    errors: Array
    variance: float
    farthest: float
    noise: float
    ascent: Array
    norm: float = np.inf

    @property
    def point(self) -> Array:
        """The point."""
        return np.asarray(self.base.value[0])

    def goal(self, tolerance: float) -> float:
        """Return the length of a gradient that counts as none."""
        return tolerance * float(np.sqrt(self.variance)) + self.noise


@dataclass(frozen=True, eq=False)
class Problem:
    """Targets with weights, of sum one, and covariates, whose weighted second moments are one."""

    space: Space
    targets: Points
    covariates: Array
    weights: Array
    n_jobs: int

    @cached_property
    def design(self) -> Array:
        """One and the covariates, times weights, ``(n_samples, 1 + k)``."""
        columns = np.concatenate([np.ones((len(self.weights), 1)), self.covariates], axis=1)
        return np.asarray(self.weights[:, None] * columns)

    def evaluated(self, point: Array, coefficients: Array) -> Fit:
        """Return the fit of a point and vectors, without its gradient."""
        space, base = self.space, at_point(self.space, point)
        velocities = np.tensordot(self.covariates, coefficients, 1)
        known = space.stratum, space.metric.system, space.metric.tolerance, base

        def block(rows: Array) -> tuple[object, ...]:
            return *known, velocities[rows], self.targets.take(rows)

        parts = passed(_residuals, block, velocities.shape, self.n_jobs)
        errors, lengths, residuals = map(np.concatenate, zip(*parts, strict=True))
        noise = (ROUNDING + float(self.weights @ residuals)) * size_at(base.frame)
        variance, farthest = float(self.weights @ lengths**2), float(lengths.max())
        return Fit(base, coefficients, velocities, errors, variance, farthest, noise, errors[:0])

    def graded(self, fit: Fit, tolerance: float) -> Fit:
        """Return a fit with its gradient, whose Jacobi fields are followed to a tolerance."""
        known = self.space.metric.system, tolerance, fit.base

        def block(rows: Array) -> tuple[object, ...]:
            return *known, fit.velocities[rows], fit.errors[rows], self.design[rows]

        parts = passed(_pulled_back, block, fit.errors.shape, self.n_jobs)
        ascent = np.sum(np.stack(parts), axis=0)
        square = self.product(ascent, ascent, fit.point)
        return replace(fit, ascent=ascent, norm=float(np.sqrt(max(square, 0.0))))

    def stepped(self, fit: Fit, step: Array, vectors: Array) -> tuple[Fit, Array]:
        """Return the fit after a step of point and vectors, and further vectors carried along."""
        space, moved = self.space, np.concatenate([fit.coefficients + step[1:], vectors])
        system, along = space.metric.system, step[:1]
        solution = solve_exp(
            system, fit.base, along, tolerance=space.metric.tolerance, record=False
        )
        point = _RAISES.resolve(solution, solution.end_point)[0]
        carried, solution = parallel_transport(
            system, fit.base, along, moved[None], tolerance=_CARRIED
        )
        carried = _RAISES.resolve(solution, carried)[0]
        carried = space.stratum.tangent_part(space.stratum.frame(point), carried)
        n_coefficients = len(fit.coefficients)
        return self.evaluated(point, carried[:n_coefficients]), carried[n_coefficients:]

    def started(self, fit: Fit, step: Array) -> Fit:
        """Return the fit after a first step, so short that its geodesics exist."""
        for _ in range(_MAX_HALVINGS):
            try:
                return self.stepped(fit, step, step[:0])[0]
            except FAILED:
                step = 0.5 * step
        return fit

    def moved(self, fit: Fit, memory: list[Pair], tolerance: float) -> Fit | None:
        """Return the fit after the next step, or None; keep what it tells of the Hessian."""
        step = direction(self.space, fit.point, fit.ascent, memory)
        known = [vectors for pair in memory for vectors in pair]
        for _ in range(_MAX_HALVINGS):
            try:
                after, carried = self.stepped(fit, step, np.concatenate([step, fit.ascent, *known]))
                slope = self.product(fit.ascent, step, fit.point)
                change = after.variance - fit.variance
                falls = change <= -2 * _DESCENT * slope
                level = change <= _LEVEL * fit.variance + fit.noise**2
                if falls or level:
                    after = self.graded(after, tolerance)
                if falls or (level and after.norm < fit.norm):
                    stacks = carried.reshape(-1, *step.shape)
                    pairs = [Pair(*stacks[k : k + 2]) for k in range(2, len(stacks), 2)]
                    pair = Pair(stacks[0], stacks[1] - after.ascent)
                    if self.product(pair.step, pair.change, after.point) > 0:
                        pairs.append(pair)
                    memory[:] = pairs[-_MEMORY:]
                    return after
            except FAILED:
                pass
            step = 0.5 * step
        return None

    def product(self, first: Array, last: Array, point: Array) -> float:
        """Return the inner product of lists of vectors at a point."""
        return float(np.sum(self.space.metric.inner_product(first, last, point)))


def _residuals(
    stratum: Stratum,
    system: System,
    tolerance: float,
    base: Points,
    velocities: Array,
    targets: Points,
) -> tuple[Array, Array, Array]:
    """Return the logs of targets at the ends of geodesics, their lengths and residuals."""
    start = base.take(np.zeros(len(velocities), dtype=int))
    solution = solve_exp(system, start, velocities, tolerance=tolerance, record=False)
    point = _RAISES.resolve(solution, solution.end_point)
    prediction = Points(point, stratum.frame(point))
    solution = solved_log(system, prediction, targets, tolerance)
    return solution.initial_velocity, solution.length, solution.residual


def _pulled_back(
    system: System, tolerance: float, base: Points, velocities: Array, errors: Array, design: Array
) -> Array:
    """Return what a block of samples contributes to minus the gradient."""
    start = base.take(np.zeros(len(velocities), dtype=int))
    by_point, by_vector, solution = exp_adjoints(
        system, start, velocities, errors[:, None], tolerance=tolerance
    )
    _RAISES.resolve(solution, by_vector)
    parts = ((design[:, :1], by_point), (design[:, 1:], by_vector))
    return np.concatenate([np.tensordot(part.T, pulled[:, 0], 1) for part, pulled in parts])
