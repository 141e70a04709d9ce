r"""Paths between two points of the root chart and their energy.

``T(t) = (1-t) T_0 + t T_1 + sum_m c_m phi_m(t)`` with integrated Legendre polynomials ``phi_m``,
whose derivatives are orthonormal on [0, 1], and the energy ``int_0^1 g_T(T', T') / 2 dt`` by Gauss
quadrature. The momentum at an end is the derivative of the minimal energy by that end; since the
energy is stationary, its error is the square of that of the path.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from dln_manifolds.spectral.elementary import Array
from dln_manifolds.spectral.frame import transpose
from dln_manifolds.spectral.hamiltonian import NodalState, nodal_state
from dln_manifolds.spectral.orthogonal import polar
from dln_manifolds.spectral.second_variation import SecondVariation


@dataclass(frozen=True, eq=False)
class PathBasis:
    """Modes of a path and the quadrature nodes of its energy.

    Attributes
    ----------
    nodes, weights : ndarray, shape=[n_nodes]
        Gauss-Legendre rule on [0, 1].
    modes, slopes : ndarray, shape=[n_nodes, n_modes]
        ``phi_m`` and its derivative at the nodes.
    """

    nodes: Array
    weights: Array
    modes: Array
    slopes: Array

    @cached_property
    def weighted_modes(self) -> Array:
        """Modes times quadrature weights."""
        return self.modes * self.weights[:, None]

    @cached_property
    def weighted_slopes(self) -> Array:
        """Slopes times quadrature weights."""
        return self.slopes * self.weights[:, None]


@lru_cache(maxsize=32)
def path_basis(n_modes: int, n_nodes: int) -> PathBasis:
    """Return the basis with the given number of modes and quadrature nodes."""
    x, w = np.polynomial.legendre.leggauss(n_nodes)
    legendre = np.polynomial.legendre.legvander(x, n_modes + 1)
    m = np.arange(1, n_modes + 1)
    root = np.sqrt(2 * m + 1)
    modes = (legendre[:, 2:] - legendre[:, :-2]) / (2 * root)
    return PathBasis((x + 1) / 2, w / 2, modes, legendre[:, 1:-1] * root)


def synthesize(functions: Array, coefficients: Array) -> Array:
    """Values at the nodes of ``sum_m c_m f_m``: (B, M, n, n) -> (B, Q, n, n)."""
    b, _, n, k = coefficients.shape
    return (functions @ coefficients.reshape(b, -1, n * k)).reshape(b, -1, n, k)


def analyze(functions: Array, values: Array) -> Array:
    """Transpose of :func:`synthesize`: (B, Q, n, n) -> (B, M, n, n)."""
    return synthesize(functions.T, values)


class PathState:
    """Energy of a batch of paths with its derivatives by the coefficients.

    Parameters
    ----------
    start, end : ndarray, shape=[n_batch, n, n]
        End points T_0 and T_1.
    coefficients : ndarray, shape=[n_batch, n_modes, n, n]
        Coefficients c.
    basis : PathBasis
        Modes and nodes.
    depth : float
        Depth N >= 1.
    """

    def __init__(
        self, start: Array, end: Array, coefficients: Array, basis: PathBasis, depth: float
    ) -> None:
        self.start, self.end, self.unknowns = start, end, coefficients
        self.basis, self.depth, self.n_nodes = basis, depth, basis.nodes.size
        t = basis.nodes[:, None, None]
        first, last = start[:, None], end[:, None]
        self.roots = (1 - t) * first + t * last + synthesize(basis.modes, coefficients)
        velocity = (last - first) + synthesize(basis.slopes, coefficients)
        self.nodal: NodalState = nodal_state(self.roots, depth, velocity=velocity)
        weights = basis.weights[:, None, None]
        self._momentum = weights * self.nodal.leave(self.nodal.momentum)
        self._force = -weights * self.nodal.leave(self.nodal.gradient)
        self.energy: Array = self.nodal.energy @ basis.weights
        self.gradient: Array = analyze(basis.slopes, self._momentum) + analyze(
            basis.modes, self._force
        )

    def take(self, members: Array) -> PathState:
        """Return some members."""
        return PathState(
            self.start[members], self.end[members], self.unknowns[members], self.basis, self.depth
        )

    def moved(self, step: Array) -> PathState:
        """Return the paths after a step of the coefficients."""
        return PathState(self.start, self.end, self.unknowns + step, self.basis, self.depth)

    def momentum_at_start(self) -> Array:
        """Return the initial momentum: minus the derivative of the energy by T_0."""
        t = self.basis.nodes[:, None, None]
        return np.sum(self._momentum - (1 - t) * self._force, axis=1)

    def quadratic_model(self) -> QuadraticModel:
        """Prepare Hessian products at this path."""
        return QuadraticModel(self.basis, self.nodal, SecondVariation(self.nodal, self.depth))

    def precondition(self, residual: Array) -> Array:
        """Apply the preconditioner of :class:`QuadraticModel`."""
        return _apply_nodal_cometric(self.basis, self.nodal, residual)


@dataclass(frozen=True, eq=False)
class QuadraticModel:
    """Hessian of the energy of a batch of paths, and a preconditioner for it."""

    basis: PathBasis
    nodal: NodalState
    variation: SecondVariation

    def take(self, members: Array) -> QuadraticModel:
        """Return the model of some members."""
        nodal = NodalState(*(value[members] for value in self.nodal))
        return QuadraticModel(self.basis, nodal, self.variation.take(members))

    def product(self, direction: Array) -> Array:
        """Hessian applied to a direction of the coefficients."""
        basis = self.basis
        momentum, force = self.variation.apply(
            synthesize(basis.modes, direction), synthesize(basis.slopes, direction)
        )
        return analyze(basis.weighted_slopes, momentum) + analyze(basis.weighted_modes, force)

    def precondition(self, residual: Array) -> Array:
        """Apply the cometric at the nodes: the inverse of the leading part of the Hessian."""
        return _apply_nodal_cometric(self.basis, self.nodal, residual)


def _apply_nodal_cometric(basis: PathBasis, nodal: NodalState, residual: Array) -> Array:
    return analyze(basis.weighted_slopes, nodal.raise_(synthesize(basis.slopes, residual)))


@dataclass(frozen=True)
class PolarPath:
    r"""The polar path ``((1-t) S_0 + t S_1) O_0 exp(t log(O_0^T O_1))``, which stays in GL(n).

    S and O are the positive and the orthogonal polar factor of both ends. At an angle of exactly pi
    the plane of rotation is not determined by the ends; one is picked.

    Attributes
    ----------
    positive_0, positive_1, orthogonal_0 : ndarray, shape=[n_batch, n, n]
        ``S_0``, ``S_1`` and ``O_0``.
    eigenvectors, angles : ndarray, shape=[n_batch, n, n] and [n_batch, n]
        Of the rotation from ``O_0`` to ``O_1``.
    """

    positive_0: Array
    positive_1: Array
    orthogonal_0: Array
    eigenvectors: Array
    angles: Array

    @classmethod
    def between(cls, start: Array, end: Array) -> PolarPath:
        """Return the path between roots T_0, T_1 whose determinants have the same sign."""
        (positive_0, orthogonal_0), (positive_1, orthogonal_1) = polar(start), polar(end)
        turn = rotation_angles(transpose(orthogonal_0) @ orthogonal_1)
        return cls(positive_0, positive_1, orthogonal_0, *turn)

    def the_other_way(self, pick: Array) -> PolarPath:
        """Return the paths of some members with the plane of largest angle turned backwards."""
        angles = self.angles[pick]
        largest = np.argsort(-np.abs(angles), axis=1)[:, :2]
        turned = np.take_along_axis(angles, largest, axis=1)
        np.put_along_axis(angles, largest, turned - 2 * np.pi * np.sign(turned), axis=1)
        return PolarPath(
            self.positive_0[pick],
            self.positive_1[pick],
            self.orthogonal_0[pick],
            self.eigenvectors[pick],
            angles,
        )

    def velocity(self, times: Array) -> Array:
        """Return the derivative at times, shape ``(n_batch, n_times, n, n)``."""
        t = times[:, None]
        phases = np.exp(1j * t * self.angles[:, None, :])
        conjugate = np.conj(transpose(self.eigenvectors))[:, None]

        def rotate(diagonal: Array) -> Array:
            product = (self.eigenvectors[:, None] * diagonal[..., None, :]) @ conjugate
            return self.orthogonal_0[:, None] @ product.real

        t = t[..., None]
        positive = (1 - t) * self.positive_0[:, None] + t * self.positive_1[:, None]
        return (self.positive_1 - self.positive_0)[:, None] @ rotate(phases) + positive @ rotate(
            1j * self.angles[:, None, :] * phases
        )


def rotation_angles(rotation: Array) -> tuple[Array, Array]:
    """Return unitary eigenvectors and angles in (-pi, pi) of rotation matrices."""
    n = rotation.shape[-1]
    # A small fixed rotation splits the eigenvalue -1, whose plane has no orientation of its own.
    lower = np.tril(np.cos(np.arange(1.0, n * n + 1)).reshape(n, n), -1)
    rotation = rotation + 1e-6 * rotation @ (lower - lower.T)
    # Eigenvectors of the commuting Hermitian matrices (R + R^T)/2 and (R - R^T)/2i, taken from a
    # generic combination of both.
    transposed = transpose(rotation)
    mixed = np.cos(1.0) * (rotation + transposed) / 2 + np.sin(1.0) * (rotation - transposed) / 2j
    eigenvectors = np.linalg.eigh(mixed)[1]
    eigenvalues = np.sum(np.conj(eigenvectors) * (rotation @ eigenvectors), axis=-2)
    return eigenvectors, np.angle(eigenvalues)
