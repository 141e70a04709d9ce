r"""Curvature of end-to-end matrices, in closed spectral form.

The Gauss equation of balanced layers and O'Neill's formula in one (ours): normal and vertical
vectors are linear in the layers, ``W_p S_{p-1} - S_p W_p`` with S symmetric or skew, and both come
of one Jacobi system. With the horizontal lifts ``x_p`` in the frames of layers whose hidden widths
are the rank, and geomstats' sign of R,

.. math::
    F(x, y)_p = y_p x_p^T - x_{p+1}^T y_{p+1}, \qquad \Phi(x, y) = J^{-1} F(x, y), \qquad
    (\Phi \cdot x)_p = \Phi_p x_p - x_p \Phi_{p-1},

    R(x, y) z = hor [\Phi(y, z) \cdot x - \Phi(x, z) \cdot y
                     - (\Phi(x, y) - \Phi(y, x)) \cdot z].

That is O(N r^3). At any real depth, infinity included, F has two geometric sequences for each
three indices, between which ``J^-1`` is known in closed form
(:mod:`dln_manifolds.geometry.green_tables`): O(r^4). Vectors are `Frame.blocks` divided by
`Frame.root_weights`, which are orthonormal.
"""

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import NamedTuple

import numpy as np

from dln_manifolds.geometry import sectors
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.green_tables import (
    GreenFunctions,
    LayeredGreenFunctions,
    SmoothGreenFunctions,
)
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import diagonal, transpose

# Of more layers the closed forms are cheaper.
_MOST_LAYERS = 64
# Sines of the angle between vectors that rounding alone tells from zero.
_PARALLEL = 64 * np.finfo(float).eps
# Those below which one subtraction leaves too much of the other vector.
_OBLIQUE = 0.5
# Sums of squares in between have lost nothing that matters to over- or underflow.
_SMALLEST, _LARGEST = 1e-250, 1e250


class Curvature(ABC):
    """The curvature at a batch of points, of tangent vectors there."""

    frame: Frame

    @abstractmethod
    def tensor(self, x: Array, y: Array, z: Array) -> Array:
        """Return ``R(x, y) z``."""

    @abstractmethod
    def sectional(self, x: Array, y: Array) -> Array:
        """Return the sectional curvature of planes, NaN where vectors are parallel, ``(...)``."""

    @abstractmethod
    def riemann(self) -> Array:
        """Return ``R_ijkl``, entry l of ``R(e_j, e_k) e_i``, of the M entries: (..., M, M, M, M).

        Normal parts are dropped.
        """

    @abstractmethod
    def ricci(self) -> Array:
        """Return the Ricci tensor on entries, normal parts dropped, ``(..., M, M)``."""

    @abstractmethod
    def scalar(self) -> Array:
        """Return the scalar curvature, ``(...)``."""


