r"""Balanced layers of a given end-to-end matrix: one factorization, and the group on its fibre.

Layers with the same invertible end-to-end matrix are an orbit of ``GL(n)^(N-1)``,
``W_p -> g_p W_p g_{p-1}^{-1}`` with ``g_0 = g_N = I``. The balanced ones among them are its points
of least norm, ``sum |W_p|^2 = N sum s^(2/N)``: one orbit of ``O(n)^(N-1)`` (Lindsey and Menon,
arXiv 2511.01137).
"""

from __future__ import annotations

import numpy as np

from dln_manifolds.spectral.balanced import BalancedFrame
from dln_manifolds.spectral.elementary import Array
from dln_manifolds.spectral.frame import SingularFrame, transpose


def act(group: Array, layers: Array) -> Array:
    """Return ``h . W``: the layers ``h_p W_p h_{p-1}^T`` with ``h_0 = h_N = I``.

    Parameters
    ----------
    group : ndarray, shape=[..., N - 1, n, n]
        Orthogonal ``h_1 .. h_{N-1}``.
    layers : ndarray, shape=[..., N, n, n]
        Layers W, balanced or not.

    Returns
    -------
    layers : ndarray, shape=[..., N, n, n]
        Layers with the same end-to-end matrix.
    """
    batch = np.broadcast_shapes(group.shape[:-3], layers.shape[:-3])
    turned = np.broadcast_to(layers, batch + layers.shape[-3:]).copy()
    turned[..., :-1, :, :] = group @ turned[..., :-1, :, :]
    turned[..., 1:, :, :] = turned[..., 1:, :, :] @ transpose(group)
    return turned


def act_pullback(group: Array, layers: Array, cotangent: Array) -> tuple[Array, Array]:
    """Return the gradients by h and by W of ``<c, h . W>``."""
    # As `act` with transposes, which acts back on layers.
    by_layers = act(transpose(group), cotangent)
    before = np.broadcast_to(layers, by_layers.shape).copy()
    before[..., 1:, :, :] = before[..., 1:, :, :] @ transpose(group)
    after = np.broadcast_to(layers, by_layers.shape).copy()
    after[..., :-1, :, :] = group @ after[..., :-1, :, :]
    by_group = cotangent[..., :-1, :, :] @ transpose(before[..., :-1, :, :])
    return by_group + transpose(cotangent[..., 1:, :, :]) @ after[..., 1:, :, :], by_layers


def factor(frame: SingularFrame, depth: int) -> Array:
    r"""Return one balanced factorization of X: ``W_1 = L V^T, W_p = L, W_N = U L``.

    ``L = diag(s^(1/N))``; that is ``W_p = Q_p L Q_{p-1}^T`` (Menon,
    arXiv 2411.09004) with ``Q_0 = V``, ``Q_N = U`` and the identity in between. All layers but the
    first and the last have a positive determinant; the sign of ``det W_1`` is that of ``det V``
    and the sign of ``det W_N`` that of ``det U``, whatever singular value decomposition was taken.

    Parameters
    ----------
    frame : SingularFrame
        Frame of X, square; of any depth, since its roots are not used.
    depth : int
        Number of layers N.

    Returns
    -------
    layers : ndarray, shape=[..., N, n, n]
        Balanced layers with the end-to-end matrix X.
    """
    n = frame.left.shape[-1]
    bases = np.empty((*frame.left.shape[:-2], depth + 1, n, n))
    bases[..., 1:-1, :, :] = np.eye(n)
    bases[..., 0, :, :] = transpose(frame.right_t)
    bases[..., -1, :, :] = frame.left
    return BalancedFrame(bases, frame.singular_values ** (1 / depth)).layers()
