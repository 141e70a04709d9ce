r"""The Lagrangian of the polar chart ``X = E_L (1 + D/N)^N E_R^T``, its gradient and Hessian.

Both frames are the first r columns of rotations ``R_L`` and ``R_R`` of k rows. Their body
velocities and the common and the opposite turn of the cores are

.. math::
    R^T R' = \begin{pmatrix} w & -y^T \\ y & z \end{pmatrix}, \qquad
    m = (w_L + w_R) / 2, \quad w = w_L - w_R.

With ``s = D' + [m, D]``, the metric ``N g_N`` is, in the eigenframe of D with roots l,

.. math::
    2 L = \sum_{ij} \alpha_{ij} s_{ij}^2 + \beta_{ij} w_{ij}^2 + N |y_L l|^2 + N |y_R l|^2,

and its momenta are ``a = alpha s``, ``b = beta w`` and ``pi = N y l^2``; ``J = [a, D]``.

Directions turn the frames by their bodies, ``R <- R C(K)`` with the Cayley transform C, opposite
in the cores. They are stacked, ``[h + k; A_L; A_R]`` of shape ``(r + 2p, r)``, ``k = r + p`` rows:

.. math::
    D + h, \qquad
    K_L = \begin{pmatrix} k & -A_L^T \\ A_L & 0 \end{pmatrix}, \quad
    K_R = \begin{pmatrix} -k & -A_R^T \\ A_R & 0 \end{pmatrix}

with h symmetric and k skew, and so are derivatives by them. Common turns of both cores are left
out: they change nothing. Square matrices of full rank are the case p = 0. (Ours.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np

from dln_manifolds.geometry.polar_flow import Core, core_force, skewed
from dln_manifolds.geometry.stretch import PairWeights, pair_weights, per_layer, roots_of
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import diagonal, transpose

# Relative gap to which eigenvalues are spread for second derivatives.
_SPREAD = 1e-4
# Doubles of directions that are varied at once: what stays in cache, and on the heap.
_CHUNK = 6000
# Signs of the cores of left and right turns.
_SIDES = np.array([1.0, -1.0])[:, None, None]


def paired(x: Array) -> Array:
    """Return ``x + x^T``: of a product of a symmetric and a skew matrix their commutator."""
    return x + transpose(x)


def turns_of(direction: Array) -> Array:
    """Return ``K_L`` and ``K_R`` of directions ``(..., r + 2p, r)``, shape ``(..., 2, k, k)``."""
    rows, r = direction.shape[-2:]
    p = (rows - r) // 2
    turns = np.zeros((*direction.shape[:-2], 2, r + p, r + p))
    core = direction[..., :r, :]
    turns[..., 0, :r, :r] = 0.5 * skewed(core)
    np.negative(turns[..., 0, :r, :r], out=turns[..., 1, :r, :r])
    if p:
        sides = sides_of(direction)
        turns[..., r:, :r] = sides
        turns[..., :r, r:] = -transpose(sides)
    return turns


def sides_of(direction: Array) -> Array:
    """Return ``A_L`` and ``A_R`` of directions, shape ``(..., 2, p, r)``."""
    rows, r = direction.shape[-2:]
    return direction[..., r:, :].reshape(*direction.shape[:-2], 2, (rows - r) // 2, r)


def stacked(core: Array, sides: Array) -> Array:
    """Return ``[core; sides]``: the inverse of taking both apart."""
    r, p = core.shape[-1], sides.shape[-2]
    if p == 0:
        return core
    return np.concatenate([core, sides.reshape(*core.shape[:-2], 2 * p, r)], axis=-2)


class NodalState(NamedTuple):
    """A position and a velocity in the eigenframe of D, with everything read off it.

    ``core`` holds D with s, w and their momenta; ``common`` is m, ``rows`` y and ``corners`` z of
    both sides, ``side_weights = N l^2``, and ``force = dL/dD``.
    """

    core: Core
    common: Array
    rows: Array
    corners: Array
    side_weights: Array
    force: Array

    def take(self, members: Array) -> NodalState:
        """Return the state of some members."""
        core = Core(*(value[members] for value in self.core))
        return NodalState(core, *(value[members] for value in self[1:]))

    @property
    def side_momentum(self) -> Array:
        """``pi = N y l^2`` of both sides."""
        return self.rows * self.side_weights[..., None, None, :]

    @property
    def energy(self) -> Array:
        """The Lagrangian, shape ``(...)``."""
        core = self.core
        total = (core.a * core.s + core.b * core.w).sum(axis=(-2, -1))
        if self.rows.shape[-2]:
            total += (self.side_momentum * self.rows).sum(axis=(-3, -2, -1))
        return 0.5 * total

    def leave(self, direction: Array) -> Array:
        """Return directions, or derivatives by them, from the eigenframe."""
        return _conjugated(self.core.axes, transpose(self.core.axes), direction)

    def raise_(self, covector: Array) -> Array:
        """Apply the inverse of the metric to derivatives by velocities of directions."""
        core, r = self.core, self.core.d.shape[-1]
        inside = _conjugated(transpose(core.axes), core.axes, covector)
        even, odd = 0.5 / core.alpha, 0.125 * core.alpha / core.mean**2
        block = inside[..., :r, :]
        raised = (even + odd) * block + (even - odd) * transpose(block)
        if inside.shape[-2] > r:
            inside[..., r:, :] /= self.side_weights[..., None, :]
            inside[..., :r, :] = raised
            raised = inside
        return self.leave(raised)

    def derivatives(self) -> tuple[Array, Array]:
        """Return the derivatives of L by directions and by their velocities."""
        (a, b, w), m, j = (self.core.a, self.core.b, self.core.w), self.common, self.core.commutator
        value = self.force + paired(a @ m)
        turning = 0.5 * j @ w + 2 * b @ m
        if self.rows.shape[-2] == 0:
            return self.leave(value + skewed(turning)), self.leave(a + 2 * b)
        rows, pi = self.rows, self.side_momentum
        turning -= 0.5 * (_SIDES * (transpose(pi) @ rows)).sum(axis=-3)
        sides = pi @ _both(m, w) - rows @ _both(j, 4 * b) - self.corners @ pi
        value = stacked(value + skewed(turning), sides)
        return self.leave(value), self.leave(stacked(a + 2 * b, pi))


def _both(mean: Array, difference: Array) -> Array:
    """Return ``mean + difference / 2`` for the left, ``mean - difference / 2`` for the right."""
    return mean[..., None, :, :] + (0.5 * _SIDES) * difference[..., None, :, :]


def _conjugated(left: Array, right: Array, direction: Array) -> Array:
    """Multiply the cores of directions from both sides, what stands below them from the right."""
    r, turned = left.shape[-1], direction @ right
    if turned.shape[-2] == r:
        return left @ turned
    turned[..., :r, :] = left @ turned[..., :r, :]
    return turned


def nodal_state(stretch: Array, change: Array, bodies: Array, depth: float) -> NodalState:
    """Evaluate the chart at D and D', ``(..., r, r)``, and body velocities ``(..., 2, k, k)``."""
    d, axes = np.linalg.eigh(stretch)
    r, rows = d.shape[-1], bodies[..., d.shape[-1] :, : d.shape[-1]]
    cores = np.concatenate([bodies[..., :r, :r], change[..., None, :, :]], axis=-3)
    inside = (cores.reshape(*change.shape[:-2], 3 * r, r) @ axes).reshape(cores.shape)
    inside = transpose(axes)[..., None, :, :] @ inside
    left, right, moving = inside[..., 0, :, :], inside[..., 1, :, :], inside[..., 2, :, :]
    common = 0.5 * (left + right)
    s = moving - common * (d[..., :, None] - d[..., None, :])
    if rows.shape[-2]:
        rows = rows @ axes[..., None, :, :]
    weights, corners = pair_weights(d, depth), bodies[..., r:, r:]
    return _completed(d, axes, weights, (s, left - right), (common, rows, corners), depth)


