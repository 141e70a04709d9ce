r"""Layers ``W = (W_1, ..., W_N)`` of any widths, and which of them are balanced.

Balanced means ``W_{p+1}^T W_{p+1} = W_p W_p^T``; then ``W_p = Q_p diag(l) Q_{p-1}^T`` with common
roots l and orthonormal columns ``Q_0, ..., Q_N``. The first layer acts first. A `Chain` says how
layers lie in arrays; without one the shape is ``(..., N, n, n)``.

Layers with the same invertible end-to-end matrix are an orbit of ``GL(n)^(N-1)``,
``W_p -> g_p W_p g_{p-1}^{-1}`` with ``g_0 = g_N = I``. The balanced ones among them are its points
of least norm, ``sum |W_p|^2 = N sum s^(2/N)``: one orbit of ``O(n)^(N-1)`` (Lindsey and Menon,
arXiv 2511.01137).
"""

from functools import reduce
from itertools import pairwise

import numpy as np

from dln_manifolds.geometry.chain import Chain, uniform
from dln_manifolds.geometry.frame import Frame, full_nodes, orientation_of, svd_of_layers
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import (
    identity_before,
    nearest_orthogonal,
    prefix_products,
    transpose,
)


def end_to_end(layers: Array, chain: Chain | None = None) -> Array:
    """Return ``X = W_N ... W_1``, shape ``(..., m, n)``."""
    if chain is None or chain.is_uniform:
        return _product(layers)
    return reduce(
        lambda x, part: _product(part) @ x,
        chain.parts(layers)[1:],
        _product(chain.parts(layers)[0]),
    )


def frame_of_product(layers: Array, chain: Chain, rank: int | None = None) -> Frame:
    """Return the frame of ``X = W_N ... W_1``, cut at a rank, as narrow as the layers are.

    Where the first or the last hidden width is less than the end beside it, without X itself.
    """
    matrices, depth = chain.layers(layers), chain.count
    widths = chain.widths
    if depth == 1 or (widths[0] <= widths[1] and widths[-1] <= widths[-2]):
        return Frame.of_point(end_to_end(layers, chain), depth, rank)
    columns, first = np.linalg.qr(transpose(matrices[0]))
    rows, last = np.linalg.qr(matrices[-1])
    inner = reduce(lambda x, matrix: matrix @ x, [*matrices[1:-1], last], transpose(first))
    frame = Frame.of_point(inner, depth, rank)
    left, right_t = rows @ frame.left, frame.right_t @ transpose(columns)
    return Frame(left, frame.values, right_t, frame.depth, frame.power)


def _product(layers: Array) -> Array:
    """Return the product of matrices along the third axis from the end, by pairs."""
    while layers.shape[-3] > 1:
        even = layers.shape[-3] // 2 * 2
        paired = layers[..., 1:even:2, :, :] @ layers[..., 0:even:2, :, :]
        layers = np.concatenate([paired, layers[..., even:, :, :]], axis=-3)
    return layers[..., 0, :, :]


def partial_products(layers: Array) -> tuple[Array, Array]:
    """Return ``(W_N ... W_{p+1})^T`` and ``W_{p-1} ... W_1`` for every p."""
    behind = prefix_products(identity_before(layers))
    ahead = prefix_products(identity_before(transpose(layers[..., ::-1, :, :])))
    return ahead[..., ::-1, :, :], behind


def end_to_end_pullback(layers: Array, covector: Array, chain: Chain | None = None) -> Array:
    """Return ``(W_N .. W_{p+1})^T M (W_{p-1} .. W_1)^T``, the gradient by W of ``<M, X>``."""
    chain = uniform(layers) if chain is None else chain
    if chain.is_uniform:
        ahead, behind = partial_products(layers)
        return ahead @ covector[..., None, :, :] @ transpose(behind)
    # Layer by layer, so that no product is larger than the layers are.
    matrices = chain.layers(layers)
    behind_all: list[Array | None] = [None]
    for matrix in matrices[:-1]:
        before = behind_all[-1]
        behind_all.append(matrix if before is None else matrix @ before)
    pulled, gradients = covector, []
    for matrix, before in zip(matrices[::-1], behind_all[::-1], strict=True):
        gradients.append(pulled if before is None else pulled @ transpose(before))
        pulled = transpose(matrix) @ pulled
    return chain.gathered(gradients[::-1])


