r"""Costs of layers through their product: ``E(W) = E(W_N ... W_1)``."""

from __future__ import annotations

import numpy as np

from dln_manifolds.costs.base import Cost
from dln_manifolds.memo import PointMemo
from dln_manifolds.spectral.elementary import Array
from dln_manifolds.spectral.frame import transpose


class OfLayers(Cost):
    r"""A cost of the end-to-end matrix as one of the layers W, shape ``(..., N, n, n)``.

    Parameters
    ----------
    cost : Cost
        Function of ``X = W_N ... W_1``.

    Notes
    -----
    Its gradient ``(W_N .. W_{p+1})^T dE(X) (W_{p-1} .. W_1)^T`` is horizontal at balanced layers.
    A Hessian-vector product takes ``6 (N - 1)`` products of matrices besides that of E; the layers
    follow one another in them, so there is a loop over layers.
    """

    def __init__(self, cost: Cost) -> None:
        self.cost = cost
        self._products = PointMemo(self._multiply)
        self._pulled = PointMemo(self._pull)

    def _multiply(self, layers: Array) -> list[Array]:
        """Return ``W_1``, ``W_2 W_1``, ..., X."""
        products = [layers[..., 0, :, :]]
        for p in range(1, layers.shape[-3]):
            products.append(layers[..., p, :, :] @ products[-1])
        return products

    def _pull(self, layers: Array) -> list[Array]:
        """Return ``(W_N .. W_{p+1})^T dE(X)`` for p = 1..N."""
        pulled = [self.cost.euclidean_gradient(self._products(layers)[-1])]
        for p in range(layers.shape[-3] - 1, 0, -1):
            pulled.append(transpose(layers[..., p, :, :]) @ pulled[-1])
        return pulled[::-1]

    def __call__(self, point: Array) -> Array:
        """Return ``E(W_N ... W_1)``."""
        return self.cost(self._products(point)[-1])

    def euclidean_gradient(self, point: Array) -> Array:
        """Return ``(W_N .. W_{p+1})^T dE(X) (W_{p-1} .. W_1)^T`` for all p."""
        before, pulled = self._products(point), self._pulled(point)
        gradient = np.empty_like(point)
        gradient[..., 0, :, :] = pulled[0]
        for p in range(1, point.shape[-3]):
            np.matmul(pulled[p], transpose(before[p - 1]), out=gradient[..., p, :, :])
        return gradient

    def euclidean_hessian(self, point: Array, vector: Array) -> Array:
        """Differentiate the gradient along a vector: forward through X, and back."""
        before, pulled = self._products(point), self._pulled(point)
        depth = point.shape[-3]
        moved = [vector[..., 0, :, :]]
        for p in range(1, depth):
            moved.append(point[..., p, :, :] @ moved[-1] + vector[..., p, :, :] @ before[p - 1])
        back = self.cost.euclidean_hessian(before[-1], moved[-1])
        hessian = np.empty_like(point)
        for p in range(depth - 1, 0, -1):
            hessian[..., p, :, :] = back @ transpose(before[p - 1])
            hessian[..., p, :, :] += pulled[p] @ transpose(moved[p - 1])
            back = (
                transpose(point[..., p, :, :]) @ back + transpose(vector[..., p, :, :]) @ pulled[p]
            )
        hessian[..., 0, :, :] = back
        return hessian
