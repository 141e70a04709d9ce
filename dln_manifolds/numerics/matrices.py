"""Small matrices in batches: norms, products of many, polar factors, rotations, turning frames."""

import math
from functools import lru_cache

import numpy as np

from dln_manifolds.numerics.arrays import Array


def transpose(x: Array) -> Array:
    """Swap the last two axes."""
    return x.swapaxes(-1, -2)


# Size of matrices up to which, and numbers of them from which, entries of many lie side by side in
# memory: sums over few entries of each cost by the call of the inner loop.
_SMALL, _MANY = 4, 64


def side_by_side(x: Array, axes: int = 2) -> Array:
    """Return vectors or matrices, the last axes, with equal entries of all side by side if small.

    What is computed of them entry by entry and by `times` stays so.
    """
    n = x.shape[-1]
    if n > _SMALL or x.ndim == axes or x.size < _MANY * n**axes:
        return x
    order = tuple(range(x.ndim))
    inside = np.ascontiguousarray(x.transpose(order[-axes:] + order[:-axes]))
    return inside.transpose(order[axes:] + order[:axes])


def times(a: Array, b: Array) -> Array:
    """Return ``a @ b``, of matrices that lie `side_by_side` as such."""
    if a.ndim > 2 and a.strides[-3] == a.itemsize:
        return np.einsum("...ij,...jk->...ik", a, b)
    return a @ b


def weigh(weights: Array, values: Array) -> Array:
    """Multiply arrays, shape ``(..., *shape)``, by numbers of shape ``(...)``."""
    if weights.size == 1:
        return weights.item() * values
    return weights.reshape(weights.shape + (1,) * (values.ndim - weights.ndim)) * values


def divided(value: Array, scale: Array) -> Array:
    """Return ``value / e^scale``, in two steps: its square may be no double."""
    half = np.exp(-0.5 * scale)
    return weigh(half, weigh(half, value))


def inner(a: Array, b: Array) -> Array:
    """Inner products of the entries of each member, shape ``(n_batch,)``."""
    flat = a.reshape(len(a), math.prod(a.shape[1:]))
    return np.einsum("bi,bi->b", flat, b.reshape(flat.shape))


def frobenius(x: Array) -> Array:
    """Frobenius norms, shape ``(...)``: cheaper than numpy's for few small matrices."""
    return np.asarray(np.sqrt((x * x).sum(axis=(-2, -1))))


def diagonal(x: Array) -> Array:
    """Return the diagonals of square matrices, as a view that can be written to."""
    return np.einsum("...ii->...i", x)


def parity_combine(even: Array, odd: Array, matrix: Array) -> Array:
    """Weigh the symmetric part of a matrix by ``even`` and the antisymmetric part by ``odd``."""
    # Not by sums of weights, which may be of very different sizes: the lesser ones would be lost.
    turned = transpose(matrix)
    return 0.5 * (even * (matrix + turned) + odd * (matrix - turned))


def size_of(value: Array, n_batch: int = 1) -> Array:
    """Frobenius norm of each member that neither overflows nor underflows."""
    flat = value.reshape(*value.shape[:n_batch], math.prod(value.shape[n_batch:]))
    largest = np.max(np.abs(flat), axis=-1, keepdims=True)
    largest = np.where(largest == 0, 1.0, largest)
    return largest[..., 0] * np.linalg.norm(flat / largest, axis=-1)


def norms(state: Array) -> Array:
    """Euclidean norms of position and rate, shape ``(n_batch, 2)``."""
    flat = state.reshape(*state.shape[:2], math.prod(state.shape[2:]))
    return np.sqrt(np.einsum("bki,bki->bk", flat, flat))


def prefix_products(matrices: Array) -> Array:
    """Return the products ``M_1, M_2 M_1, ..., M_N ... M_1`` along the third axis from the end."""
    # By doubling: about log2(N) batched products instead of N single ones.
    products = matrices.copy()
    shift, n_factors = 1, matrices.shape[-3]
    while shift < n_factors:
        products[..., shift:, :, :] = products[..., shift:, :, :] @ products[..., :-shift, :, :]
        shift *= 2
    return products


