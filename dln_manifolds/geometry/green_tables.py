r"""Green's functions of the Jacobi systems between geometric sequences, at every depth.

What curvature asks of the systems ``J_ij`` of :mod:`dln_manifolds.geometry.sectors` are the numbers

.. math::
    G^1_{ij}(k, m) = \langle \alpha^k, J_{ij}^{-1} \alpha^m \rangle, \qquad
    G^2_{ij}(k, m) = \langle \alpha^k, J_{ij}^{-1} \beta^m \rangle

of the sequences ``alpha^k_p = (l_i l_j)^(N-p) l_k^(2p-2)`` and ``beta^k_p = alpha^k_(N-p)``,
p = 1, ..., N-1. For integer depths they are sums over the layers. They sum in closed form too
(ours), so they exist at real depths: with ``x = l^2``, ``f(x) = x^N``, divided differences
``f_ij = f[x_i, x_j]``, ..., and ``w = x_i x_j / x_m``,

.. math::
    c_{ij}(k, m) = \frac{f_{ijk} f_{ijm}}{f_{ij}} - f_{ijkm}, \qquad
    G^2_{ij}(k, m) = s_i s_j c_{ij}(k, m), \qquad
    G^1_{ij}(k, m) = x_i x_j x_m^{N-2} c_{ij}(k, w).

At infinite depth, of the metric ``N g_N``, ``x = 2 log s``, ``f = exp``, ``w = x_i + x_j - x_m``,
and the last factor is ``exp(x_m)``. Below full rank all directions beside the core are one more
index 0 with x = 0, ``f[0, 0] = 0``. With ``g(x) = x^(N-1)``:

.. math::
    c_{ij}(k, 0) = (g_{ij} g_{jk} - g_j g_{ijk}) / f_{ij}, \quad c_{ij}(0, 0) = (x_i x_j)^{N-2} /
    f_{ij}, \quad G^1_{ij}(k, 0) = (x_i x_j)^{N-1} f_{ijk} / f_{ij},

and ``f_ij0 = g_ij``. All are divided by ``sqrt(a_ik a_jk a_im a_jm)``: between sequences of unit
horizontal vectors.
"""

import math
from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np

from dln_manifolds.geometry.coefficients import a, a_side
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.sectors import frequencies, horizontal_direction, sine_matrix
from dln_manifolds.numerics.arrays import Array

# Where logarithms of the nodes x^N differ by less, Taylor series are summed; these many terms.
_NEAR = 0.5
_TERMS = 22
# Beyond this difference of i or j from k or m the two parts of c_ij(k, m) cancel digits.
_APART = 1.0


def divided_difference(nodes: Array, power: float, depth: float) -> Array:
    """Divided difference of ``x^power`` at the nodes ``x = exp(t / N)``, those of the last axis.

    Given t; nodes may coincide. At infinite depth that of ``exp(t)``.
    """
    return _recursive(-np.sort(-nodes, axis=-1), power, depth)


def _recursive(nodes: Array, power: float, depth: float) -> Array:
    """Return divided differences at descending nodes."""
    first, last = nodes[..., 0], nodes[..., -1]
    share = power / depth if math.isfinite(depth) else 1.0
    if nodes.shape[-1] == 1:
        return np.exp(share * first)
    near = first - last < (_NEAR * min(1.0, depth / 2) if math.isfinite(depth) else _NEAR)
    result = np.empty(near.shape)
    if near.any():
        result[near] = _series(nodes[near], power, depth)
    if not near.all():
        far = nodes[~near]
        gap = far[..., 0] - far[..., -1]
        if math.isfinite(depth):
            gap = np.exp(far[..., -1] / depth) * np.expm1(gap / depth)
        upper, lower = (_recursive(part, power, depth) for part in (far[..., :-1], far[..., 1:]))
        result[~near] = (upper - lower) / gap
    return result


