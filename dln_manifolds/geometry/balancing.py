r"""Layers ``W = (W_1, ..., W_N)`` of shape ``(..., N, n, n)``, and which of them are balanced.

Balanced means ``W_{p+1}^T W_{p+1} = W_p W_p^T``; then ``W_p = Q_p diag(l) Q_{p-1}^T`` with common
roots l and orthogonal ``Q_0, ..., Q_N``. W[0] acts first.

Layers with the same invertible end-to-end matrix are an orbit of ``GL(n)^(N-1)``,
``W_p -> g_p W_p g_{p-1}^{-1}`` with ``g_0 = g_N = I``. The balanced ones among them are its points
of least norm, ``sum |W_p|^2 = N sum s^(2/N)``: one orbit of ``O(n)^(N-1)`` (Lindsey and Menon,
arXiv 2511.01137).
"""

import numpy as np

from dln_manifolds.geometry.frame import Frame
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import identity_before, prefix_products, transpose


def end_to_end(layers: Array) -> Array:
    """Return ``X = W_N ... W_1``, shape ``(..., n, n)``."""
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


def end_to_end_pullback(layers: Array, covector: Array) -> Array:
    """Return ``(W_N .. W_{p+1})^T M (W_{p-1} .. W_1)^T``, the gradient by W of ``<M, X>``."""
    ahead, behind = partial_products(layers)
    return ahead @ covector[..., None, :, :] @ transpose(behind)


def moment(covector: Array, vector: Array) -> Array:
    """Return ``C_p V_p^T - V_{p+1}^T C_{p+1}``, gradient by A of ``<C, A_p V_p - V_p A_{p-1}>``."""
    product = covector[..., :-1, :, :] @ transpose(vector[..., :-1, :, :])
    product -= transpose(vector[..., 1:, :, :]) @ covector[..., 1:, :, :]
    return product


def imbalance(layers: Array) -> Array:
    """Return ``W_{p+1}^T W_{p+1} - W_p W_p^T`` for p = 1..N-1, shape ``(..., N-1, n, n)``."""
    return -moment(layers, layers)


def relative_imbalance(layers: Array) -> Array:
    """Return the largest norm of an imbalance relative to that of its products, ``(...)``."""
    if layers.shape[-3] == 1:
        return np.zeros(layers.shape[:-3])
    # Divided by the largest entry, so that no square over- or underflows.
    largest = np.max(np.abs(layers), axis=(-3, -2, -1), keepdims=True)
    layers = layers / np.where(largest == 0, 1.0, largest)
    grams = np.linalg.norm(layers @ transpose(layers), axis=(-2, -1))
    difference = np.linalg.norm(imbalance(layers), axis=(-2, -1))
    largest = grams.max(axis=-1)
    return difference.max(axis=-1) / np.where(largest == 0, 1.0, largest)


def rebalance(layers: Array, orientation: Array | None = None, least: float | None = None) -> Array:
    """Return balanced layers near the given ones; balanced layers are left as they are.

    With the polar decompositions ``Y_p = O_p |Y_p|`` and ``R_p = O_p ... O_1`` the result is
    ``R_p H R_{p-1}^T``, H the mean over p of ``R_{p-1}^T |Y_p| R_{p-1}``. The end-to-end matrix
    changes. Signs of det are those of ``orientation``, if given; roots are at least ``least``.
    """
    left, values, right_t = np.linalg.svd(layers)
    if orientation is not None:
        # The nearest orthogonal matrix of the other sign turns the smallest singular direction.
        turned = np.linalg.slogdet(left @ right_t)[0] != orientation
        flip = np.where(turned, -1.0, 1.0)
        left = np.concatenate([left[..., :-1], left[..., -1:] * flip[..., None, None]], axis=-1)
    after = prefix_products(left @ right_t)
    before = identity_before(after)
    pulled = right_t @ before
    mean = np.mean((transpose(pulled) * values[..., None, :]) @ pulled, axis=-3, keepdims=True)
    if least is not None:
        roots, basis = np.linalg.eigh(mean)
        floor = np.maximum(8 * layers.shape[-1] * np.finfo(float).eps * roots[..., -1:], least)
        if (roots < floor).any():
            mean = (basis * np.maximum(roots, floor)[..., None, :]) @ transpose(basis)
    return after @ mean @ transpose(before)


def act(group: Array, layers: Array) -> Array:
    """Return the layers ``h_p W_p h_{p-1}^T``, ``h_0 = h_N = I``; h ``(..., N-1, n, n)``."""
    batch = np.broadcast_shapes(group.shape[:-3], layers.shape[:-3])
    turned = np.broadcast_to(layers, batch + layers.shape[-3:]).copy()
    turned[..., :-1, :, :] = group @ turned[..., :-1, :, :]
    turned[..., 1:, :, :] = turned[..., 1:, :, :] @ transpose(group)
    return turned


def act_pullback(group: Array, layers: Array, cotangent: Array) -> tuple[Array, Array]:
    """Return the gradients by h and by W of ``<c, h . W>``."""
    # As `act` with transposes, which acts back on layers.
    by_layers = act(transpose(group), cotangent)
    whole = np.broadcast_to(layers, by_layers.shape)
    before, after = whole[..., :-1, :, :].copy(), whole[..., 1:, :, :].copy()
    before[..., 1:, :, :] = before[..., 1:, :, :] @ transpose(group[..., :-1, :, :])
    after[..., :-1, :, :] = group[..., 1:, :, :] @ after[..., :-1, :, :]
    by_group = cotangent[..., :-1, :, :] @ transpose(before)
    return by_group + transpose(cotangent[..., 1:, :, :]) @ after, by_layers


def factor(frame: Frame, depth: int) -> Array:
    """Return one balanced factorization of X: ``W_1 = L V^T, W_p = L, W_N = U L``.

    ``L = diag(s^(1/N))``; that is ``W_p = Q_p L Q_{p-1}^T`` (Menon, arXiv 2411.09004) with
    ``Q_0 = V``, ``Q_N = U`` and the identity in between. The frame of X may have any depth.
    """
    n = frame.left.shape[-1]
    bases = np.empty((*frame.left.shape[:-2], depth + 1, n, n))
    bases[..., 1:-1, :, :] = np.eye(n)
    bases[..., 0, :, :] = transpose(frame.right_t)
    bases[..., -1, :, :] = frame.left
    turned = Frame.of_bases(bases, frame.singular_values ** (1 / depth))
    return turned.compose(turned.roots)