class MatrixCurvature(Curvature):
    """The curvature of end-to-end matrices, from F and Phi in orthonormal blocks.

    The vectors may have further axes in front. Phi and F are arrays with ``axes`` axes, those of
    the indices i and j a ``pair`` of them.
    """

    axes: int
    pair: tuple[int, int]
    greens: type[GreenFunctions]
    root_weights: Array

    def __init__(self, frame: Frame) -> None:
        self.frame, self.rank = frame, frame.values.shape[-1]

    @cached_property
    def green(self) -> GreenFunctions:
        """Green's functions of the Jacobi systems."""
        return self.greens(self.frame)

    @abstractmethod
    def product(self, x: Array, y: Array) -> Array:
        """Return ``F(x, y)``."""

    @abstractmethod
    def solve(self, product: Array) -> Array:
        """Return ``J^-1 F``."""

    def turned(self, product: Array) -> Array:
        """Return ``F(y, x)`` of ``F(x, y)``, and Phi alike: i and j are exchanged."""
        return product.swapaxes(*self.pair)

    @abstractmethod
    def act(self, phi: Array, x: Array) -> Array:
        """Return the horizontal part of ``Phi . x``."""

    def _enter(self, vector: Array) -> Array:
        """Express tangent vectors in orthonormal blocks."""
        return self.frame.blocks(vector) / self.root_weights

    def tensor(self, x: Array, y: Array, z: Array) -> Array:
        """Return ``R(x, y) z``."""
        x, y, z = map(self._enter, (x, y, z))
        xy = self.product(x, y)
        bent = self.act(self.solve(self.product(y, z)), x)
        bent = bent - self.act(self.solve(self.product(x, z)), y)
        bent = bent - self.act(self.solve(xy - self.turned(xy)), z)
        return self.frame.assemble(bent * self.root_weights)

    def sectional(self, x: Array, y: Array) -> Array:
        """Return ``<F(x, x), Phi(y, y)> + <F(x, y) - 2 F(y, x), Phi(x, y)>``, x, y orthonormal."""
        # Both at once: small matrices cost by the call, and so does broadcasting of equal shapes.
        pair = np.stack((x, y) if x.shape == y.shape else np.broadcast_arrays(x, y))
        pair = pair.reshape(2, *[1] * (self.frame.left.ndim + 1 - pair.ndim), *pair.shape[1:])
        pair, plane = orthonormal_plane(self._enter(pair))
        products = self.product(pair.take([0, 1, 0], axis=0), pair.take([0, 1, 1], axis=0))
        return np.where(plane, self._of_plane(products), np.nan)

    @abstractmethod
    def _of_plane(self, products: Array) -> Array:
        """Return the sectional curvature from F(x, x), F(y, y), F(x, y) of orthonormal x and y."""

    def riemann(self) -> Array:
        """Return all ``<R(e_j, e_k) e_i, e_l>`` from one matrix of products of pairs."""
        frame, each = self.frame.beside(), type(self)(self.frame.beside().beside())
        m, n = frame.left.shape[-2], frame.right_t.shape[-1]
        d = m * n
        units = frame.blocks(np.eye(d).reshape(d, m, n))
        x, w = units / frame.root_weights, units * frame.root_weights
        x_after, x_before = x[..., :, None, :, :], x[..., None, :, :, :]
        pairs = each.solve(each.product(x_after, x_before))
        others = each.product(x_after, w[..., None, :, :, :])
        size = math.prod(pairs.shape[-self.axes :])
        pairs, others = (
            v.reshape(*v.shape[: -self.axes - 2], d * d, size) for v in (pairs, others)
        )
        # <Phi(e_a, e_b), F(e_c, e_l)>
        found = pairs @ transpose(others)
        found = found.reshape(*found.shape[:-2], d, d, d, d)
        terms = {"kijl": 1.0, "jikl": -1.0, "jkil": -1.0, "kjil": 1.0}
        return sum(sign * np.einsum(f"...{axes}->...ijkl", found) for axes, sign in terms.items())

    @cached_property
    def _ricci_weights(self) -> "_RicciWeights":
        rank, green = self.rank, self.green
        core, every = np.arange(rank), np.arange(green.size)
        left, right = (np.where(every < rank, 1, max(rows - rank, 0)) for rows in self.frame.sides)
        i, j = core[:, None], core
        # Over an orthonormal basis the sum of F(e, e) is constant, and that of F(x, e) F(x, e)
        # pairs equal indices.
        first, second = green.at(i[..., None], i[..., None], every[:, None], every)
        along, against = first @ right - second @ left, first @ left - second @ right
        same = green.at(i[..., None], core[:, None], every, every)[0].sum(axis=-2)
        same = same - 2 * diagonal(first)
        along, against = along + same, against + same
        exchange = green.at(i, j, i, i)[1]
        return _RicciWeights(
            along[..., :rank] + transpose(against[..., :rank]),
            2 * (exchange + transpose(exchange)),
            -2 * green.at(i, j, j, i)[1],
            against[..., rank:],
            along[..., rank:],
        )

    def ricci(self) -> Array:
        """Return the Ricci tensor on entries."""
        frame, weights = self.frame.beside(), self._ricci_weights
        m, n = frame.left.shape[-2], frame.right_t.shape[-1]
        x = frame.blocks(np.eye(m * n).reshape(m * n, m, n)) / frame.root_weights
        entries, exchange, traces, *sides = (part[..., None, :, :] for part in weights)
        core, left, right = frame.split(x)
        result = entries * core + exchange * transpose(core)
        diagonal(result)[...] += np.einsum("...ij,...j->...i", traces, diagonal(core))
        bent = frame.stack(
            result, *(a * transpose(b) for a, b in zip((left, right), sides, strict=True))
        )
        return np.einsum("...aij,...bij->...ab", x, bent)

    def scalar(self) -> Array:
        """Return the scalar curvature, shape ``(...)``."""
        weights = self._ricci_weights
        total = weights.entries.sum(axis=(-2, -1))
        total = total + diagonal(weights.exchange + weights.diagonal).sum(axis=-1)
        for rows, side in zip(self.frame.sides, weights[3:], strict=True):
            total = total + max(rows - self.rank, 0) * side.sum(axis=(-2, -1))
        return total


