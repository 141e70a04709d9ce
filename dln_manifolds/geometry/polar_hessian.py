"""The Hessian of the Lagrangian of the polar chart, at many points at once."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import NamedTuple, Self

import numpy as np

from dln_manifolds.geometry.polar_chart import (
    SIDES,
    NodalState,
    both_sides,
    completed_state,
    paired,
)
from dln_manifolds.geometry.polar_flow import Core, core_force, skewed
from dln_manifolds.geometry.stretch import PairWeights, pair_weights, per_layer
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import diagonal, transpose

# Relative gap to which eigenvalues are spread for second derivatives.
_SPREAD = 1e-4
# Bytes of directions that are varied at once: some ten arrays of them stay in cache.
_CHUNK = 200_000


class SecondVariation:
    """Linearized derivatives of L at nodes: its Hessian, along directions and their velocities."""

    def __init__(self, nodal: NodalState, depth: float, precision: type = np.float64) -> None:
        d, roots = nodal.core.d, nodal.core.roots
        self._n_nodes = d.shape[1]
        crowded = (np.diff(d, axis=-1) < _SPREAD * roots[..., 1:]).any()
        if crowded:
            # Too close for quotients of differences. Newton's method, which this serves, has the
            # same limit with eigenvalues that are spread.
            d = d.copy()
            for i in range(1, d.shape[-1]):
                d[..., i] = np.maximum(d[..., i], d[..., i - 1] + _SPREAD * roots[..., i])
        weights = pair_weights(d, depth, second=True)
        if crowded:
            velocity = nodal.core.s, nodal.core.w
            nodal = completed_state(d, nodal.core.axes, weights, velocity, nodal[1:4], depth)

        def flat(value: Array) -> Array:
            return np.asarray(_flat(value), dtype=precision)

        self._core = _CoreVariation.of(nodal, weights, depth, precision).mapped(flat)
        self._sides = None
        if nodal.rows.shape[-2]:
            self._sides = _SideVariation.of(nodal, depth).mapped(flat)

    def take(self, members: Array) -> Self:
        """Return the linearization of some members, along the first batch axis."""

        def chosen(value: Array) -> Array:
            apart = value.reshape(-1, self._n_nodes, *value.shape[1:])[members]
            return _flat(apart)

        part = object.__new__(type(self))
        part._n_nodes, part._core = self._n_nodes, self._core.mapped(chosen)
        part._sides = None if self._sides is None else self._sides.mapped(chosen)
        return part

    def apply(self, moved: Array) -> Array:
        """Differentiate along directions and their velocities, at each node one after the other.

        Shape ``(n_batch, 2 n_nodes, r + 2p, r)``; returns changes of the derivatives alike.
        """
        n_batch, double, rows, r = moved.shape
        pairs = moved.reshape(n_batch * double // 2, 2, rows, r)
        step = max(1, _CHUNK // (moved.itemsize * rows * r))
        if len(pairs) <= step:
            return _varied(self._core, self._sides, pairs).reshape(moved.shape)
        result = np.empty_like(pairs)
        for low in range(0, len(pairs), step):
            some = slice(low, low + step)
            core, sides = self._core.mapped(itemgetter(some)), self._sides
            if sides is not None:
                sides = sides.mapped(itemgetter(some))
            result[some] = _varied(core, sides, pairs[some])
        return result.reshape(moved.shape)


def _flat(value: Array) -> Array:
    """Merge members and nodes."""
    return value.reshape(-1, *value.shape[2:])


def _varied(core: _CoreVariation, sides: _SideVariation | None, moved: Array) -> Array:
    """Do as `SecondVariation.apply` on a list of nodes, ``(n, 2, rows, r)``."""
    n, _, rows, r = moved.shape
    moved = (moved.reshape(n, 2 * rows, r) @ core.axes).reshape(moved.shape)
    block = core.half_axes_t[:, None] @ moved[:, :, :r]
    stretched, turned = block + transpose(block), skewed(block)
    h, k = stretched[:, 0], turned[:, 0]
    by_k = (core.turned @ k).reshape(n, 4, r, r)
    by_h = (core.stretched @ h).reshape(n, 2, r, r)
    # changes of a, m, w / 2, and of the sum and the difference of the cores of p_L and p_R
    change = np.empty((n, 5, r, r), moved.dtype)
    np.subtract(by_k, transpose(by_k), out=change[:, 1:])
    da, dm, dw, total, apart = (change[:, i] for i in range(5))
    dw += turned[:, 1]
    total += skewed(by_h[:, 1])
    if sides is not None:
        beside = sides.moved(k, moved[:, :, r:], change)
    ds = paired(by_h[:, 0])
    ds += stretched[:, 1]
    ds -= dm * core.gap
    force = core.varied(h, ds, dw, da, apart)
    total -= da * core.gap
    turning = core.skewed @ change[:, 1:].reshape(n, 4 * r, r)
    force += paired(core.paired @ change[:, :2].reshape(n, 2 * r, r))
    pulled = np.empty_like(moved)
    if sides is not None:
        turning += sides.pulled(h, k, beside, change, force, pulled[:, :, r:])
    force += skewed(turning)
    pulled[:, 0, :r] = force
    np.add(da, apart, out=pulled[:, 1, :r])
    block = core.axes[:, None] @ pulled[:, :, :r]
    if sides is None:
        pulled = block
    else:
        pulled[:, :, :r] = block
    return (pulled.reshape(n, 2 * rows, r) @ core.axes_t).reshape(pulled.shape)


class _CoreVariation(NamedTuple):
    """What the variation of the core multiplies with, stacked: small products cost by the call.

    A direction turns the eigenframe of D by ``omega_ij = h_ij / (d_j - d_i)`` and moves the
    eigenvalues by ``h_ii``. Opposite turns count half, ``w / 2`` and ``2 b``.
    """

    axes: Array
    axes_t: Array
    half_axes_t: Array
    gap: Array
    inverse: Array
    force: Array
    weights: Array
    rise: Array
    diagonal: Array
    in_frame: Array
    turned: Array
    stretched: Array
    numerator: Array
    paired: Array
    skewed: Array

    @classmethod
    def of(
        cls, nodal: NodalState, weights: PairWeights, depth: float, precision: type
    ) -> _CoreVariation:
        """Prepare factors at nodes; differences of eigenvalues are taken in double precision."""
        core, gap = nodal.core, nodal.core.gap
        inverse = gap.copy()
        diagonal(inverse)[...] = np.inf
        inverse = 1 / inverse
        force = core_force(core, depth) if nodal.rows.shape[-2] else nodal.force
        per_mean = per_layer(1 / core.mean, depth)
        bends = _diagonal_map(core, weights, per_mean)
        rise = np.stack([core.a * core.slope, 2 * core.b * (per_mean - core.slope)], axis=-3)

        def rounded(value: Array) -> Array:
            return value.astype(precision, order="C")

        axes, m, force, half_j = map(
            rounded, (core.axes, nodal.common, force, 0.5 * core.commutator)
        )
        a, s, b, w = map(rounded, (core.a, core.s, 2 * core.b, 0.5 * core.w))
        axes_t = np.ascontiguousarray(transpose(axes))
        return cls(
            axes,
            axes_t,
            axes_t / 2,
            gap,
            inverse,
            force,
            np.stack([core.alpha, 4 * core.mean**2 / core.alpha], axis=-3),
            rise,
            bends,
            np.concatenate([s, a, force, w, b], axis=-2),
            np.concatenate([w, m, b / -2, -half_j], axis=-2),
            np.concatenate([m, a], axis=-2),
            np.concatenate([a, -b, -s, w], axis=-1),
            np.concatenate([-m, a], axis=-1),
            np.concatenate([b / 2, half_j, -w, -m], axis=-1),
        )

    def mapped(self, function: Callable[[Array], Array]) -> _CoreVariation:
        """Apply a function to all factors."""
        return _CoreVariation(*map(function, self))

    def varied(self, h: Array, ds: Array, dw: Array, da: Array, db: Array) -> Array:
        """Return the change of G; write that of a, add that of b."""
        n, r = h.shape[:2]
        turn = (self.in_frame @ (h * self.inverse)).reshape(n, 5, r, r)
        even, odd = paired(turn[:, :3]), skewed(turn[:, 3:])
        moves = np.empty((n, 4, r, r), h.dtype)
        velocity, momentum = moves[:, :2], moves[:, 2:]
        np.subtract(ds, even[:, 0], out=velocity[:, 0])
        np.subtract(dw, odd[:, 0], out=velocity[:, 1])
        dl = diagonal(h).copy()
        rise = self.rise * dl[:, None, :, None]
        np.multiply(self.weights, velocity, out=momentum)
        momentum[:, 0] += paired(rise[:, 0])
        momentum[:, 1] += skewed(rise[:, 1])
        numerator = self.numerator @ moves.reshape(n, 4 * r, r)
        numerator -= dl[:, :, None] * self.force
        force = skewed(numerator)
        force *= self.inverse
        along = 2 * np.einsum("npij,npij->ni", self.rise, velocity)
        along += (self.diagonal @ dl[:, :, None])[:, :, 0]
        diagonal(force)[...] = along
        force += even[:, 2]
        np.add(momentum[:, 0], even[:, 1], out=da)
        db += momentum[:, 1]
        db += odd[:, 1]
        return force


def _diagonal_map(core: Core, weights: PairWeights, per_mean: Array) -> Array:
    """Return the derivatives of the diagonal of G by the eigenvalues of D, in the frame."""
    stretched, twisted, slope = core.a * core.s, core.b * core.w, core.slope
    rise, half = per_mean - slope, 0.5 * per_mean**2
    bend, mixed = np.asarray(weights.bend), np.asarray(weights.mixed)
    own = stretched * (slope**2 + bend) + twisted * (rise**2 - half - bend)
    other = stretched * (slope * transpose(slope) + mixed)
    other += twisted * (rise * transpose(rise) - half - mixed)
    diagonal(other)[...] += own.sum(axis=-1)
    return other


class _SideVariation(NamedTuple):
    """What stands beside the core: y, ``pi``, z and what multiplies them."""

    rows: Array
    momentum: Array
    corners: Array
    side_weights: Array
    mean: Array
    below: Array
    turns: Array
    cores: Array
    squared: Array
    overlap: Array

    @classmethod
    def of(cls, nodal: NodalState, depth: float) -> _SideVariation:
        """Prepare factors at nodes."""
        core, rows, pi = nodal.core, nodal.rows, nodal.side_momentum
        below = np.ascontiguousarray(transpose(np.concatenate([rows, pi], axis=-1)))
        overlap = 0.5 * paired(transpose(pi) @ rows)
        squared = (transpose(rows) @ rows).sum(axis=-3) / (2 * depth)
        turns, cores = (
            both_sides(nodal.common, core.w),
            both_sides(0.5 * core.commutator, 2 * core.b),
        )
        return cls(
            rows,
            pi,
            nodal.corners,
            nodal.side_weights[..., None, None, :],
            core.mean,
            below,
            turns,
            cores,
            squared,
            overlap,
        )

    def mapped(self, function: Callable[[Array], Array]) -> _SideVariation:
        """Apply a function to all factors."""
        return _SideVariation(*map(function, self))

    def moved(self, k: Array, moved: Array, change: Array) -> tuple[Array, Array, Array]:
        """Return A, y's change and ``[y pi]^T A``; add what the core owes to A."""
        n, _, rows, r = moved.shape
        turn, velocity = (moved[:, i].reshape(n, 2, rows // 2, r) for i in range(2))
        dy = velocity + self.rows @ (SIDES * k[:, None])
        dy += self.corners @ turn - turn @ self.turns
        products = self.below @ turn
        owed = skewed(products.reshape(n, 2, 2, r, r))
        total, apart = owed.sum(axis=1), owed[:, 0] - owed[:, 1]
        change[:, 1] -= 0.5 * total[:, 0]
        change[:, 2] -= 0.5 * apart[:, 0]
        change[:, 3] += 0.25 * total[:, 1]
        change[:, 4] += 0.25 * apart[:, 1]
        return turn, dy, products

    def pulled(
        self,
        h: Array,
        k: Array,
        beside: tuple[Array, Array, Array],
        change: Array,
        force: Array,
        pulled: Array,
    ) -> Array:
        """Write the changes beside the core, add to its force; return what is to be `skewed`."""
        (turn, dy, products), r = beside, h.shape[-1]
        y, pi, dm, dw, total, apart = self.rows, self.momentum, *(change[:, i] for i in range(1, 5))
        force += paired((transpose(y) @ dy).sum(axis=1)) * self.mean + paired(self.squared @ h)
        slope = dy * self.side_weights + y @ (2 * self.mean * h)[:, None]
        slope += turn @ self.cores - pi @ (0.5 * SIDES * k[:, None])
        value = slope @ self.turns - self.corners @ slope - turn @ self.overlap - dy @ self.cores
        value += 0.5 * pi @ (transpose(products[..., :r, :]) + both_sides(dm, 2 * dw))
        value += y @ (0.5 * transpose(products[..., r:, :]) - both_sides(total, 2 * apart))
        shape = (len(h), 2 * y.shape[-2], r)
        pulled[:, 0], pulled[:, 1] = value.reshape(shape), slope.reshape(shape)
        owed = SIDES * (0.5 * transpose(slope) @ y + 0.25 * transpose(pi) @ dy)
        return -owed.sum(axis=1)
