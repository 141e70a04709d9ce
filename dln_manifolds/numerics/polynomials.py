"""Polynomials on [0, 1]: Gauss rules, Legendre series, and bases for curves between two points."""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from dln_manifolds.numerics.arrays import Array

_legendre = np.polynomial.legendre


class Rule(NamedTuple):
    """A quadrature rule on [0, 1]."""

    nodes: Array
    weights: Array


@lru_cache(maxsize=64)
def gauss(n_nodes: int) -> Rule:
    """Return the Gauss-Legendre rule, exact for polynomials of degree ``2 n - 1``."""
    nodes, weights = _legendre.leggauss(n_nodes)
    return Rule((nodes + 1) / 2, weights / 2)


def legendre(times: Array, degree: int) -> Array:
    """Values of the Legendre polynomials of [0, 1] up to a degree, ``(..., degree + 1)``."""
    return _legendre.legvander(2 * times - 1, degree)


def _legendre_at_gauss(n_nodes: int, degree: int) -> Array:
    """Do as `legendre` at Gauss nodes, whose distance to both ends keeps all its digits."""
    return _legendre.legvander(_legendre.leggauss(n_nodes)[0], degree)


@lru_cache(maxsize=32)
def legendre_analysis(n_nodes: int) -> Array:
    """Return the matrix from values at Gauss nodes to Legendre coefficients."""
    values = _legendre_at_gauss(n_nodes, n_nodes - 1)
    return (2 * np.arange(n_nodes) + 1)[:, None] * (values.T * gauss(n_nodes).weights)


@lru_cache(maxsize=256)
def integrals(n_from: int, n_to: int) -> Array:
    """Return the matrix from values at Gauss nodes to integrals up to ``n_to`` others and to 1."""
    times = np.append(gauss(n_to).nodes, 1.0)
    values = legendre(times, n_from)
    degrees = np.arange(1, n_from)
    primitives = np.empty((n_to + 1, n_from))
    primitives[:, 0] = times
    primitives[:, 1:] = (values[:, 2:] - values[:, :-2]) / (4 * degrees + 2)
    return primitives @ legendre_analysis(n_from)


@lru_cache(maxsize=8)
def slopes_at_gauss(n_nodes: int) -> Array:
    """Return the matrix from values at Gauss nodes to derivatives there, of their polynomial."""
    coefficients = 2 * _legendre.legder(legendre_analysis(n_nodes))
    return np.asarray(_legendre_at_gauss(n_nodes, n_nodes - 2) @ coefficients)


def combine(matrix: Array, values: Array) -> Array:
    """Apply a matrix along the second axis: ``(n_batch, r, ...)`` to ``(n_batch, q, ...)``.

    One matrix ``(q, r)`` for all members, or one for each.
    """
    n_batch, n_values, *shape = values.shape
    flat = values.reshape(n_batch, n_values, math.prod(shape))
    return (matrix @ flat).reshape(n_batch, matrix.shape[-2], *shape)


# Iterates of `propagators` at most, the change of the last that is rounding, and that at which the
# nodes resolve the solution at all.
_MOST_ITERATES, _SETTLED, _CLOSE = 40, 1e-15, 1e-6