class LayeredCurvature(MatrixCurvature):
    """By the Jacobi systems of the layers, for integer depths. Phi has a matrix for each p."""

    axes, pair, greens = 3, (-2, -1), LayeredGreenFunctions

    def __init__(self, frame: Frame) -> None:
        super().__init__(frame)
        depth, roots = int(frame.depth), frame.roots
        # Of roots that are at most one: curvature is of degree -2 in them.
        self._scale = scale = roots[..., :1, None]
        unit = roots / scale[..., 0]
        powers = unit[..., None, :] ** np.arange(depth)[:, None]
        self._outer = powers[..., 1:, :, None] * powers[..., 1:, None, :]
        self._squares = powers * powers
        self._size = np.sqrt(transpose(self._squares[..., ::-1, :]) @ self._squares)
        sided = any(frame.sides)
        self.root_weights = frame.root_weights if sided else self._size * scale ** (depth - 1)
        self._weights = 1 / sectors.squared_frequencies(unit, depth)

    @cached_property
    def direction(self) -> Array:
        """`sectors.horizontal_direction`."""
        return sectors.horizontal_direction(self.frame.roots, int(self.frame.depth))

    def product(self, x: Array, y: Array) -> Array:
        """Return ``F(x, y)``, what is beside the core in the first and the last of them.

        With the diagonal matrices D of powers of roots the lifts are ``D^(N-p) c D^(p-1)``.
        """
        (x, x_left, x_right), (y, y_left, y_right) = self.frame.split(x), self.frame.split(y)
        # The sizes are symmetric. In the order in which they are multiplied.
        y, turned = y / self._size, np.divide(transpose(x), self._size, order="C")
        between = self._squares[..., :-1, None, :]
        result = _stacked(y[..., None, :, :] * between, turned)
        result *= self._outer[..., ::-1, :, :]
        other = _stacked(turned[..., None, :, :] * between[..., ::-1, :, :], y)
        other *= self._outer
        result -= other
        if any(self.frame.sides):
            result[..., 0, :, :] += transpose(y_right) @ x_right
            result[..., -1, :, :] -= transpose(x_left) @ y_left
        return result

    def _waves(self, product: Array) -> Array:
        """Return the sine transform along the layers."""
        shape = product.shape
        sines = sectors.sine_matrix(shape[-3] + 1)
        return (sines @ product.reshape(*shape[:-2], self.rank**2)).reshape(shape)

    def solve(self, product: Array) -> Array:
        """Solve the Jacobi systems."""
        scale = self._scale[..., None]
        return self._waves(self._waves(product) * self._weights) / scale / scale

    def _of_plane(self, products: Array) -> Array:
        """Return the form by Parseval's identity."""
        xx, yy, xy = self._waves(products)
        terms = xx * yy + xy * (xy - 2 * transpose(xy))
        scale = self._scale[..., 0, 0]
        return np.asarray(np.einsum("...kij,...kij->...", terms, self._weights) / scale / scale)

    def act(self, phi: Array, x: Array) -> Array:
        """Return the horizontal part of ``Phi_p x_p - x_p Phi_{p-1}``."""
        core, left, right = self.frame.split(x)
        moved = -sectors.normal_vector(self.direction * core[..., None, :, :], phi)
        core = np.sum(self.direction * moved, axis=-3)
        if not any(self.frame.sides):
            return core
        down, up = -left @ phi[..., -1, :, :], right @ transpose(phi[..., 0, :, :])
        return self.frame.stack(core, down, up)