def identity_before(matrices: Array) -> Array:
    """Return ``I, M_1, ..., M_{N-1}`` of ``M_1, ..., M_N`` along the third axis from the end."""
    identity = np.broadcast_to(np.eye(matrices.shape[-1]), matrices[..., :1, :, :].shape)
    return np.concatenate([identity, matrices[..., :-1, :, :]], axis=-3)


def nearest_orthogonal(matrix: Array) -> Array:
    """Return the orthogonal polar factor of square matrices: the nearest orthogonal ones."""
    u, _, vt = np.linalg.svd(matrix)
    return u @ vt


# Least singular value, relative to the largest, below which the polar factor of a matrix that is
# symmetric up to rounding is that of rounding in the singular vectors.
_POOR = 1e-6


def decomposed(matrices: Array) -> tuple[Array, Array, Array]:
    """Thin singular value decomposition; of symmetric matrices by eigenvectors, which is cheaper.

    Their polar factor is symmetric then, the identity of positive definite ones, in all directions.
    Where that is nearly singular, matrices symmetric up to ``2 n eps s_1`` in Frobenius norm count.
    """
    n, first = matrices.shape[-1], (0,) * (matrices.ndim - 2)
    square = n == matrices.shape[-2] and n > 1 and matrices.size > 0
    # Most matrices differ in the first two entries that are compared.
    alike = square and matrices[(*first, 0, -1)] == matrices[(*first, -1, 0)]
    if alike and (matrices == transpose(matrices)).all():
        return _by_eigenvectors(matrices)
    left, values, right_t = np.linalg.svd(matrices, full_matrices=False)
    if not square:
        return left, values, right_t
    poor = values[..., -1] < _POOR * values[..., 0]
    if not poor.any():
        return left, values, right_t
    largest = np.where(values[..., 0] == 0, 1.0, values[..., 0])[..., None, None]
    gap = matrices / largest - transpose(matrices) / largest
    poor &= frobenius(gap) <= 2 * n * np.finfo(float).eps
    if poor.any():
        some = matrices[poor]
        left[poor], values[poor], right_t[poor] = _by_eigenvectors(0.5 * (some + transpose(some)))
    return left, values, right_t


def _by_eigenvectors(matrices: Array) -> tuple[Array, Array, Array]:
    """Decompose symmetric matrices."""
    own, vectors = np.linalg.eigh(matrices)
    own, vectors = own[..., ::-1].copy(), np.ascontiguousarray(vectors[..., ::-1])
    if own.min() > 0:
        return vectors, own, transpose(vectors).copy()
    order = np.argsort(-np.abs(own), axis=-1)
    own = np.take_along_axis(own, order, axis=-1)
    vectors = np.take_along_axis(vectors, order[..., None, :], axis=-1)
    left = np.where(own[..., None, :] < 0, -vectors, vectors)
    return left, np.abs(own), transpose(vectors)


def orthonormal(normal: Array) -> Array:
    """Turn Gaussian matrices, shape ``(..., m, r)``, into uniform orthonormal columns."""
    q, r = np.linalg.qr(normal)
    return np.asarray(q * np.expand_dims(np.sign(np.diagonal(r, axis1=-2, axis2=-1)), -2))


# Rows that are decomposed at once: what then goes on does so near the processor.
_ROWS = 4096


def tall_qr(matrix: Array) -> tuple[Array, Array]:
    """Thin QR decomposition of an (m, n) matrix, in time linear in m also where that is large.

    Blocks of rows, then their triangular factors. There are min(m, n) orthonormal columns whatever
    the rank is, and each column is rounded by its own size.
    """
    n_blocks = len(matrix) // max(_ROWS, 4 * matrix.shape[1])
    if n_blocks < 2:
        q, r = np.linalg.qr(matrix)
        return q, r
    basis, triangles = np.empty(matrix.shape), []
    blocks = np.array_split(basis, n_blocks)
    for block, part in zip(blocks, np.array_split(matrix, n_blocks), strict=True):
        block[...], triangle = np.linalg.qr(part)
        triangles.append(triangle)
    last, r = np.linalg.qr(np.concatenate(triangles))
    for block, turn in zip(blocks, np.split(last, n_blocks), strict=True):
        block[...] = block @ turn
    return basis, r