def moment(covector: Array, vector: Array) -> Array:
    """Return ``C_p V_p^T - V_{p+1}^T C_{p+1}``, gradient by A of ``<C, A_p V_p - V_p A_{p-1}>``."""
    product = covector[..., :-1, :, :] @ transpose(vector[..., :-1, :, :])
    product -= transpose(vector[..., 1:, :, :]) @ covector[..., 1:, :, :]
    return product


def imbalance(layers: Array) -> Array:
    """Return ``W_{p+1}^T W_{p+1} - W_p W_p^T`` for p = 1..N-1, shape ``(..., N-1, n, n)``."""
    return -moment(layers, layers)


def relative_imbalance(layers: Array, chain: Chain | None = None) -> Array:
    """Return the largest norm of an imbalance relative to that of its products, ``(...)``."""
    chain = uniform(layers) if chain is None else chain
    batch = layers.shape[: layers.ndim - len(chain.array_shape)]
    if chain.count == 1:
        return np.zeros(batch)
    # Divided by the largest entry, so that no square over- or underflows.
    axes = tuple(range(len(batch), layers.ndim))
    largest = np.max(np.abs(layers), axis=axes, keepdims=True)
    parts = chain.parts(layers / np.where(largest == 0, 1.0, largest))
    # At hidden widths alone: the grams of inputs and outputs may be far larger.
    pairs = [(x[..., :-1, :, :], x[..., 1:, :, :]) for x in parts if x.shape[-3] > 1]
    pairs += [(x[..., -1:, :, :], y[..., :1, :, :]) for x, y in pairwise(parts)]
    grams, differences = [], []
    for before, after in pairs:
        grams += [before @ transpose(before), transpose(after) @ after]
        differences.append(grams[-1] - grams[-2])
    size, difference = (
        np.concatenate([np.linalg.norm(x, axis=(-2, -1)) for x in matrices], axis=-1).max(axis=-1)
        for matrices in (grams, differences)
    )
    return difference / np.where(size == 0, 1.0, size)


def rebalance(
    layers: Array,
    chain: Chain | None = None,
    rank: int | None = None,
    orientation: Array | None = None,
    least: float | None = None,
) -> Array:
    """Return balanced layers near the given ones; balanced layers are left as they are.

    With the decompositions ``Y_p = U_p diag(s_p) V_p^T``, cut at the rank, the result is
    ``Q_p H Q_{p-1}^T``: ``Q_0 = V_1`` and ``Q_p = U_p G_p``, G_p a product of the orthogonal polar
    factors of ``V_{p+1}^T U_p``, and H the mean over p of ``G_{p-1}^T diag(s_p) G_{p-1}``. The
    end-to-end matrix changes. Signs of components are those of ``orientation``, if given, see
    `orientation_of`; roots are at least ``least``.
    """
    chain = uniform(layers) if chain is None else chain
    rank = min(chain.widths) if rank is None else rank
    left, values, right_t, _ = svd_of_layers(layers, chain, rank)
    turns, after, before = _turned(left, right_t)
    if orientation is not None:
        bases = np.concatenate([before[..., :1, :, :], after], axis=-3)
        signs = orientation_of(bases, chain)
        if (signs != orientation).any():
            # The nearest orthogonal matrix of the other sign turns the smallest singular direction.
            flips = np.ones(left.shape[:-2])
            flips[..., full_nodes(chain, rank)[:-1]] = np.where(signs == orientation, 1.0, -1.0)
            left = np.concatenate(
                [left[..., :-1], left[..., -1:] * flips[..., None, None]], axis=-1
            )
            turns, after, before = _turned(left, right_t)
    mean = np.mean((transpose(turns) * values[..., None, :]) @ turns, axis=-3, keepdims=True)
    if least is not None:
        roots, basis = np.linalg.eigh(mean)
        floor = np.maximum(8 * chain.width * np.finfo(float).eps * roots[..., -1:], least)
        if (roots < floor).any():
            mean = (basis * np.maximum(roots, floor)[..., None, :]) @ transpose(basis)
    return chain.outer(after @ mean, transpose(before))


