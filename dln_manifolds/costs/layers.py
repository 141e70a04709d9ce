r"""Costs of layers through their product: ``E(W) = E(W_N ... W_1)``."""

from typing import NamedTuple

import numpy as np

from dln_manifolds.costs.base import Cost, Domain
from dln_manifolds.geometry.tangent_space import TangentSpace
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.cache import PointMemo
from dln_manifolds.numerics.matrices import transpose


class _Inside(NamedTuple):
    """Factors of the Hessian in the frames of a balanced point, p the first axis where there is."""

    point: Array  # X
    weights: Array  # l_i^(N-p) l_j^(p-1) for p = 1..N
    gradient: Array  # G = Q_N^T dE(X) Q_0
    left: Array  # L^(N-p) G for p = 2..N
    right: Array  # G L^(p-1) for p = 1..N-1


class OfLayers(Cost):
    r"""A ``cost`` of the end-to-end matrix as one of the layers W, shape ``(..., N, n, n)``.

    Its gradient ``(W_N .. W_{p+1})^T dE(X) (W_{p-1} .. W_1)^T`` is horizontal at balanced layers.
    A Hessian-vector product takes ``6 (N - 1)`` products of matrices besides that of E; the layers
    follow one another in them, so there is a loop over layers.
    """

    def __init__(self, cost: Cost) -> None:
        if not isinstance(cost, Cost):
            raise TypeError(f"OfLayers takes a cost of matrices, not {type(cost).__name__}.")
        matrices = Domain(of_layers=False)
        known = matrices.agree(cost.domain, "The argument of OfLayers", "what was given is")
        self.domain = known._replace(of_layers=True)
        self.cost = cost
        self._products = PointMemo(self._multiply)
        self._pulled = PointMemo(self._pull)
        self._latest: tuple[TangentSpace, _Inside] | None = None

    def __getstate__(self) -> dict[str, object]:
        """Leave what is remembered behind."""
        return {**self.__dict__, "_latest": None}

    # Products and gradients are kept between the calls of a solver, which makes a gradient at N = 2
    # and 4 faster by half than `geometry.balancing.end_to_end_pullback`.

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

    def _inside(self, layers: Array, space: TangentSpace) -> _Inside:
        latest = self._latest
        if latest is not None and latest[0] is space:
            return latest[1]
        point = self._products(layers)[-1]
        gradient = space.enter_end(self.cost.euclidean_gradient(point))
        row, column = space.row_powers[::-1], space.column_powers
        found = _Inside(point, row * column, gradient, row[1:] * gradient, gradient * column[:-1])
        self._latest = (space, found)
        return found

    def riemannian_gradient(self, layers: Array, space: TangentSpace) -> Array:
        """Return the gradient at balanced layers; the Euclidean one is horizontal already."""
        inside = self._inside(layers, space)
        return space.leave(inside.weights * inside.gradient)

    def riemannian_hessian(self, layers: Array, space: TangentSpace, vector: Array) -> Array:
        r"""Return the Riemannian Hessian along a tangent vector at balanced layers.

        The gradient has no normal part, so this is the tangent part of the Euclidean Hessian. In
        the frames layers are diagonal, and with ``B_p = sum_(q<=p) L^(p-q) V~_q L^(q-1)`` and
        ``A_p = sum_(q>p) L^(N-q) V~_q L^(q-p-1)``, the derivatives of the products behind and ahead
        of layer p, it is the tangent part of ``L^(N-p) (G' L^(p-1) + G B_(p-1)^T) + A_p^T G
        L^(p-1)``: as many products of matrices as the Euclidean Hessian itself takes.
        """
        inside, depth = self._inside(layers, space), space.depth
        moving = space.enter(vector)
        behind, ahead = np.empty_like(moving), np.empty_like(moving[1:])
        behind[0] = moving[0]
        for p in range(1, depth):
            np.multiply(space.column_powers[p], moving[p], out=behind[p])
            behind[p] += space.row * behind[p - 1]
        along = space.leave_end(behind[-1])
        hessian = inside.weights * space.enter_end(self.cost.euclidean_hessian(inside.point, along))
        if depth > 1:
            # A_p is needed for p < N, and there stands at place p - 1.
            ahead[-1] = moving[-1]
            for p in range(depth - 2, 0, -1):
                np.multiply(space.row_powers[depth - 1 - p], moving[p], out=ahead[p - 1])
                ahead[p - 1] += ahead[p] * space.column
            hessian[1:] += inside.left @ transpose(behind[:-1])
            hessian[:-1] += transpose(ahead) @ inside.right
        return space.leave(space.project(hessian))
