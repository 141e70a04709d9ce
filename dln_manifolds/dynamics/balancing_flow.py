r"""The flow that balances layers without moving their end-to-end matrix.

It is the gradient flow of the squared norm of the layers, the regularizer of weight decay, within
all layers with the same X. The flow, and that it converges to balanced layers at a uniform
exponential rate, are stated in the abstract of Lindsey and Menon, arXiv 2511.01137 (version 2).
The equations and the rate 2 here were derived from that description, not taken from the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse.linalg import LinearOperator, cg

from dln_manifolds.dynamics.gradient_flow import (
    Layers,
    checked_layers,
    checked_times,
    imbalances_of,
    integrate,
    released,
)
from dln_manifolds.errors import ConvergenceError
from dln_manifolds.geometry.balancing import (
    end_to_end,
    end_to_end_pullback,
    imbalance,
    relative_imbalance,
)
from dln_manifolds.geometry.chain import Chain, chain_of
from dln_manifolds.numerics.arrays import Array, ArrayLike
from dln_manifolds.numerics.matrices import transpose

# Relative imbalance that counts as none: a few hundred units in the last place.
_BALANCED = 1e-13
# Diagonal entries of the equations for Y, relative to the largest, that count as zero.
_LOST = 1e-13


@dataclass(frozen=True)
class BalancingFlow:
    """Layers on their way to balance, all with the same X, and times.

    ``layers`` are ``(n_times, N, n, n)``, or at unequal widths a tuple of ``W_p(t)``,
    ``(n_times, d_p, d_{p-1})``.
    """

    times: Array
    layers: Layers

    @property
    def imbalances(self) -> tuple[Array, ...]:
        """``W_{p+1}^T W_{p+1} - W_p W_p^T``, p = 1 .. N-1: ``(n_times, d_p, d_p)`` each."""
        return imbalances_of(self.layers)


def balancing_flow(
    layers: ArrayLike | Sequence[ArrayLike],
    times: ArrayLike | None = None,
    *,
    tolerance: float = 1e-10,
) -> BalancingFlow:
    r"""Follow the gradient flow of ``(1/2) sum |W_p|^2`` within the layers that have the same X.

    It is ``W_p' = (W_N .. W_{p+1})^T Y (W_{p-1} .. W_1)^T - W_p`` with Y such that X does not move.
    In other words, ``W_p' = G_p W_p - W_p G_{p-1}`` with ``G_0 = G_N = 0``, and the projection of
    ``-W`` to that form is that of any solution of

    .. math::
        G_p W_p W_p^T + W_{p+1}^T W_{p+1} G_p - W_p G_{p-1} W_p^T - W_{p+1}^T G_{p+1} W_{p+1}
        = B_p, \qquad B_p = W_{p+1}^T W_{p+1} - W_p W_p^T.

    The rest, ``W + W'``, is the derivative of a function of X, along which imbalances do not
    change. Hence exactly ``B_p(t) = exp(-2 t) B_p(0)``: a uniform rate. Where hidden widths are the
    rank of X, what is integrated are the ``g_p`` of ``W_p(t) = g_p W_p g_{p-1}^{-1}``, so that X
    does not drift; elsewhere it does within the tolerance. For one network at a
    time, and much slower than `dln_manifolds.geometry.alignment.nearest_balanced`, whose result is
    another balanced point of the same X: the limit of the flow is not the nearest one.

    W are the layers of a network of any widths, as `flow_of_layers` takes them. Layers of a higher
    rank than X lose what they have more of it as ``exp(-t)``, so that they never quite have the
    rank of X. The flow starts at the first of the increasing times, by default 0 and the time at
    which nothing but round-off is left of the imbalance. The relative tolerance of the integration
    moves the limit along the fibre of X only.

    Raises `InvalidPointError` or ValueError if these are not layers of one network, or the times do
    not increase; `ConvergenceError` if the integration fails.
    """
    start, chain, dtype = checked_layers(layers)
    if times is None:
        # The decay exp(-2 t) is known beforehand.
        ratio = float(relative_imbalance(start, chain)) / _BALANCED
        times = np.array([0.0, 0.5 * np.log(ratio)]) if ratio > 1 else np.zeros(1)
    times = checked_times(times)
    if chain.count == 1:
        whole = np.repeat(start[None], times.size, axis=0)
        return BalancingFlow(times, released(whole, chain, dtype))

    # Only what the ends do to hidden units: W_1 = R_1^T E_1^T, W_N = E_N R_N.
    first, *inner, last = chain.layers(start)
    (right, before), (left, after) = np.linalg.qr(transpose(first)), np.linalg.qr(last)
    narrow = chain_of((before.shape[0], *chain.widths[1:-1], after.shape[0]))
    small = narrow.gathered([transpose(before), *inner, after])
    values = np.linalg.svd(small, compute_uv=False) if narrow.is_uniform else np.zeros(1)
    if (values[..., -1] > narrow.width * np.finfo(float).eps * values[..., 0]).all():
        path = _by_group(small, times, tolerance)
    else:
        path = _by_layers(small, narrow, times, tolerance)
    first, *inner, last = narrow.layers(path)
    whole = chain.gathered([first @ transpose(right), *inner, left @ last])
    return BalancingFlow(times, released(whole, chain, dtype))


def _by_layers(layers: Array, chain: Chain, times: Array, tolerance: float) -> Array:
    """Follow layers of any widths by the equations for Y; return them at all times."""
    target = end_to_end(layers, chain)

    def rate(_: float, flat: Array) -> Array:
        now = flat.reshape(layers.shape)
        # With the X of the start on the right-hand side, what X may drift decays.
        multiplier = _multiplier(chain.layers(now), chain.count * target, 0.01 * tolerance)
        return (end_to_end_pullback(now, multiplier, chain) - now).ravel()

    states, _ = integrate(rate, layers.ravel(), times, tolerance)
    return states.reshape(times.size, *layers.shape)


def _multiplier(layers: list[Array], right_side: Array, tolerance: float) -> Array:
    """Solve ``sum_p (W_N .. W_{p+1}) (..)^T Y (W_{p-1} .. W_1)^T (..) = M`` for Y."""
    (m, n), behind, ahead = (
        right_side.shape,
        [np.eye(right_side.shape[1])],
        [np.eye(len(right_side))],
    )
    for matrix in layers[:-1]:
        behind.append(matrix @ behind[-1])
    for matrix in layers[:0:-1]:
        ahead.append(ahead[-1] @ matrix)
    lefts = np.stack([x @ transpose(x) for x in ahead[::-1]])
    rights = np.stack([transpose(x) @ x for x in behind])
    # In singular bases of M: there the equations are diagonal where layers are balanced.
    u, _, vt = np.linalg.svd(right_side)
    lefts, rights = transpose(u) @ lefts @ u, vt @ rights @ transpose(vt)
    weights = np.einsum("pii,pjj->ij", lefts, rights)
    # What layers of a higher rank than X have lost of it asks for nothing any more.
    inverse = np.zeros_like(weights)
    kept = weights > _LOST * weights.max()
    inverse[kept] = 1 / weights[kept]

    def product(flat: Array) -> Array:
        image = np.sum(lefts @ flat.reshape(m, n) @ rights, axis=0)
        return np.asarray(np.where(kept, image, 0.0).ravel())

    solution, info = cg(
        LinearOperator((m * n, m * n), matvec=product, dtype=float),
        (transpose(u) @ right_side @ transpose(vt)).ravel(),
        rtol=tolerance,
        M=LinearOperator((m * n, m * n), matvec=lambda y: y * inverse.ravel(), dtype=float),
    )
    _check(info)
    return np.asarray(u @ solution.reshape(m, n) @ vt)


def _by_group(layers: Array, times: Array, tolerance: float) -> Array:
    """Follow invertible layers, ``(N, n, n)``, by the equations for G; return them at all times."""
    n_inner, n = len(layers) - 1, layers.shape[-1]

    def moved(flat: Array) -> Array:
        group = flat.reshape(n_inner, n, n)
        result = layers.copy()
        result[:-1] = group @ result[:-1]
        result[1:] = transpose(np.linalg.solve(transpose(group), transpose(result[1:])))
        return result

    def rate(_: float, flat: Array) -> Array:
        generator = _generator(moved(flat), 0.01 * tolerance)
        return np.asarray(generator @ flat.reshape(n_inner, n, n)).ravel()

    start = np.broadcast_to(np.eye(n), (n_inner, n, n)).ravel()
    states, _ = integrate(rate, start, times, tolerance)
    return np.stack([moved(flat) for flat in states])


def _generator(layers: Array, tolerance: float) -> Array:
    """Solve the equations of `balancing_flow` for G, shape ``(N - 1, n, n)``."""
    below = layers[:-1] @ transpose(layers[:-1])
    above = transpose(layers[1:]) @ layers[1:]
    inner = layers[1:-1]
    shape = below.shape

    def product(flat: Array) -> Array:
        g = flat.reshape(shape)
        image = g @ below + above @ g
        image[1:] -= inner @ g[:-1] @ transpose(inner)
        image[:-1] -= transpose(inner) @ g[1:] @ inner
        return image.ravel()

    # The preconditioner drops the neighbours: a Sylvester equation for each p.
    low, low_basis = np.linalg.eigh(below)
    high, high_basis = np.linalg.eigh(above)

    def precondition(flat: Array) -> Array:
        inside = transpose(high_basis) @ flat.reshape(shape) @ low_basis
        solved = inside / (high[:, :, None] + low[:, None, :])
        return np.asarray(high_basis @ solved @ transpose(low_basis)).ravel()

    size = below.size
    solution, info = cg(
        LinearOperator((size, size), matvec=product, dtype=float),
        imbalance(layers).ravel(),
        rtol=tolerance,
        M=LinearOperator((size, size), matvec=precondition, dtype=float),
    )
    _check(info)
    return np.asarray(solution.reshape(shape))


def _check(info: int) -> None:
    """Raise unless conjugate gradients converged."""
    if info:
        raise ConvergenceError(
            "The linear equations of the balancing flow were not solved: singular values of the "
            "layers lie too far apart."
        )