def _turned(left: Array, right_t: Array) -> tuple[Array, Array, Array]:
    """Return ``G_{p-1}``, ``Q_p`` and ``Q_{p-1}`` of `rebalance` for p = 1 .. N."""
    turns = right_t[..., 1:, :, :] @ left[..., :-1, :, :]
    rank = turns.shape[-1]
    if rank < left.shape[-2]:
        turns = nearest_orthogonal(turns)
    identity = np.broadcast_to(np.eye(rank), (*turns.shape[:-3], 1, rank, rank))
    turns = np.concatenate([identity, prefix_products(turns)], axis=-3)
    after = left @ turns
    first = transpose(right_t[..., :1, :, :])
    return turns, after, np.concatenate([first, after[..., :-1, :, :]], axis=-3)


def act(group: Array, layers: Array, chain: Chain | None = None) -> Array:
    """Return the layers ``h_p W_p h_{p-1}^T``, ``h_0 = h_N = I``; h of ``chain.group_shape``."""
    chain = uniform(layers) if chain is None else chain
    group, layers = chain.padded_group(group), chain.padded(layers)
    batch = np.broadcast_shapes(group.shape[:-3], layers.shape[:-3])
    turned = np.broadcast_to(layers, batch + layers.shape[-3:]).copy()
    turned[..., :-1, :, :] = group @ turned[..., :-1, :, :]
    turned[..., 1:, :, :] = turned[..., 1:, :, :] @ transpose(group)
    return chain.unpadded(turned)


def act_pullback(
    group: Array, layers: Array, cotangent: Array, chain: Chain | None = None
) -> tuple[Array, Array]:
    """Return the gradients by h and by W of ``<c, h . W>``."""
    chain = uniform(layers) if chain is None else chain
    group, layers, cotangent = (
        chain.padded_group(group),
        chain.padded(layers),
        chain.padded(cotangent),
    )
    # As `act` with transposes, which acts back on layers.
    by_layers = act(transpose(group), cotangent)
    whole = np.broadcast_to(layers, by_layers.shape)
    before, after = whole[..., :-1, :, :].copy(), whole[..., 1:, :, :].copy()
    before[..., 1:, :, :] = before[..., 1:, :, :] @ transpose(group[..., :-1, :, :])
    after[..., :-1, :, :] = group[..., 1:, :, :] @ after[..., :-1, :, :]
    by_group = cotangent[..., :-1, :, :] @ transpose(before)
    by_group = by_group + transpose(cotangent[..., 1:, :, :]) @ after
    return chain.unpadded_group(by_group), chain.unpadded(by_layers)


def factor(frame: Frame, chain: Chain) -> Array:
    """Return one balanced factorization of X: ``W_p = Q_p diag(s^(1/N)) Q_{p-1}^T``.

    With ``Q_0 = V``, ``Q_N = U`` (Menon, arXiv 2411.09004) and the first r columns of the identity
    in between. The frame of X may have any depth.
    """
    rank = frame.values.shape[-1]
    bases = np.zeros((*frame.values.shape[:-1], chain.count + 1, chain.width, rank))
    bases[..., 1:-1, :, :] = np.eye(chain.width, rank)
    bases[..., 0, : chain.widths[0], :] = transpose(frame.right_t)
    bases[..., -1, : chain.widths[-1], :] = frame.left
    turned = Frame.of_bases(bases, frame.singular_values ** (1 / chain.count), chain)
    return turned.compose(turned.roots)
