r"""Costs of layers through their product: ``E(W) = E(W_N ... W_1)``."""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from dln_manifolds.costs.base import Cost, Domain
from dln_manifolds.errors import InvalidPointError
from dln_manifolds.geometry.chain import Chain, chain_of, uniform
from dln_manifolds.geometry.tangent_space import TangentSpace
from dln_manifolds.numerics.arguments import whole_sizes
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

    Of a network of given ``widths`` ``d_0, ..., d_N`` points are those of
    ``BalancedManifold(widths=widths)``: where widths differ, vectors ``(..., sum_p d_p d_{p-1})``.

    Examples
    --------
    >>> import numpy as np
    >>> from dln_manifolds import costs
    >>> loss = costs.MatrixCompletion([[1.0, 0.0, 2.0]], [[1, 1, 1]])
    >>> of_layers = costs.OfLayers(loss, widths=(3, 2, 1))
    >>> float(of_layers(np.zeros(2 * 3 + 1 * 2)))
    2.5
    """

    def __init__(self, cost: Cost, widths: Sequence[int] | None = None) -> None:
        if not isinstance(cost, Cost):
            raise TypeError(f"OfLayers takes a cost of matrices, not {type(cost).__name__}.")
        matrices, points = Domain(of_layers=False), Domain(of_layers=True, flat=False)
        self._chain: Chain | None = None
        if widths is not None:
            sizes = whole_sizes("widths", widths, 2)
            self._chain = chain_of(sizes)
            depth, shape = float(len(sizes) - 1), (sizes[-1], sizes[0])
            matrices = matrices._replace(shape=shape, depth=depth, hidden=sizes[1:-1])
            points = points._replace(flat=not self._chain.is_uniform)
        known = matrices.agree(cost.domain, "The argument of OfLayers", "what was given is")
        self.domain = known._replace(of_layers=True, flat=points.flat)
        self.cost = cost
        self._products = PointMemo(self._multiply)
        self._pulled = PointMemo(self._pull)
        self._latest: tuple[TangentSpace, _Inside] | None = None

    def __getstate__(self) -> dict[str, object]:
        """Leave what is remembered behind."""
        return {**self.__dict__, "_latest": None}

    def _layers(self, array: Array, name: str = "point") -> list[Array]:
        """Return views of single layers, the first one first."""
        chain = self._chain
        if chain is None:
            if array.ndim < 3:
                raise InvalidPointError(
                    f"{name} has shape {array.shape}; layers (..., N, n, n) are needed. For layers "
                    f"of unequal widths, in one vector, give OfLayers their widths=(d_0, ..., d_N)."
                )
            chain = uniform(array)
        elif array.shape[-len(chain.array_shape) :] != chain.array_shape:
            wanted = ", ".join(map(str, chain.array_shape))
            raise InvalidPointError(
                f"{name} has shape {array.shape}; the last axes must be ({wanted}), for layers of "
                f"widths {chain.widths}."
            )
        return chain.layers(array)

    # Products and gradients are kept between the calls of a solver, which makes a gradient at N = 2
    # and 4 faster by half than `geometry.balancing.end_to_end_pullback`.

    def _multiply(self, point: Array) -> list[Array]:
        """Return ``W_1``, ``W_2 W_1``, ..., X."""
        return list(accumulate(self._layers(point), lambda product, layer: layer @ product))

    def _pull(self, point: Array) -> list[Array]:
        """Return ``(W_N .. W_{p+1})^T dE(X)`` for p = 1..N."""
        gradient = self.cost.euclidean_gradient(self._products(point)[-1])
        above = self._layers(point)[:0:-1]
        pulled = accumulate(above, lambda back, layer: transpose(layer) @ back, initial=gradient)
        return list(pulled)[::-1]

    def __call__(self, point: Array) -> Array:
        """Return ``E(W_N ... W_1)``."""
        return self.cost(self._products(point)[-1])

    def euclidean_gradient(self, point: Array) -> Array:
        """Return ``(W_N .. W_{p+1})^T dE(X) (W_{p-1} .. W_1)^T`` for all p."""
        before, pulled = self._products(point), self._pulled(point)
        gradient = np.empty_like(point)
        first, *others = self._layers(gradient)
        first[...] = pulled[0]
        for back, behind, layer in zip(pulled[1:], before[:-1], others, strict=True):
            np.matmul(back, transpose(behind), out=layer)
        return gradient

    def euclidean_hessian(self, point: Array, vector: Array) -> Array:
        """Differentiate the gradient along a vector: forward through X, and back."""
        before, pulled = self._products(point), self._pulled(point)
        layers, moving = self._layers(point), self._layers(vector, "vector")
        moved = [moving[0]]
        for layer, change, behind in zip(layers[1:], moving[1:], before[:-1], strict=True):
            moved.append(layer @ moved[-1] + change @ behind)
        back = self.cost.euclidean_hessian(before[-1], moved[-1])
        hessian = np.empty_like(point)
        parts = self._layers(hessian)
        for p in range(len(layers) - 1, 0, -1):
            np.matmul(back, transpose(before[p - 1]), out=parts[p])
            parts[p] += pulled[p] @ transpose(moved[p - 1])
            back = transpose(layers[p]) @ back + transpose(moving[p]) @ pulled[p]
        parts[0][...] = back
        return hessian

    def lower_bound(self, point: Array) -> float:
        """Return the bound of the cost at the end-to-end matrix."""
        return self.cost.lower_bound(self._products(point)[-1])

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