def _completed(
    d: Array,
    axes: Array,
    weights: PairWeights,
    velocity: tuple[Array, Array],
    beside: tuple[Array, Array, Array],
    depth: float,
) -> NodalState:
    """Return the state of eigenvalues, ``(s, w)`` and ``(m, y, z)`` in the eigenframe."""
    roots, (s, w), rows = roots_of(d, depth), velocity, beside[1]
    mean = 0.5 * (roots[..., :, None] + roots[..., None, :])
    a, b = weights.alpha * s, mean * mean / weights.alpha * w
    core = Core(d, axes, roots, weights.alpha, weights.slope, mean, a, b, s, w)
    force, side_weights = core_force(core, depth), roots
    if rows.shape[-2]:
        side_weights = depth * roots * roots
        force += (transpose(rows) @ rows).sum(axis=-3) * mean
    return NodalState(core, *beside, side_weights, force)


class SecondVariation:
    """Linearized derivatives of L at nodes: its Hessian, along directions and their velocities."""

    def __init__(self, nodal: NodalState, depth: float) -> None:
        d, roots = nodal.core.d, nodal.core.roots
        self._n_nodes = d.shape[1]
        weights = pair_weights(d, depth, second=True)
        if (np.diff(d, axis=-1) < _SPREAD * roots[..., 1:]).any():
            # Too close for quotients of differences. Newton's method, which this serves, has the
            # same limit with eigenvalues that are spread.
            d = d.copy()
            for i in range(1, d.shape[-1]):
                d[..., i] = np.maximum(d[..., i], d[..., i - 1] + _SPREAD * roots[..., i])
            weights = pair_weights(d, depth, second=True)
            velocity = nodal.core.s, nodal.core.w
            nodal = _completed(d, nodal.core.axes, weights, velocity, nodal[1:4], depth)
        self._core = _CoreVariation.of(nodal, weights, depth).mapped(_flat)
        self._sides = None
        if nodal.rows.shape[-2]:
            self._sides = _SideVariation.of(nodal, depth).mapped(_flat)

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
        step = max(1, _CHUNK // (rows * r))
        if len(pairs) <= step:
            return _varied(self._core, self._sides, pairs).reshape(moved.shape)
        result = np.empty_like(pairs)
        for low in range(0, len(pairs), step):
            some = slice(low, low + step)
            core, sides = self._core.mapped(lambda value: value[some]), self._sides
            if sides is not None:
                sides = sides.mapped(lambda value: value[some])
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
    stretched, turned = block + transpose(block), block - transpose(block)
    h, k = stretched[:, 0], turned[:, 0]
    by_k = skewed((core.turned @ k).reshape(n, 4, r, r))
    by_h = (core.stretched @ h).reshape(n, 2, r, r)
    # changes of a, m, w, and of the mean and half the difference of the cores of p_L and p_R
    change = np.empty((n, 5, r, r))
    da, dm, dw, mean, apart = (change[:, i] for i in range(5))
    dm[...], apart[...] = by_k[:, 0], by_k[:, 2]
    np.add(2 * turned[:, 1], by_k[:, 1], out=dw)
    np.add(skewed(by_h[:, 1]), by_k[:, 3], out=mean)
    if sides is not None:
        beside = sides.moved(k, moved[:, :, r:], change)
    ds = stretched[:, 1] + paired(by_h[:, 0]) - dm * core.gap
    db, force = core.varied(h, ds, dw, da)
    mean -= 0.5 * da * core.gap
    apart += db
    turning = core.skewed @ change[:, 1:].reshape(n, 4 * r, r)
    force += paired(core.paired @ change[:, :2].reshape(n, 2 * r, r))
    pulled = np.empty_like(moved)
    if sides is not None:
        turning += sides.pulled(h, k, beside, change, force, pulled[:, :, r:])
    np.add(force, skewed(turning), out=pulled[:, 0, :r])
    np.add(da, 2 * apart, out=pulled[:, 1, :r])
    pulled[:, :, :r] = core.axes[:, None] @ pulled[:, :, :r]
    return (pulled.reshape(n, 2 * rows, r) @ core.axes_t).reshape(pulled.shape)


class _CoreVariation(NamedTuple):
    """What the variation of the core multiplies with, stacked: small products cost by the call.

    A direction turns the eigenframe of D by ``omega_ij = h_ij / (d_j - d_i)`` and moves the
    eigenvalues by ``h_ii``.
    """

    axes: Array
    axes_t: Array
    half_axes_t: Array
    gap: Array
    inverse: Array
    quotient: Array
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
    def of(cls, nodal: NodalState, weights: PairWeights, depth: float) -> _CoreVariation:
        """Prepare factors at nodes."""
        core, m = nodal.core, nodal.common
        a, b, s, w, j, gap = core.a, core.b, core.s, core.w, core.commutator, core.gap
        inverse = gap.copy()
        diagonal(inverse)[...] = np.inf
        inverse = 1 / inverse
        force = core_force(core, depth) if nodal.rows.shape[-2] else nodal.force
        per_mean = per_layer(1 / core.mean, depth)
        axes_t = np.ascontiguousarray(transpose(core.axes))
        return cls(
            np.ascontiguousarray(core.axes),
            axes_t,
            0.5 * axes_t,
            gap,
            inverse,
            force * inverse,
            np.stack([core.alpha, core.mean**2 / core.alpha], axis=-3),
            np.stack([a * core.slope, b * (per_mean - core.slope)], axis=-3),
            _diagonal_map(core, weights, per_mean),
            np.concatenate([s, a, force, w, b], axis=-2),
            np.concatenate([0.5 * w, 2 * m, -0.25 * j, -0.5 * b], axis=-2),
            np.concatenate([m, 0.5 * a], axis=-2),
            np.concatenate([a, -b, -s, w], axis=-1),
            np.concatenate([-m, a], axis=-1),
            np.concatenate([b, 0.25 * j, -w, -2 * m], axis=-1),
        )

    def mapped(self, function: Callable[[Array], Array]) -> _CoreVariation:
        """Apply a function to all factors."""
        return _CoreVariation(*map(function, self))

    def varied(self, h: Array, ds: Array, dw: Array, da: Array) -> tuple[Array, Array]:
        """Return the changes of b and of G, and write that of a."""
        n, r = h.shape[:2]
        turn = (self.in_frame @ (h * self.inverse)).reshape(n, 5, r, r)
        even, odd = paired(turn[:, :3]), skewed(turn[:, 3:])
        moves = np.empty((n, 4, r, r))
        velocity, momentum = moves[:, :2], moves[:, 2:]
        np.subtract(ds, even[:, 0], out=velocity[:, 0])
        np.subtract(dw, odd[:, 0], out=velocity[:, 1])
        dl = diagonal(h)
        rise = self.rise * dl[:, None, :, None]
        np.multiply(self.weights, velocity, out=momentum)
        momentum[:, 0] += paired(rise[:, 0])
        momentum[:, 1] += skewed(rise[:, 1])
        force = skewed(self.numerator @ moves.reshape(n, 4 * r, r)) * self.inverse
        force -= (dl[:, :, None] - dl[:, None, :]) * self.quotient
        along = self.rise * velocity
        along = 2 * (along[:, 0] + along[:, 1]) + self.diagonal * dl[:, None]
        diagonal(force)[...] = along.sum(axis=-1)
        force += even[:, 2]
        np.add(momentum[:, 0], even[:, 1], out=da)
        return momentum[:, 1] + odd[:, 1], force


def _diagonal_map(core: Core, weights: PairWeights, per_mean: Array) -> Array:
    """Return the derivatives of the diagonal of G by the eigenvalues of D, in the frame."""
    stretched, twisted, slope = core.a * core.s, core.b * core.w, core.slope
    rise, half = per_mean - slope, 0.5 * per_mean**2
    bend, mixed = weights.bend, weights.mixed
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
        turns, cores = _both(nodal.common, core.w), _both(0.5 * core.commutator, 2 * core.b)
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
        dy = velocity + self.rows @ (_SIDES * k[:, None])
        dy += self.corners @ turn - turn @ self.turns
        products = self.below @ turn
        owed = skewed(products.reshape(n, 2, 2, r, r))
        total, apart = owed.sum(axis=1), owed[:, 0] - owed[:, 1]
        change[:, 1] -= 0.5 * total[:, 0]
        change[:, 2] -= apart[:, 0]
        change[:, 3] += 0.125 * total[:, 1]
        change[:, 4] += 0.125 * apart[:, 1]
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
        y, pi, dm, dw, mean, apart = self.rows, self.momentum, *(change[:, i] for i in range(1, 5))
        force += paired((transpose(y) @ dy).sum(axis=1)) * self.mean + paired(self.squared @ h)
        slope = dy * self.side_weights + y @ (2 * self.mean * h)[:, None]
        slope += turn @ self.cores - pi @ (0.5 * _SIDES * k[:, None])
        value = slope @ self.turns - self.corners @ slope - turn @ self.overlap - dy @ self.cores
        value += 0.5 * pi @ (transpose(products[..., :r, :]) + _both(dm, dw))
        value += y @ (0.5 * transpose(products[..., r:, :]) - 2 * _both(mean, 2 * apart))
        shape = (len(h), 2 * y.shape[-2], r)
        pulled[:, 0], pulled[:, 1] = value.reshape(shape), slope.reshape(shape)
        owed = _SIDES * (0.5 * transpose(slope) @ y + 0.25 * transpose(pi) @ dy)
        return -owed.sum(axis=1)