def _series(nodes: Array, power: float, depth: float) -> Array:
    """Return divided differences at close nodes, by Taylor series about their mean."""
    order, mean = nodes.shape[-1] - 1, nodes.mean(axis=-1)
    steps = nodes - mean[..., None]
    if math.isfinite(depth):
        steps = np.expm1(steps / depth)
    # Complete homogeneous symmetric polynomials of the steps.
    sums = [np.ones(mean.shape)] + [np.zeros(mean.shape)] * (_TERMS - 1)
    for step in np.moveaxis(steps, -1, 0):
        for k in range(1, _TERMS):
            sums[k] = sums[k] + step * sums[k - 1]
    total, coefficient = np.zeros(mean.shape), 1.0
    for k in range(1, _TERMS + order):
        coefficient *= ((power - k + 1) if math.isfinite(depth) else 1.0) / k
        if k >= order:
            total += coefficient * sums[k - order]
    return total * np.exp(mean * ((power - order) / depth if math.isfinite(depth) else 1.0))


class GreenFunctions(ABC):
    """The numbers G at a batch of points, for index arrays; the index r stands for 0."""

    def __init__(self, frame: Frame) -> None:
        self.frame, self.rank = frame, frame.values.shape[-1]
        # Of roots that are at most one: curvature is of degree -2 in the roots.
        self.unit = frame.roots[..., 0]
        self.singular_values = frame.singular_values / frame.singular_values[..., :1]
        #: One more than the rank, if there is anything beside the core.
        self.size = self.rank + any(frame.sides)

    @abstractmethod
    def between(self, i: Array, j: Array, k: Array, m: Array) -> tuple[Array, Array]:
        """Return both G, for index arrays of shape S: shapes ``(..., *S)``."""

    def at(self, i: Array, j: Array, k: Array, m: Array) -> tuple[Array, Array]:
        """Return both G, zero for k or m equal to i = j.

        There the terms of both sequences cancel in all that curvature asks for.
        """
        i, j, k, m = np.broadcast_arrays(i, j, k, m)
        counts = ~((i == j) & ((k == i) | (m == i)))
        scale = self.unit[(..., *(None,) * i.ndim)] ** -2.0
        first, second = self.between(i, j, k, m)
        return np.where(counts, scale * first, 0.0), np.where(counts, scale * second, 0.0)


class LayeredGreenFunctions(GreenFunctions):
    """Sums over the layers, for integer depths."""

    @cached_property
    def _halves(self) -> Array:
        """Sine transforms of the sequences over frequencies, ``(..., N-1, r, r, size)``."""
        depth, roots = int(self.frame.depth), self.frame.roots / self.unit[..., None]
        unit = horizontal_direction(roots, depth)[..., :-1, :, :]
        if self.size > self.rank:
            beside = np.zeros((*unit.shape[:-1], 1))
            beside[..., :1, :, :] = 1.0
            unit = np.concatenate([unit, beside], axis=-1)
        sequences = unit[..., :, None, :] * unit[..., None, :, :]
        shape = sequences.shape
        waves = sine_matrix(depth) @ sequences.reshape(*shape[:-3], math.prod(shape[-3:]))
        return waves.reshape(shape) / frequencies(roots, depth)[..., None]

    def between(self, i: Array, j: Array, k: Array, m: Array) -> tuple[Array, Array]:
        """Return both G by Parseval's identity."""
        halves = np.moveaxis(self._halves, -4, 0)
        product = halves[..., i, j, k] * halves[..., i, j, m]
        # Turning a sequence around changes the sign of every other wave.
        sign = (-1.0) ** np.arange(len(product)).reshape(-1, *(1,) * (product.ndim - 1))
        return product.sum(axis=0), (sign * product).sum(axis=0)


