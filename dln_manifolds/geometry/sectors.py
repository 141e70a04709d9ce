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
    return np.sqrt(squared_frequencies(roots, depth))


def squared_frequencies(roots: Array, depth: int) -> Array:
    """Return the eigenvalues ``sigma_k^2`` of ``D^T D``, of that shape."""
    row, column = _row_and_column(roots)
    # There are none at depth 1, where squares of roots may overflow.
    apart = (row - column) * np.ones((depth - 1, 1, 1))
    return apart**2 + row * (column * _squared_sines(depth))


@lru_cache(maxsize=32)
def _squared_sines(depth: int) -> Array:
    """Return ``(2 sin(pi k / 2N))^2``, shape ``(N-1, 1, 1)``."""
    k = np.arange(1, depth)[:, None, None]
    return np.asarray(2 * np.sin(np.pi * k / (2 * depth))) ** 2


@lru_cache(maxsize=32)
def sine_matrix(depth: int) -> Array:
    """Return the orthogonal and symmetric matrix of the sine transform, shape ``(N-1, N-1)``."""
    k = np.arange(1, depth)
    return np.sqrt(2 / depth) * np.sin(np.pi / depth * (np.outer(k, k) % (2 * depth)))


def _sine(sequence: Array) -> Array:
    """Orthonormal discrete sine transform along the layers: its own inverse."""
    shape = sequence.shape
    flat = sequence.reshape(*shape[:-2], shape[-2] * shape[-1])
    return (sine_matrix(shape[-3] + 1) @ flat).reshape(shape)


def horizontal_direction(roots: Array, depth: int) -> Array:
    """Return the unit vectors ``h_p / |h|`` of all pairs, shape ``(..., N, n, n)``."""
    row, column = _row_and_column(roots)
    p = np.arange(depth)[:, None, None]
    # Powers of the ratio below one only, so that nothing over- or underflows.
    ratio = np.minimum(row, column) / np.maximum(row, column)
    vector = ratio ** np.where(row >= column, p, depth - 1 - p)
    return vector / np.sqrt(np.sum(vector * vector, axis=-3, keepdims=True))


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
    return _sine(_sine(right_side) / squared_frequencies(frame.roots, frame.n_layers))


def normal_inside(frame: Frame, symmetric: Array) -> Array:
    """Return ``L S_{p-1} - S_p L``, ``S_0 = S_N = 0``, all in the frames."""
    return _difference(frame.roots, symmetric)


def _power_of_two(roots: Array) -> Array:
    """Return a number of the size of the largest root, shape ``(..., 1)``."""
    return np.asarray(np.exp2(np.floor(np.log2(roots[..., :1]))))


def potentials(frame: Frame, core: Array) -> tuple[Array, Array]:
    """Return S and -A inside: D of them are the normal and the vertical part of a core."""
    size = _power_of_two(frame.roots)
    symmetric, skew = _unit_potentials(frame.roots / size, core)
    return symmetric / size[..., None, None], skew / size[..., None, None]


def _normal_and_vertical(frame: Frame, core: Array) -> tuple[Array, Array]:
    """Return both parts of a core: those of roots of size one, whose squares are within range."""
    roots = frame.roots / _power_of_two(frame.roots)
    symmetric, skew = _unit_potentials(roots, core)
    return _difference(roots, symmetric), _difference(roots, skew)


def _unit_potentials(roots: Array, core: Array) -> tuple[Array, Array]:
    n_layers = core.shape[-3]
    row, column = _row_and_column(roots)
    # The transpose of D.
    right_side = row * core[..., 1:, :, :] - column * core[..., :-1, :, :]
    whole = 0.5 * _sine(_sine(right_side) / squared_frequencies(roots, n_layers))
    return whole + transpose(whole), whole - transpose(whole)


def tangent_blocks(frame: Frame, blocks: Array) -> Array:
    """Project the blocks of ambient vectors to those of tangent ones."""
    core, after, before = frame.split(blocks)
    core = core - _normal_and_vertical(frame, core)[0]
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
    parts = _normal_and_vertical(frame, core)
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
    return vector - frame.leave(_normal_and_vertical(frame, frame.enter(vector))[0])


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
    depth, each = frame.n_layers, frame.beside()
    normal = [_core_basis(frame, 1.0)]
    if any(frame.sides):
        complements = [_complement(frame, place) for place in range(depth + 1)]
        for place in range(1, depth):
            normal.append(_beside(each, complements[place], place - 1, place, -1.0))
        normal += [_corner(each, complements[p + 1], complements[p], p) for p in range(depth)]
    return JacobiBasis(*tangent_basis(frame), np.concatenate(normal, axis=frame.roots.ndim - 1))