def rotations(normal: Array) -> Array:
    """Turn Gaussian matrices, shape ``(..., n, n)``, into rotations uniform in SO(n)."""
    q = orthonormal(normal)
    q[..., 0] *= np.expand_dims(np.linalg.slogdet(q)[0], -1)
    return q


# A combination of the symmetric and the skew part of a rotation: cos(a - 1) for the angle a. It
# tells angles apart unless they add up to 2.
_EVEN, _ODD = math.cos(1.0) / 2, math.sin(1.0) / 2j


@lru_cache(maxsize=16)
def _splitting(n: int) -> Array:
    """Return a fixed skew matrix, small beside angles and large beside rounding."""
    lower = np.tril(np.cos(np.arange(1.0, n * n + 1)).reshape(n, n), -1)
    return 1e-6 * (lower - lower.T)


def rotation_angles(matrix: Array) -> tuple[Array, Array]:
    """Return unitary eigenvectors and angles in (-pi, pi) of rotation matrices."""
    # A small fixed rotation splits the eigenvalue -1, whose plane has no orientation of its own.
    turn = matrix + matrix @ _splitting(matrix.shape[-1])
    # Eigenvectors of the commuting Hermitian matrices (R + R^T)/2 and (R - R^T)/2i, taken from a
    # generic combination of both.
    transposed = transpose(turn)
    eigenvectors = np.linalg.eigh(_EVEN * (turn + transposed) + _ODD * (turn - transposed))[1]
    eigenvalues = np.sum(np.conj(eigenvectors) * (turn @ eigenvectors), axis=-2)
    return eigenvectors, np.angle(eigenvalues)


# Entries of exp(A) beyond the power 11 of A are below one unit in the last place up to this norm.
_TAYLOR_RANGE = 0.25
_TAYLOR = np.array([1.0 / math.factorial(k) for k in range(12)]).reshape(3, 4)


def turned(velocities: tuple[Array, Array], matrices: Array) -> Array:
    """Return ``Omega_L M - M Omega_R`` of ``(n_batch, ..., m, n)``, Omegas ``(n_batch, m, m)``."""
    left, right = velocities
    n_batch, *nodes, m, n = matrices.shape
    after = matrices.reshape(n_batch, math.prod(nodes) * m, n) @ right
    moved = left.reshape(n_batch, *(1,) * len(nodes), m, m) @ matrices
    moved -= after.reshape(matrices.shape)
    return np.asarray(moved)


def rotation(skew: Array) -> Array:
    """Return ``exp(A)`` of skew-symmetric matrices, shape ``(..., n, n)``."""
    # A Taylor polynomial after halving; all members are halved alike.
    size = frobenius(skew).max(initial=0.0)
    halvings = max(0, math.ceil(math.log2(max(size, _TAYLOR_RANGE) / _TAYLOR_RANGE)))
    # Paterson and Stockmeyer's arrangement, in blocks of four powers.
    powers = np.empty((4, *skew.shape))
    powers[0] = np.eye(skew.shape[-1])
    first = np.multiply(skew, 0.5**halvings, out=powers[1])
    second = np.matmul(first, first, out=powers[2])
    np.matmul(first, second, out=powers[3])
    fourth = second @ second
    low, middle, high = (_TAYLOR @ powers.reshape(4, skew.size)).reshape(3, *skew.shape)
    result = low + fourth @ (middle + fourth @ high)
    for _ in range(halvings):
        result = result @ result
    return np.asarray(result)


# Largest half of a turn whose powers from the eighth on are below rounding.
_SMALL_TURN = 1e-2


def half_turns(turns: Array) -> Array:
    """Return ``(C(K) + 1) / 2 = (1 - K / 2)^-1`` of skew K, C the Cayley transform."""
    half, identity = 0.5 * turns, np.eye(turns.shape[-1])
    if frobenius(half).max(initial=0.0) > _SMALL_TURN:
        return np.asarray(np.linalg.inv(identity - half))
    square = half @ half
    return (identity + half) @ (identity + square) @ (identity + square @ square)
