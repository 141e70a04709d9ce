r"""Submanifolds of Euclidean space as systems: geodesics obey ``x'' = II(x', x')``."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from dln_manifolds.geodesics.node_paths import D, NodePaths, NodeSpace
from dln_manifolds.geodesics.system import TIP, Chart, FlowResult, Points, System, Unit
from dln_manifolds.geometry.bounds import Bounds
from dln_manifolds.geometry.reduction import Reduction
from dln_manifolds.geometry.scaling import Cone
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import size_of, weigh
from dln_manifolds.numerics.polynomials import (
    combine,
    gauss,
    slopes_at_gauss,
)

# Nodes of the first paths whose lengths are bounds, and fewer to compare with.
_NODES, _FEWER_NODES = 24, 17
_ROUNDING = 1e-14


class Submanifold(System, NodeSpace[D]):
    """A submanifold of Euclidean space as a system: states (x, v), tangent covectors.

    A subclass adds ``goal``, ``core``, the flows (``rates``, ``project``, ``linearized``,
    ``parallel``: ``v' = II(v, v)``, ``u' = II(v, u)``), and what is abstract here.
    """

    reach = 0.0
    cautious = False

    @property
    def depth(self) -> float:
        """One where there is no network."""
        return 1.0

    @property
    def tip(self) -> float:
        """On straight lines nothing happens near zero."""
        return 0.0 if self.straight else TIP

    @property
    def straight(self) -> bool:
        """Whether the submanifold is flat; not in general."""
        return False

    @property
    def core_rank(self) -> int | None:
        """None: cores are invertible."""
        return None

    def narrowed(
        self, start: Points, *, vectors: Array | None = None, end: Points | None = None
    ) -> tuple[System, Reduction] | None:
        """Return None: there is no narrower system."""
        return None

    @abstractmethod
    def tangent_basis(self, frame: D) -> Array:
        """Return an orthonormal basis of the tangent space, shape ``(..., dim, *shape)``."""

    def unit(self, points: Points) -> Unit:
        """Scale points to a Frobenius norm of one."""
        size = size_of(points.value)
        return Unit(weigh(1 / size, points.value), size)

    def at(self, position: Array, scale: Array) -> Unit:
        """Return positions."""
        return Unit(position, scale)

    def point(self, unit: Unit) -> Array:
        """Return points."""
        return weigh(unit.scale, unit.position)

    def flat(self, unit: Unit, velocity: Array) -> Array:
        """Return velocities divided by the scale."""
        return weigh(1 / unit.scale, velocity)

    def sharp(self, unit: Unit, rate: Array, scale: Array) -> Array:
        """Return velocities."""
        return weigh(scale, rate)

    def speed(self, unit: Unit, rate: Array) -> Array:
        """Return Frobenius norms."""
        return size_of(rate)

    def lower_bound(self, first: Unit, last: Unit) -> Array:
        """Return the length of the chord in the ambient space."""
        common = np.maximum(first.scale, last.scale)
        start, end = (weigh(unit.scale / common, unit.position) for unit in (first, last))
        return common * size_of(end - start)

    def bounds(self, first: Points, last: Points) -> Bounds:
        """Return the chord, and the length of the first path, by the cone law from its angle.

        By Gauss' rule, rounded up by the difference from a smaller rule, and by what the path
        misses its end.
        """
        start, end = self.unit(first), self.unit(last)
        ends = start.position, end.position
        angle, other = (self._first_angle(*ends, n_nodes) for n_nodes in (_NODES, _FEWER_NODES))
        missed = size_of(self.first_path(*ends, np.ones(1))[:, 0] - end.position)
        angle = np.minimum(angle + np.abs(angle - other) + 2 * missed + _ROUNDING, np.pi)
        upper = Cone(start.scale, end.scale).length(2 * np.sin(angle / 2))
        return Bounds(self.lower_bound(start, end) * (1 - _ROUNDING), upper * (1 + _ROUNDING))

    def _first_angle(self, start: Array, end: Array, n_nodes: int) -> Array:
        """Return the angle of first paths as seen from the tip of the cone."""
        rule, axes = gauss(n_nodes), tuple(range(2, start.ndim + 1))
        points = self.first_path(start, end, rule.nodes)
        points = weigh(1 / np.sqrt(np.sum(points**2, axis=axes)), points)
        slopes = combine(slopes_at_gauss(n_nodes), points)
        return np.sqrt(np.sum(slopes**2, axis=axes)) @ rule.weights

    def closed_form(self, first: Unit, last: Unit) -> tuple[Array, Array]:
        """Return zero where the points are the same, up to scale, and chords where all is flat."""
        if self.straight:
            return last.position - first.position, np.ones(len(first.position), dtype=bool)
        same = first.position == last.position
        return np.zeros_like(first.position), same.all(axis=tuple(range(1, same.ndim)))

    def families(self, first: Unit, last: Unit) -> list[Array]:
        """Return that there is one family."""
        return [np.zeros(len(first.position), dtype=int)]

    def paths(self, family: int, first: Unit, last: Unit, tolerance: float) -> NodePaths[D]:
        """Return polynomial paths through nodes."""
        return NodePaths(self, first.position, last.position)

    @property
    def charts(self) -> tuple[Chart, ...]:
        """Return that there is no other."""
        return (self,)

    def entered(self, state: Array) -> Array:
        """Return the states."""
        return state

    def left(self, result: FlowResult) -> FlowResult:
        """Return the result."""
        return result

    def chart(self, state: Array, rate: Array) -> tuple[Array, Array]:
        """Return positions and velocities."""
        return state[:, 0, 0], rate[:, 0, 0]

    def grown(self, position: Array, growth: Array) -> Array:
        """Return multiples."""
        return weigh(growth, position)

    def radial(self, unit: Unit, pace: Array) -> Array:
        """Return multiples of the positions."""
        return weigh(pace, unit.position)

    def length(self, scale: Array, speed: Array) -> Array:
        """Return the products."""
        return scale * speed

    def cone(self, first: Unit, last: Unit) -> Cone:
        """Return the cone law between points of these scales."""
        return Cone(first.scale, last.scale)

    def gap(self, position: Array, other: Array) -> Array:
        """Return the difference."""
        return position - other

    def rescaled(self, state: Array, before: Array, after: Array) -> Array:
        """Return multiples."""
        return weigh(before / after, state)

    def length_factor(self, scale: Array) -> Array:
        """Return the scale."""
        return scale

    def covector(self, unit: Unit, gradient: Array) -> Array:
        """Return tangent parts."""
        return self.tangent_part(self.frame(unit.position), gradient)

    def gradient(self, unit: Unit, covector: Array) -> Array:
        """Return the tangent vectors."""
        return covector

    def covector_basis(self, unit: Unit) -> Array:
        """Return an orthonormal basis of the tangent space."""
        return self.tangent_basis(self.frame(unit.position))

    def vector(self, unit: Unit, covector: Array) -> Array:
        """Return the tangent vectors."""
        return covector

    def momentum(self, unit: Unit, vector: Array) -> Array:
        """Return the tangent vectors."""
        return vector

    def gauged(self, state: Array, field: Array, change: Array) -> tuple[Array, Array]:
        """Return the variations."""
        return field, change

    def covariant(self, unit: Unit, rate: Array, field: Array, change: Array) -> Array:
        """Return the tangent part of dv."""
        return self.tangent_part(self.frame(unit.position), change)

    def held(self, unit: Unit, rate: Array, field: Array) -> Array:
        """Return zero: vectors are taken along parallel, projected where the point moves."""
        return np.zeros_like(field)

    def curved(self, unit: Unit, rate: Array, gradient: Array) -> Array:
        """Return the Weingarten map of the normal part."""
        frame = self.frame(unit.position)
        return -self.tangent_part(frame, self.bent(rate, self.shape(frame, gradient)))