class SmoothGreenFunctions(GreenFunctions):
    """The closed forms, for every depth."""

    @cached_property
    def _nodes(self) -> Array:
        """``2 log s`` of singular values that are at most one."""
        return 2 * np.log(self.singular_values)

    @cached_property
    def _root_a(self) -> Array:
        """``sqrt(a_ik)``, shape ``(..., r, size)``."""
        depth = self.frame.depth
        core = np.sqrt(a(self.singular_values, depth))
        if self.size == self.rank:
            return core
        side = np.sqrt(a_side(self.singular_values, depth))
        return np.concatenate([core, side[..., None]], axis=-1)

    def _difference(self, *nodes: Array, lowered: int = 0) -> Array:
        """Divided difference of f, or of ``x^(N-1)``."""
        depth = self.frame.depth
        stacked = np.stack(np.broadcast_arrays(*nodes), axis=-1)
        return divided_difference(stacked, depth - lowered, depth)

    def _x(self, nodes: Array, power: float) -> Array:
        """Return ``x^power``."""
        return np.exp(nodes * (power / self.frame.depth))

    def between(self, i: Array, j: Array, k: Array, m: Array) -> tuple[Array, Array]:
        """Return both G, those with the index 0 for themselves."""
        shape, batch = i.shape, self._nodes.shape[:-1]
        i, j, k, m = (index.ravel() for index in (i, j, k, m))
        # Both G are symmetric in k and m, and in i and j.
        k, m = np.minimum(k, m), np.maximum(k, m)
        result = np.empty((2, *batch, i.size))
        single, both = (m == self.rank) & (k < self.rank), k == self.rank
        for members, found in (
            (~single & ~both, self._core),
            (single, self._single_side),
            (both, self._both_sides),
        ):
            if members.any():
                result[..., members] = found(i[members], j[members], k[members], m[members])
        root = self._root_a
        result /= root[..., i, k] * root[..., j, k] * root[..., i, m] * root[..., j, m]
        first, second = result.reshape(2, *batch, *shape)
        return first, second

    def _core(self, i: Array, j: Array, k: Array, m: Array) -> tuple[Array, Array]:
        nodes, depth, s = self._nodes, self.frame.depth, self.singular_values
        t_i, t_j, t_k, t_m = (nodes[..., index] for index in (i, j, k, m))
        second = s[..., i] * s[..., j] * self._overlap(t_i, t_j, t_k, t_m)
        if math.isfinite(depth):
            factor = np.exp((t_i + t_j + (depth - 2) * t_m) / depth)
        else:
            factor = np.exp(t_m)
        return factor * self._overlap(t_i, t_j, t_k, t_i + t_j - t_m), second

    def _overlap(self, t_i: Array, t_j: Array, t_k: Array, t_m: Array) -> Array:
        """Return ``c_ij(k, m)`` without cancellation.

        Where P, one of i and j, is far from K, one of k and m,
        ``(f_ij f_QKM - f_QK f_ijM) / (f_ij (x_P - x_K))`` is the same number.
        """
        low, high = np.minimum(t_i, t_j), np.maximum(t_i, t_j)
        below, above = np.minimum(t_k, t_m), np.maximum(t_k, t_m)
        down = high - below >= above - low
        far = np.maximum(high - below, above - low) > _APART
        f, result = self._difference, np.empty(far.shape)
        ij = f(low, high)
        near = ~far
        if near.any():
            i, j, k, m = (t[near] for t in (low, high, below, above))
            result[near] = f(i, j, k) * f(i, j, m) / ij[near] - f(i, j, k, m)
        if far.any():
            turned, ij = down[far], ij[far]
            low, high, below, above = (t[far] for t in (low, high, below, above))
            p, q = np.where(turned, high, low), np.where(turned, low, high)
            k, m = np.where(turned, below, above), np.where(turned, above, below)
            gap = p - k
            if math.isfinite(self.frame.depth):
                gap = self._x(k, 1.0) * np.expm1(gap / self.frame.depth)
            result[far] = (ij * f(q, k, m) - f(q, k) * f(p, q, m)) / (ij * gap)
        return result

    def _single_side(self, i: Array, j: Array, k: Array, m: Array) -> tuple[Array, Array]:
        nodes, s, depth, f = self._nodes, self.singular_values, self.frame.depth, self._difference
        # Of the smaller j all terms that remain have one sign.
        i, j = np.minimum(i, j), np.maximum(i, j)
        t_i, t_j, t_k = (nodes[..., index] for index in (i, j, k))
        ij = f(t_i, t_j)
        overlap = f(t_i, t_j, lowered=1) * f(t_j, t_k, lowered=1)
        overlap = overlap - self._x(t_j, depth - 1) * f(t_i, t_j, t_k, lowered=1)
        first = self._x(t_i + t_j, depth - 1) * f(t_i, t_j, t_k)
        return first / ij, s[..., i] * s[..., j] * overlap / ij

    def _both_sides(self, i: Array, j: Array, k: Array, m: Array) -> tuple[Array, Array]:
        nodes, s, depth, f = self._nodes, self.singular_values, self.frame.depth, self._difference
        t_i, t_j = nodes[..., i], nodes[..., j]
        ij = f(t_i, t_j)
        first = self._x(t_i + t_j, depth - 1) * f(t_i, t_j, lowered=1)
        return first / ij, s[..., i] * s[..., j] * self._x(t_i + t_j, depth - 2) / ij
