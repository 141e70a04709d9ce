r"""Paths of balanced layers and their energy.

A path is the polynomial through its values at Gauss-Lobatto nodes, every one of them a point of
the manifold. Its energy ``int |W'|^2 / 2`` is then an exact quadratic form ``<W, K W> / 2`` of the
values in the ambient space, and its gradient and Hessian on the manifold follow from tangent
projection and Weingarten map at the nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dln_manifolds.geodesics.fields import Rest
from dln_manifolds.geodesics.root_paths import rotation_angles
from dln_manifolds.geometry.balancing import rebalance
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.sectors import normal_multiplier, normal_vector, tangent_part
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import nearest_orthogonal, prefix_products, transpose


@dataclass(frozen=True, eq=False)
class NodeBasis:
    """Gauss-Lobatto nodes on [0, 1] and the stiffness of the polynomials through them.

    Attributes
    ----------
    nodes, barycentric : ndarray, shape=[n_nodes]
        Nodes, both ends among them, and weights of the barycentric interpolation formula.
    stiffness : ndarray, shape=[n_nodes, n_nodes]
        ``K_qr = int L_q' L_r'``.
    compliance : ndarray, shape=[n_nodes - 2, n_nodes - 2]
        Inverse of its interior part.
    slopes, bends : ndarray, shape=[n_gauss, n_nodes]
        From nodal values to first and second derivatives, by the time in [0, 1], at as many Gauss
        nodes.
    """

    nodes: Array
    barycentric: Array
    stiffness: Array
    compliance: Array
    slopes: Array
    bends: Array

    def interpolate(self, values: Array, times: Array) -> Array:
        """Values at other times of the polynomial through (B, n_nodes, ...) nodal values."""
        difference = times[:, None] - self.nodes
        hit = difference == 0
        weights = self.barycentric / np.where(hit, 1.0, difference)
        weights = np.where(hit.any(axis=1, keepdims=True), hit, weights)
        weights /= weights.sum(axis=1, keepdims=True)
        return np.einsum("tq,bq...->bt...", weights, values)


@lru_cache(maxsize=16)
def node_basis(n_nodes: int) -> NodeBasis:
    """Return the basis with the given number of nodes."""
    degree = n_nodes - 1
    series = np.zeros(n_nodes)
    series[-1] = 1.0
    inner = np.polynomial.legendre.legroots(np.polynomial.legendre.legder(series))
    x = np.concatenate([[-1.0], np.sort(inner.real), [1.0]])
    heights = np.polynomial.legendre.legval(x, series)
    weights = 2 / (degree * n_nodes * heights**2)
    difference = x[:, None] - x + np.eye(n_nodes)
    # Derivative of the Lagrange polynomials at the nodes, rows summing to zero.
    slopes = heights[:, None] / heights / difference
    np.fill_diagonal(slopes, 0.0)
    np.fill_diagonal(slopes, -slopes.sum(axis=1))
    stiffness = 2 * slopes.T @ (weights[:, None] * slopes)
    # On [0, 1] every derivative takes another factor of two.
    gauss = np.polynomial.legendre.leggauss(n_nodes)[0]
    basis = np.polynomial.legendre.legvander(gauss, degree)
    at_gauss = basis @ np.linalg.inv(np.polynomial.legendre.legvander(x, degree))
    first = at_gauss @ slopes
    return NodeBasis(
        (x + 1) / 2,
        1 / heights / degree,
        stiffness,
        np.linalg.inv(stiffness[1:-1, 1:-1]),
        2 * first,
        4 * first @ slopes,
    )


def _mix(matrix: Array, values: Array) -> Array:
    """Apply a matrix along the nodes: (B, R, ...) -> (B, Q, ...)."""
    flat = values.reshape(*values.shape[:2], -1)
    return (matrix @ flat).reshape(len(values), len(matrix), *values.shape[2:])


class NodePath:
    """Energy of a batch of paths with its derivatives by the interior nodes.

    Parameters
    ----------
    start, end : ndarray, shape=[n_batch, N, n, n]
        Balanced end points.
    interior : ndarray, shape=[n_batch, n_nodes - 2, N, n, n]
        Balanced points at the interior nodes.
    basis : NodeBasis
        Nodes.
    """

    def __init__(self, start: Array, end: Array, interior: Array, basis: NodeBasis) -> None:
        self.start, self.end, self.unknowns, self.basis = start, end, interior, basis
        self.n_nodes = basis.nodes.size - 2
        whole = np.concatenate([start[:, None], interior, end[:, None]], axis=1)
        pull = _mix(basis.stiffness, whole)
        self.energy: Array = 0.5 * np.einsum(
            "bi,bi->b", whole.reshape(len(whole), -1), pull.reshape(len(whole), -1)
        )
        self._pull_at_start, self._pull = pull[:, 0], pull[:, 1:-1]
        self._bases = Frame.of_layers(interior)
        self.gradient: Array = tangent_part(self._bases, self._pull)

    def take(self, members: Array) -> NodePath:
        """Return some members."""
        return NodePath(self.start[members], self.end[members], self.unknowns[members], self.basis)

    def moved(self, step: Array) -> NodePath:
        """Return the paths after a step along tangent vectors, back on the manifold."""
        signs = np.linalg.slogdet(self.start)[0][:, None]
        return NodePath(self.start, self.end, rebalance(self.unknowns + step, signs), self.basis)

    def momentum_at_start(self) -> Array:
        """Return minus the derivative of the energy by the start, a tangent vector there."""
        return -tangent_part(Frame.of_layers(self.start), self._pull_at_start)

    @property
    def frame(self) -> Rest:
        """The frame at rest."""
        return Rest()

    def rates(self) -> Array:
        """Return first and second derivatives of the path at Gauss nodes."""
        whole = np.concatenate([self.start[:, None], self.unknowns, self.end[:, None]], axis=1)
        return np.stack([_mix(m, whole) for m in (self.basis.slopes, self.basis.bends)], axis=2)

    def quadratic_model(self) -> NodeModel:
        """Prepare Hessian products at this path."""
        if self._bases.n_layers == 1:
            multiplier = np.zeros((*self._pull.shape[:2], 0, *self._pull.shape[3:]))
        else:
            multiplier = normal_multiplier(self._bases, self._pull)
        return NodeModel(self.basis, self._bases, multiplier)

    def precondition(self, residual: Array) -> Array:
        """Apply the preconditioner of :class:`NodeModel`."""
        return tangent_part(self._bases, _mix(self.basis.compliance, residual))


@dataclass(frozen=True, eq=False)
class NodeModel:
    """Hessian of the energy on the manifold, and a preconditioner for it.

    ``multiplier`` is S with ``W_p S_{p-1} - S_p W_p`` the normal part of the ambient gradient.
    """

    basis: NodeBasis
    frame: Frame
    multiplier: Array

    def take(self, members: Array) -> NodeModel:
        """Return the model of some members."""
        frame = self.frame.take(members)
        return NodeModel(self.basis, frame, self.multiplier[members])

    def product(self, direction: Array) -> Array:
        """Apply the Hessian: ``P(K V - (V_p S_{p-1} - S_p V_p))``."""
        image = _mix(self.basis.stiffness[1:-1, 1:-1], direction)
        return tangent_part(self.frame, image - normal_vector(direction, self.multiplier))

    def precondition(self, residual: Array) -> Array:
        """Apply the inverse of the ambient stiffness between tangent projections."""
        return tangent_part(self.frame, _mix(self.basis.compliance, residual))


def polar_layers(start: Array, end: Array, times: Array) -> Array:
    r"""Balanced path whose layers turn by their polar factors.

    ``W_p = O_p H_{p-1}``, ``H_p = O_p H_{p-1} O_p^T``, with ``H_0`` on a straight line of positive
    matrices and ``O_p`` turning from one polar factor to the other. It never leaves the manifold.

    Parameters
    ----------
    start, end : ndarray, shape=[n_batch, N, n, n]
        Balanced points of one component.
    times : ndarray, shape=[n_times]
        Times in [0, 1].

    Returns
    -------
    path : ndarray, shape=[n_batch, n_times, N, n, n]
        Balanced layers.
    """
    turn_0, turn_1 = nearest_orthogonal(start), nearest_orthogonal(end)
    eigenvectors, angles = rotation_angles(transpose(turn_0) @ turn_1)
    t = times[:, None, None]
    phases = np.exp(1j * t * angles[:, None])
    vectors = eigenvectors[:, None]
    rotation = (vectors * phases[..., None, :]) @ np.conj(transpose(vectors))
    turns = turn_0[:, None] @ rotation.real
    first = [
        (transpose(right_t) * s[:, None, :]) @ right_t
        for _, s, right_t in (np.linalg.svd(start[:, 0]), np.linalg.svd(end[:, 0]))
    ]
    positive = (1 - t) * first[0][:, None] + t * first[1][:, None]
    # W_p = (O_p ... O_1) H_0 (O_{p-1} ... O_1)^T
    products = prefix_products(turns)
    identity = np.broadcast_to(np.eye(start.shape[-1]), products[..., :1, :, :].shape)
    before = np.concatenate([identity, products[..., :-1, :, :]], axis=-3)
    return products @ positive[:, :, None] @ transpose(before)