class SmoothCurvature(MatrixCurvature):
    """By closed forms of the Jacobi systems, for every depth.

    Phi has two channels, of multiples of ``alpha^k`` and ``beta^k`` at [i, j, k].
    """

    axes, pair, greens = 4, (-3, -2), SmoothGreenFunctions

    def __init__(self, frame: Frame) -> None:
        super().__init__(frame)
        self.root_weights = frame.root_weights
        # Symmetric in i and j, and in k and m: once for each pair of pairs.
        pairs, places = zip(*map(_pairs, (self.rank, self.green.size)), strict=True)
        (i, j), (k, m) = pairs
        found = self.green.at(i[:, None], j[:, None], k, m)
        rows, columns = places[0][:, :, None, None], places[1]
        self.tables = [values[..., rows, columns] for values in found]

    def product(self, x: Array, y: Array) -> Array:
        """Return ``F(x, y)``; what is beside the core counts for one index."""
        (x, x_left, x_right), (y, y_left, y_right) = self.frame.split(x), self.frame.split(y)
        batch, rank = np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), self.rank
        result = np.empty((*batch, 2, rank, rank, self.green.size))
        result[..., 0, :, :, :rank] = y[..., :, None, :] * x[..., None, :, :]
        result[..., 1, :, :, :rank] = -transpose(x)[..., None, :] * transpose(y)[..., None, :, :]
        if any(self.frame.sides):
            result[..., 0, :, :, rank] = transpose(y_right) @ x_right
            result[..., 1, :, :, rank] = -transpose(x_left) @ y_left
        return result

    def solve(self, product: Array) -> Array:
        """Multiply by both tables."""
        first, second = (table[..., None, :, :, :, :] for table in self.tables)
        other = product[..., ::-1, :, :, :]
        return (first @ product[..., None] + second @ other[..., None])[..., 0]

    def _of_plane(self, products: Array) -> Array:
        """Return the form as it stands."""
        solved = self.solve(products[1:])
        products[2] = products[2] - 2 * self.turned(products[2])
        return np.sum(products[::2] * solved, axis=(0, -4, -3, -2, -1))

    def act(self, phi: Array, x: Array) -> Array:
        """Return the horizontal part: the adjoint of ``w -> F(x, w)``."""
        core, left, right = self.frame.split(x)
        along, against = phi[..., 0, :, :, :], phi[..., 1, :, :, :]
        inside = slice(self.rank)
        result = np.einsum("...ijk,...jk->...ik", along[..., inside], core)
        result -= np.einsum("...ijk,...ki->...kj", against[..., inside], core)
        if not any(self.frame.sides):
            return result
        down, up = -left @ against[..., self.rank], right @ transpose(along[..., self.rank])
        return self.frame.stack(result, down, up)


class _RicciWeights(NamedTuple):
    r"""Coefficients of the Ricci operator in orthonormal blocks x.

    ``entries_ij x_ij + exchange_ij x_ji + delta_ij sum_k diagonal_ik x_kk`` in the core, of shapes
    ``(..., r, r)``, and multiples of the columns beside it, ``(..., r, 1)`` or without columns.
    """

    entries: Array
    exchange: Array
    diagonal: Array
    left: Array
    right: Array


def curvature_of(frame: Frame) -> MatrixCurvature:
    """Return the curvature at end-to-end matrices, in the form that their depth allows."""
    depth = frame.depth
    # Of one layer, what is beside the core bends without any Jacobi system.
    least = 2 if any(frame.sides) else 1
    layered = float(depth).is_integer() and least <= depth <= _MOST_LAYERS
    return LayeredCurvature(frame) if layered else SmoothCurvature(frame)


def _stacked(matrices: Array, right: Array) -> Array:
    """Return the products of many matrices ``(..., k, r, r)`` and one ``(..., r, r)``."""
    shape = matrices.shape
    result = matrices.reshape(*shape[:-3], shape[-3] * shape[-2], shape[-1]) @ right
    return result.reshape(*result.shape[:-2], *shape[-3:])


def _pairs(n: int) -> tuple[tuple[Array, Array], Array]:
    """Return the index pairs i <= j, and the place of each pair among them."""
    i, j = np.triu_indices(n)
    place = np.empty((n, n), dtype=int)
    place[i, j] = place[j, i] = np.arange(i.size)
    return (i, j), place


def orthonormal_plane(pair: Array, n_axes: int = 2) -> tuple[Array, Array]:
    """Return orthonormal vectors of the planes of x and y, ``(2, ...)``, and where there is one.

    Vectors have ``n_axes`` axes.
    """
    batch = pair.shape[: pair.ndim - n_axes]
    found = _unit(pair.reshape(*batch, math.prod(pair.shape[len(batch) :])))
    (x, y), size = found, np.ones((*batch[1:], 1))
    for _ in range(2):  # Twice is enough.
        y -= x * _product(x, y)
        length = np.sqrt(_product(y, y))
        y /= np.maximum(length, _SMALLEST)
        size = size * length
        if (length > _OBLIQUE).all():
            break
    return found.reshape(pair.shape), size[..., 0] > _PARALLEL


def _product(x: Array, y: Array) -> Array:
    """Return inner products of vectors, ``(..., 1)``."""
    return np.asarray(np.einsum("...i,...i->...", x, y))[..., None]


def _unit(x: Array) -> Array:
    """Return unit vectors at every scale, zero of zero."""
    square = _product(x, x)
    if not (square.min(initial=1.0) > _SMALLEST and square.max(initial=1.0) < _LARGEST):
        largest = np.abs(x).max(axis=-1, keepdims=True, initial=0.0)
        x = x / np.maximum(largest, np.finfo(float).tiny)
        square = np.maximum(_product(x, x), _SMALLEST)
    return np.asarray(x / np.sqrt(square))
