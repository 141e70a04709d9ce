r"""The flow that balances layers without moving their end-to-end matrix.

It is the gradient flow of the squared norm of the layers, the regularizer of weight decay, within
all layers with the same X. The flow, and that it converges to balanced layers at a uniform
exponential rate, are stated in the abstract of Lindsey and Menon, arXiv 2511.01137 (version 2).
The equations and the rate 2 here were derived from that description, not taken from the paper.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse.linalg import LinearOperator, cg

from dln_manifolds.dynamics.gradient_flow import checked_start, checked_times, integrate
from dln_manifolds.errors import ConvergenceError, InvalidPointError
from dln_manifolds.geometry.balancing import imbalance, relative_imbalance
from dln_manifolds.numerics.arrays import Array, ArrayLike
from dln_manifolds.numerics.matrices import transpose

# Relative imbalance that counts as none: a few hundred units in the last place.
_BALANCED = 1e-13


@dataclass(frozen=True)
class BalancingFlow:
    """Layers on their way to balance, ``(n_times, N, n, n)``, all with the same X, and times."""

    times: Array
    layers: Array


def balancing_flow(
    layers: ArrayLike, times: ArrayLike | None = None, *, tolerance: float = 1e-10
) -> BalancingFlow:
    r"""Follow the gradient flow of ``(1/2) sum |W_p|^2`` within the layers that have the same X.

    It is ``W_p' = G_p W_p - W_p G_{p-1}`` with ``G_0 = G_N = 0``, and the projection of ``-W`` to
    that form is the solution of

    .. math::
        G_p W_p W_p^T + W_{p+1}^T W_{p+1} G_p - W_p G_{p-1} W_p^T - W_{p+1}^T G_{p+1} W_{p+1}
        = B_p, \qquad B_p = W_{p+1}^T W_{p+1} - W_p W_p^T.

    The rest, ``W + W'``, is the derivative of a function of X, along which imbalances do not
    change. Hence exactly ``B_p(t) = exp(-2 t) B_p(0)``: a uniform rate. What is integrated are the
    ``g_p`` of ``W_p(t) = g_p W_p g_{p-1}^{-1}``, so that X does not drift. For one network at a
    time, and much slower than `dln_manifolds.geometry.alignment.nearest_balanced`, whose result is
    another balanced point of the same X.

    W are invertible layers, shape ``(N, n, n)``. The flow starts at the first of the increasing
    times, by default 0 and the time at which nothing but round-off is left of the imbalance. The
    relative tolerance of the integration moves the limit along the fibre of X only.

    Raises `InvalidPointError` or ValueError if a layer is singular, these are not layers of one
    network, or the times do not increase; `ConvergenceError` if the integration fails, as it may
    for layers that are nearly singular.
    """
    layers, dtype = checked_start(layers, 3, "layers")
    n_inner, n = layers.shape[0] - 1, layers.shape[-1]
    values = np.linalg.svd(layers, compute_uv=False)
    singular = np.nonzero(values[:, -1] <= n * np.finfo(float).eps * values[:, 0])[0]
    if singular.size:
        raise InvalidPointError(
            f"Layer {singular[0]} (counted from 0) is singular; the balancing flow is defined for "
            f"invertible layers."
        )
    if times is None:
        # The decay exp(-2 t) is known beforehand.
        ratio = float(relative_imbalance(layers)) / _BALANCED
        times = np.array([0.0, 0.5 * np.log(ratio)]) if ratio > 1 else np.zeros(1)
    times = checked_times(times)
    if n_inner == 0:
        return BalancingFlow(times, np.repeat(layers[None], times.size, axis=0).astype(dtype))

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
    return BalancingFlow(times, np.stack([moved(flat) for flat in states]).astype(dtype))


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
    if info:
        raise ConvergenceError(
            "The linear equations of the balancing flow were not solved: the layers are singular "
            "or nearly so."
        )
    return np.asarray(solution.reshape(shape))