def tangent_basis(frame: Frame) -> tuple[Array, Array]:
    """Return orthonormal bases of horizontal and of vertical vectors, ``(..., k, *shape)``."""
    depth, r, each = frame.n_layers, frame.roots.shape[-1], frame.beside()
    unit = np.eye(r * r).reshape(r * r, 1, r, r)
    horizontal = [each.leave(unit * horizontal_direction(each.roots, depth))]
    vertical = [_core_basis(frame, -1.0)]
    if any(frame.sides):
        horizontal.append(_beside(each, _complement(frame, 0), None, 0))
        horizontal.append(_beside(each, _complement(frame, depth), depth - 1, None))
        for place in range(1, depth):
            vertical.append(_beside(each, _complement(frame, place), place - 1, place))
    axis = frame.roots.ndim - 1
    return np.concatenate(horizontal, axis=axis), np.concatenate(vertical, axis=axis)


def _core_basis(frame: Frame, sign: float) -> Array:
    """Return the normal vectors of cores, or with the sign -1 the vertical ones."""
    depth, (*batch, r) = frame.n_layers, frame.roots.shape
    each = frame.beside()
    sigma = frequencies(frame.roots, depth)[..., None, :, None, :, :]
    sines = sine_matrix(depth)[:, :, None, None]
    i, j = np.triu_indices(r, 0 if sign > 0 else 1)
    pair = np.zeros((len(i), r, r))
    pair[np.arange(len(i)), i, j] = 1.0
    pair[np.arange(len(i)), j, i] = sign
    pair /= np.linalg.norm(pair, axis=(-2, -1), keepdims=True)
    # sequence of pair m and frequency k: sin(pi k p / N) / sigma_k at the pair's two entries
    sequences = pair[:, None, None] * sines / sigma
    sequences = sequences.reshape(*batch, len(i) * (depth - 1), depth - 1, r, r)
    return each.leave(_difference(each.roots, sequences))


def _complement(frame: Frame, place: int) -> Array:
    """Return an orthonormal basis of the complement of ``Q_p``, shape ``(..., D, d_p - r)``."""
    width, rank = frame.layout.widths[place], frame.values.shape[-1]
    basis = frame.bases[..., place, :, :]
    result = np.zeros((*basis.shape[:-1], width - rank))
    result[..., :width, :] = np.linalg.svd(basis[..., :width, :])[0][..., rank:]
    return result


def _beside(
    each: Frame, complement: Array, after: int | None, before: int | None, sign: float = 1.0
) -> Array:
    """Return unit vectors with blocks ``c_a e_j^T`` after one layer and before another."""
    rank, (*batch, width, count) = each.values.shape[-1], complement.shape
    units = complement.swapaxes(-1, -2)[..., :, None, :, None] * np.eye(rank)[:, None, :]
    units = units.reshape(*batch, count * rank, width, rank)
    blocks = np.zeros((*batch, count * rank, each.n_layers, rank + 2 * width, rank))
    _, after_blocks, before_blocks = each.split(blocks)
    if after is not None:
        after_blocks[..., after, :, :] = units
    if before is not None:
        before_blocks[..., before, :, :] = sign * units
    joint = after is not None and before is not None
    return each.assemble(blocks * np.sqrt(0.5) if joint else blocks)


def _corner(each: Frame, after: Array, before: Array, place: int) -> Array:
    """Return unit layers from the complement of ``Q_{p-1}`` to that of ``Q_p``."""
    products = (
        after.swapaxes(-1, -2)[..., :, None, :, None]
        * before.swapaxes(-1, -2)[..., None, :, None, :]
    )
    width = each.layout.width
    count = after.shape[-1] * before.shape[-1]
    layers = np.zeros((*after.shape[:-2], count, each.n_layers, width, width))
    layers[..., place, :, :] = products.reshape(*after.shape[:-2], count, width, width)
    return each.layout.unpadded(layers)
