r"""Jacobi sectors: ambient = normal + vertical + horizontal at a balanced point.

In the frames ``Z~_p = Q_p^T Z_p Q_{p-1}`` every index pair (i, j) is a vector of length N, and

- horizontal vectors are multiples of ``h_p = l_i^(N-p) l_j^(p-1)``, whose square is ``a_ij``;
- the complement is the range of ``(D f)_p = l_i f_{p-1} - l_j f_p``, ``f_0 = f_N = 0``. The matrix
  ``D^T D`` is the Jacobi (tridiagonal Toeplitz) matrix with diagonal ``l_i^2 + l_j^2`` and
  off-diagonal ``-l_i l_j``, diagonal in the sine basis with eigenvalues
  ``sigma_k^2 = l_i^2 + l_j^2 - 2 l_i l_j cos(pi k / N)``. With ``f = S - A``, S symmetric and A
  skew in (i, j), the part of S is normal, ``W_p S_{p-1} - S_p W_p``, and that of A is vertical,
  ``A_p W_p - W_p A_{p-1}``.

So one discrete sine transform splits all pairs at once (Menon and Yu, arXiv 2509.09088). "Inside"
means expressed in the frames.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from dln_manifolds.geometry.balancing import moment
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import transpose


class Sectors(NamedTuple):
    """The three parts of an ambient vector; each of its shape ``(..., N, n, n)``."""

    normal: Array
    vertical: Array
    horizontal: Array


class JacobiBasis(NamedTuple):
    """Orthonormal bases of the three sectors, each of shape ``(..., k, N, n, n)``."""

    horizontal: Array
    vertical: Array
    normal: Array


def _row_and_column(roots: Array) -> tuple[Array, Array]:
    return roots[..., None, :, None], roots[..., None, None, :]


def frequencies(roots: Array, depth: int) -> Array:
    """Return the singular values ``sigma_k`` of D for all pairs, shape ``(..., N-1, n, n)``."""
    row, column = _row_and_column(roots)
    k = np.arange(1, depth)[:, None, None]
    return np.sqrt((row - column) ** 2 + 4 * row * column * np.sin(np.pi * k / (2 * depth)) ** 2)


@lru_cache(maxsize=32)
def _sine_matrix(depth: int) -> Array:
    """Return the orthogonal and symmetric matrix of the sine transform, shape ``(N-1, N-1)``."""
    k = np.arange(1, depth)
    return np.sqrt(2 / depth) * np.sin(np.pi / depth * (np.outer(k, k) % (2 * depth)))


def _sine(sequence: Array) -> Array:
    """Orthonormal discrete sine transform along the layers: its own inverse."""
    shape = sequence.shape
    flat = sequence.reshape(*shape[:-2], shape[-2] * shape[-1])
    return (_sine_matrix(shape[-3] + 1) @ flat).reshape(shape)


def horizontal_direction(roots: Array, depth: int) -> Array:
    """Return the unit vectors ``h_p / |h|`` of all pairs, shape ``(..., N, n, n)``."""
    row, column = _row_and_column(roots)
    p = np.arange(depth)[:, None, None]
    # Powers of the ratio below one only, so that nothing over- or underflows.
    ratio = np.minimum(row, column) / np.maximum(row, column)
    vector = ratio ** np.where(row >= column, p, depth - 1 - p)
    return vector / np.linalg.norm(vector, axis=-3, keepdims=True)


def _difference(roots: Array, sequence: Array) -> Array:
    """Apply D: (..., N-1, n, n) -> (..., N, n, n)."""
    (row, column), shape = _row_and_column(roots), sequence.shape
    result = np.zeros((*shape[:-3], shape[-3] + 1, *shape[-2:]))
    np.multiply(row, sequence, out=result[..., 1:, :, :])
    result[..., :-1, :, :] -= column * sequence
    return result


def solve_inside(frame: Frame, right_side: Array) -> Array:
    """Solve ``(l_i^2 + l_j^2) S_p - l_i l_j (S_{p+1} + S_{p-1}) = R_p``, all in the frames.

    R and S have the shape ``(..., N-1, r, r)``; this is the inverse of ``D^T D``.
    """
    return _sine(_sine(right_side) / frequencies(frame.roots, frame.n_layers) ** 2)


def normal_inside(frame: Frame, symmetric: Array) -> Array:
    """Return ``L S_{p-1} - S_p L``, ``S_0 = S_N = 0``, all in the frames."""
    return _difference(frame.roots, symmetric)


def potentials(frame: Frame, core: Array) -> tuple[Array, Array]:
    """Return S and -A inside: D of them are the normal and the vertical part of a core."""
    row, column = _row_and_column(frame.roots)
    # The transpose of D.
    right_side = row * core[..., 1:, :, :] - column * core[..., :-1, :, :]
    whole = 0.5 * solve_inside(frame, right_side)
    return whole + transpose(whole), whole - transpose(whole)


def tangent_blocks(frame: Frame, blocks: Array) -> Array:
    """Project the blocks of ambient vectors to those of tangent ones."""
    core, after, before = frame.split(blocks)
    core = core - _difference(frame.roots, potentials(frame, core)[0])
    if not any(frame.sides):
        return core
    after, before = after.copy(), before.copy()
    # Both are dQ_p L beside Q_p.
    joint = 0.5 * (after[..., :-1, :, :] + before[..., 1:, :, :])
    after[..., :-1, :, :] = before[..., 1:, :, :] = joint
    return frame.stack(core, after, before)


def horizontal_blocks(frame: Frame, blocks: Array) -> Array:
    """Project the blocks of ambient vectors to those of horizontal ones."""
    core, after, before = frame.split(blocks)
    direction = horizontal_direction(frame.roots, frame.n_layers)
    core = direction * np.sum(direction * core, axis=-3, keepdims=True)
    if not any(frame.sides):
        return core
    after, before = after.copy(), before.copy()
    after[..., :-1, :, :] = 0.0
    before[..., 1:, :, :] = 0.0
    return frame.stack(core, after, before)


def split(frame: Frame, vector: Array) -> Sectors:
    """Split an ambient vector into its three parts, which are orthogonal and sum to it."""
    blocks = frame.blocks(vector)
    core, after, before = frame.split(blocks)
    parts = [_difference(frame.roots, part) for part in potentials(frame, core)]
    horizontal = horizontal_part(frame, vector)
    if not any(frame.sides):
        return Sectors(frame.leave(parts[0]), frame.leave(parts[1]), horizontal)
    sides = []
    for sign in (-1.0, 1.0):
        joint = 0.5 * (after[..., :-1, :, :] + sign * before[..., 1:, :, :])
        both = np.zeros_like(after), np.zeros_like(before)
        both[0][..., :-1, :, :] = joint
        both[1][..., 1:, :, :] = sign * joint
        sides.append(both)
    normal, vertical = (
        frame.assemble(frame.stack(part, *beside))
        for part, beside in zip(parts, sides, strict=True)
    )
    # What no block holds maps the complement of Q_{p-1} to that of Q_p: it is normal.
    return Sectors(normal + vector - frame.assemble(blocks), vertical, horizontal)


def horizontal_part(frame: Frame, vector: Array) -> Array:
    """Project an ambient vector to the horizontal space, without the other two parts."""
    return frame.assemble(horizontal_blocks(frame, frame.blocks(vector)))


def tangent_part(frame: Frame, vector: Array) -> Array:
    """Project an ambient vector to the tangent space: vertical plus horizontal."""
    if any(frame.sides):
        return frame.assemble(tangent_blocks(frame, frame.blocks(vector)))
    # A vector that is tangent already keeps its digits.
    symmetric, _ = potentials(frame, frame.enter(vector))
    return vector - frame.leave(_difference(frame.roots, symmetric))


def normal_vector(layers: Array, symmetric: Array) -> Array:
    """Return ``W_p S_{p-1} - S_p W_p`` with ``S_0 = S_N = 0``, of layers ``(..., N, n, n)``.

    S has shape ``(..., N-1, n, n)``.
    """
    batch = np.broadcast_shapes(layers.shape[:-3], symmetric.shape[:-3])
    result = np.zeros(batch + layers.shape[-3:])
    result[..., 1:, :, :] += layers[..., 1:, :, :] @ symmetric
    result[..., :-1, :, :] -= symmetric @ layers[..., :-1, :, :]
    return result


def vertical_vector(layers: Array, skew: Array) -> Array:
    """Return ``A_p W_p - W_p A_{p-1}``, ``A_0 = A_N = 0``: the velocity of the group action."""
    return -normal_vector(layers, skew)


def horizontal_lift(frame: Frame, tangent_vec: Array) -> Array:
    """Return the horizontal ``(W_N ... W_{p+1})^T A_X^{-1}(Z) (W_{p-1} ... W_1)^T`` over Z at X.

    Of matrices of lower rank, ``Z V - U C`` and ``Z^T U - V C^T``, divided by ``l^(N-1)``, stand
    beside the cores of the last and of the first layer.
    """
    ends = frame.ends
    core, left, right = ends.split(ends.blocks(tangent_vec) / ends.root_weights)
    core = horizontal_direction(frame.roots, frame.n_layers) * core[..., None, :, :]
    if not any(frame.sides):
        return frame.leave(core)
    after, before = np.zeros((2, *core.shape[:-2], *frame.left.shape[-2:]))
    after[..., -1, : left.shape[-2], :] = left
    before[..., 0, : right.shape[-2], :] = right
    return frame.assemble(frame.stack(core, after, before))


def push_forward(frame: Frame, vector: Array) -> Array:
    """Return the differential ``sum_p W_N ... W_{p+1} V_p W_{p-1} ... W_1`` of ``W -> X``."""
    if frame.n_layers == 1:
        return frame.layout.layers(vector)[0]
    ends = frame.ends
    core, after, before = frame.split(frame.blocks(vector))
    core = np.sum(horizontal_direction(frame.roots, frame.n_layers) * core, axis=-3)
    rows, columns = ends.sides
    blocks = ends.stack(core, after[..., -1, :rows, :], before[..., 0, :columns, :])
    return ends.assemble(ends.root_weights * blocks)


def jacobi_basis(frame: Frame) -> JacobiBasis:
    """Return explicit orthonormal bases of the three sectors at balanced points."""
    depth, (*batch, n) = frame.n_layers, frame.roots.shape
    each = frame.beside()
    unit = np.eye(n * n).reshape(n * n, 1, n, n)
    horizontal = each.leave(unit * horizontal_direction(each.roots, depth))
    sigma = frequencies(frame.roots, depth)[..., None, :, None, :, :]
    sines = _sine_matrix(depth)[:, :, None, None]
    bases = []
    for sign, (i, j) in ((-1.0, np.triu_indices(n, 1)), (1.0, np.triu_indices(n))):
        pair = np.zeros((len(i), n, n))
        pair[np.arange(len(i)), i, j] = 1.0
        pair[np.arange(len(i)), j, i] = sign
        pair /= np.linalg.norm(pair, axis=(-2, -1), keepdims=True)
        # sequence of pair m and frequency k: sin(pi k p / N) / sigma_k at the pair's two entries
        sequences = pair[:, None, None] * sines / sigma
        sequences = sequences.reshape(*batch, len(i) * (depth - 1), depth - 1, n, n)
        bases.append(each.leave(_difference(each.roots, sequences)))
    return JacobiBasis(horizontal, bases[0], bases[1])


class TangentSpace:
    """The splitting at a single balanced point, prepared for hundreds of projections."""

    def __init__(self, frame: Frame) -> None:
        self.roots, self.depth = frame.roots, frame.n_layers
        # Copies, so that all products are of contiguous matrices.
        self._after, self._before = frame.left.copy(), transpose(frame.right_t).copy()
        self._after_t, self._before_t = transpose(frame.left).copy(), frame.right_t.copy()
        # l_i and l_j, and their powers 0 .. N-1, written out: broadcasting along rows is slow.
        powers = self.roots ** np.arange(self.depth)[:, None]
        self.row = np.repeat(self.roots[:, None], self.roots.size, axis=1)
        self.column = transpose(self.row).copy()
        self._rows = np.repeat(self.row[None], self.depth - 1, axis=0)
        self._columns = transpose(self._rows).copy()
        self.row_powers = np.repeat(powers[:, :, None], self.roots.size, axis=2)
        self.column_powers = transpose(self.row_powers).copy()
        self._sines = _sine_matrix(self.depth)
        # With the half of the symmetric part.
        self._weights = 0.5 / frequencies(self.roots, self.depth) ** 2

    def enter(self, vector: Array) -> Array:
        """Express an ambient vector in the frames: ``Q_p^T Z_p Q_{p-1}``."""
        return self._after_t @ vector @ self._before

    def leave(self, inside: Array) -> Array:
        """Return from the frames."""
        return self._after @ inside @ self._before_t

    def enter_end(self, matrix: Array) -> Array:
        """Express a matrix of the shape of X in the frames: ``Q_N^T Z Q_0``."""
        return self._after_t[-1] @ matrix @ self._before[0]

    def leave_end(self, inside: Array) -> Array:
        """Return from the frames of X."""
        return self._after[-1] @ inside @ self._before_t[0]

    def multiplier(self, inside: Array) -> Array:
        """Return the symmetric S of the normal part of a vector, all in the frames."""
        right_side = self._rows * inside[1:]
        right_side -= self._columns * inside[:-1]
        return self._solve(right_side)

    def _solve(self, right_side: Array) -> Array:
        """Solve the Jacobi systems for the symmetric part of a right-hand side, in the frames."""
        symmetric = right_side + transpose(right_side)
        if self.depth <= 2:
            return symmetric * self._weights
        # As `_sine`, which costs by the call.
        shape, flat = symmetric.shape, (len(symmetric), -1)
        waves = (self._sines @ symmetric.reshape(flat)).reshape(shape) * self._weights
        return (self._sines @ waves.reshape(flat)).reshape(shape)

    def _normal(self, symmetric: Array) -> Array:
        """Return ``W_p S_{p-1} - S_p W_p``, all in the frames; S is overwritten."""
        normal = np.zeros((self.depth, *self.row.shape))
        np.multiply(self._rows, symmetric, out=normal[1:])
        symmetric *= self._columns
        normal[:-1] -= symmetric
        return normal

    def acceleration(self, inside: Array) -> Array:
        """Return ``II(V, V)`` of a tangent vector, all in the frames."""
        return self._normal(self._solve(moment(inside, inside)))

    def project(self, inside: Array) -> Array:
        """Return the tangent part of a vector, all in the frames."""
        return inside - self._normal(self.multiplier(inside))

    def tangent_part(self, vector: Array) -> Array:
        """Project an ambient vector to the tangent space."""
        # Not by `project`: a vector that is tangent already keeps its digits.
        return vector - self.leave(self._normal(self.multiplier(self.enter(vector))))

    def normal_multiplier(self, gradient: Array) -> Array | None:
        """Return S of the normal part of a vector in the frames, None if that is rounding."""
        # The gradient of every function of the end-to-end matrix is horizontal, for instance.
        symmetric = self.multiplier(self.enter(gradient))
        size = np.sqrt(np.vdot(gradient, gradient))
        rounding = 8 * np.finfo(float).eps * len(self.roots) * size
        # The normal part is a difference of terms l_i S_ij.
        return None if np.abs(self.row * symmetric).max(initial=0.0) <= rounding else symmetric

    def hessian(self, second: Array, tangent_vec: Array, multiplier: Array | None) -> Array:
        """Return ``P(D^2 f[V]) + weingarten(V, N)``, with N given by its `normal_multiplier`."""
        if multiplier is None:
            return self.tangent_part(second)
        inside, moving = self.enter(second), self.enter(tangent_vec)
        inside[1:] -= moving[1:] @ multiplier
        inside[:-1] += multiplier @ moving[:-1]
        return self.leave(self.project(inside))