def propagators(generators: Array) -> Array:
    """Solve ``Y' = A Y, Y(0) = I`` on [0, 1], given A at Gauss nodes; return Y there and at 1.

    Shapes ``(n_batch, n_nodes, r, r)`` and ``(n_batch, n_nodes + 1, r, r)``. Picard's iteration on
    the polynomials through the nodes converges faster than geometrically; where A is so large that
    it does not, Y is left at the identity.
    """
    n_nodes, identity = generators.shape[1], np.eye(generators.shape[-1])
    weights = integrals(n_nodes, n_nodes)
    inner = np.broadcast_to(identity, generators.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(_MOST_ITERATES):
            moved = identity + combine(weights, generators @ inner)
            change = np.abs(moved[:, :-1] - inner).max(axis=(1, 2, 3), initial=0.0)
            inner = moved[:, :-1]
            if (change <= _SETTLED).all():
                break
    moved[~(change <= _CLOSE)] = identity
    return moved


# Singular values of a fit that count as zero.
_FIT = 1e-6
#: Size of matrices from which steps of minimizations are computed in single precision: below, time
#: goes by the call.
SINGLE_FROM = 8


def single(value: Array) -> Array:
    """Return an array in single precision."""
    return value.astype(np.float32)


@dataclass(frozen=True, eq=False)
class ModalBasis:
    """Integrated Legendre polynomials, zero at both ends, and their orthonormal derivatives.

    Or other modes that are zero there with orthonormal derivatives, those of each path its own:
    then all arrays have one more axis, the first.
    """

    nodes: Array
    weights: Array
    # At the nodes, shape (n_nodes, n_modes).
    modes: Array
    slopes: Array

    @cached_property
    def functions(self) -> Array:
        """Modes and slopes, one below the other: few values cost by the call."""
        return np.concatenate([self.modes, self.slopes], axis=-2)

    @cached_property
    def weighted_functions(self) -> Array:
        """Both times quadrature weights."""
        return self.functions * np.concatenate([self.weights] * 2, axis=-1)[..., None]

    @cached_property
    def interleaved(self) -> Array:
        """Mode and slope of each node, one after the other."""
        return np.stack([self.modes, self.slopes], axis=1).reshape(-1, self.modes.shape[1])

    @cached_property
    def weighted_interleaved(self) -> Array:
        """Both times quadrature weights."""
        return self.interleaved * np.repeat(self.weights, 2)[:, None]

    @cached_property
    def weighted_slopes(self) -> Array:
        """Slopes times quadrature weights."""
        return self.slopes * self.weights[..., None]

    @cached_property
    def single(self) -> "ModalBasis":
        """The same in single precision."""
        return ModalBasis(*map(single, (self.nodes, self.weights, self.modes, self.slopes)))

    def take(self, members: Array) -> "ModalBasis":
        """Return the basis of some members: the same, if there is one for all."""
        if self.nodes.ndim == 1:
            return self
        parts = (self.nodes, self.weights, self.modes, self.slopes)
        return ModalBasis(*(part[members] for part in parts))

    def rounded(self, modes: Array) -> Array:
        """Return coefficients of modes in the precision of the basis."""
        return modes.astype(self.modes.dtype, copy=False)


@lru_cache(maxsize=32)
def modal_basis(n_modes: int, n_nodes: int) -> ModalBasis:
    """Return the basis with the given numbers of modes and quadrature nodes."""
    return ModalBasis(*gauss(n_nodes), *_integrated(_legendre_at_gauss(n_nodes, n_modes + 1)))


def modes_at(times: Array, n_modes: int) -> tuple[Array, Array]:
    """Values and derivatives of modes at times of any shape, ``(*times.shape, n_modes)``."""
    return _integrated(legendre(times, n_modes + 1))


def modes_through(times: Array, values: Array, n_modes: int) -> Array:
    """Fit modes to what values at times, from 0 to 1, differ from the straight line by.

    Shapes ``(n_batch, n_times)`` and ``(n_batch, n_times, ...)``; least squares.
    """
    t = times.reshape(*times.shape, *(1,) * (values.ndim - 2))
    bent = values - (1 - t) * values[:, :1] - t * values[:, -1:]
    return combine(np.linalg.pinv(modes_at(times, n_modes)[0], rcond=_FIT), bent)


def _integrated(values: Array) -> tuple[Array, Array]:
    """Return modes and slopes from values of Legendre polynomials, one degree further."""
    root = np.sqrt(2 * np.arange(1, values.shape[-1] - 1) + 1)
    return (values[..., 2:] - values[..., :-2]) / (2 * root), values[..., 1:-1] * root


@dataclass(frozen=True, eq=False)
class NodalBasis:
    """Polynomials by their values at Gauss-Lobatto nodes, both ends among them.

    ``stiffness`` is ``int L_q' L_r'`` of the Lagrange polynomials and ``compliance`` the inverse of
    its interior part; ``slopes`` and ``bends`` give derivatives at as many Gauss nodes.
    """

    nodes: Array
    barycentric: Array
    stiffness: Array
    compliance: Array
    slopes: Array
    bends: Array

    def interpolate(self, values: Array, times: Array) -> Array:
        """Values at other times of the polynomials through ``(n_batch, n_nodes, ...)`` values."""
        difference = times[:, None] - self.nodes
        hit = difference == 0
        weights = self.barycentric / np.where(hit, 1.0, difference)
        weights = np.where(hit.any(axis=1, keepdims=True), hit, weights)
        return combine(weights / weights.sum(axis=1, keepdims=True), values)


@lru_cache(maxsize=16)
def nodal_basis(n_nodes: int) -> NodalBasis:
    """Return the basis with the given number of nodes."""
    degree = n_nodes - 1
    last = np.eye(n_nodes)[-1]
    inner = np.sort(_legendre.legroots(_legendre.legder(last)).real)
    nodes = np.concatenate([[0.0], (inner + 1) / 2, [1.0]])
    heights = _legendre.legval(2 * nodes - 1, last)
    weights = 1 / (degree * n_nodes * heights**2)
    # Derivatives of the Lagrange polynomials at the nodes, rows summing to zero.
    slopes = heights[:, None] / heights / (nodes[:, None] - nodes + np.eye(n_nodes))
    np.fill_diagonal(slopes, 0.0)
    np.fill_diagonal(slopes, -slopes.sum(axis=1))
    stiffness = slopes.T @ (weights[:, None] * slopes)
    at_gauss = _legendre_at_gauss(n_nodes, degree) @ np.linalg.inv(legendre(nodes, degree))
    first = at_gauss @ slopes
    barycentric, compliance = 1 / heights / degree, np.linalg.inv(stiffness[1:-1, 1:-1])
    return NodalBasis(nodes, barycentric, stiffness, compliance, first, first @ slopes)
