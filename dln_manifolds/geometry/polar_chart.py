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

from typing import NamedTuple, Self

import numpy as np

from dln_manifolds.geometry.polar_flow import Core, core_force, skewed
from dln_manifolds.geometry.stretch import PairWeights, pair_weights, per_layer, roots_of
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import diagonal, transpose

# Relative gap to which eigenvalues are spread for second derivatives.
_SPREAD = 1e-4
# Signs of transposes: of symmetric and skew matrices. Signs of cores: of left and right turns.
_PARITY = _SIDES = np.array([1.0, -1.0])[:, None, None]
_FRAME_PARITY = np.array([1.0, -1.0, 1.0, -1.0, 1.0])[:, None, None]


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
    """Linearized derivatives of L at nodes: its Hessian, along directions and their velocities.

    A direction turns the eigenframe of D by ``omega_ij = h_ij / (d_j - d_i)`` and moves the
    eigenvalues by ``h_ii``. Small products cost by the call, so their factors are stacked.
    """

    def __init__(self, nodal: NodalState, depth: float) -> None:
        d, roots = nodal.core.d.copy(), nodal.core.roots
        # Too close for quotients of differences. Newton's method, which this serves, has the same
        # limit with eigenvalues that are spread.
        for i in range(1, d.shape[-1]):
            d[..., i] = np.maximum(d[..., i], d[..., i - 1] + _SPREAD * roots[..., i])
        weights = pair_weights(d, depth, second=True)
        velocity, beside = (nodal.core.s, nodal.core.w), nodal[1:4]
        nodal = _completed(d, nodal.core.axes, weights, velocity, beside, depth)
        core, m = nodal.core, nodal.common
        a, b, s, w, j, self._gap = core.a, core.b, core.s, core.w, core.commutator, core.gap
        inverse = self._gap.copy()
        diagonal(inverse)[...] = np.inf
        self._inverse = 1 / inverse
        self._sides = _SideVariation.of(nodal, depth) if nodal.rows.shape[-2] else None
        force = nodal.force if self._sides is None else core_force(core, depth)
        self._quotient = force * self._inverse
        axes, axes_t = core.axes, np.ascontiguousarray(transpose(core.axes))
        # of directions and velocities; half, as both parts of a core are sums with its transpose
        self._axes, self._axes_t = (np.concatenate([x, x], axis=1) for x in (axes, axes_t))
        self._half_axes_t = 0.5 * self._axes_t
        per_mean = per_layer(1 / core.mean, depth)
        self._weights = np.stack([core.alpha, core.mean**2 / core.alpha], axis=-3)
        self._rise = np.stack([a * core.slope, b * (per_mean - core.slope)], axis=-3)
        self._diagonal = _diagonal_map(core, weights, per_mean)
        self._in_frame = np.concatenate([s, w, a, b, force], axis=-2)
        self._turned = np.concatenate([0.5 * w, 2 * m, -0.25 * j, -0.5 * b], axis=-2)
        self._stretched = np.concatenate([m, 0.5 * a], axis=-2)
        self._numerator = np.concatenate([a, -b, -s, w], axis=-1)
        self._paired = np.concatenate([-m, a], axis=-1)
        self._skewed = np.concatenate([b, 0.25 * j, -w, -2 * m], axis=-1)

    def take(self, members: Array) -> Self:
        """Return the linearization of some members, along the first batch axis."""
        part = object.__new__(type(self))
        for name, value in vars(self).items():
            if value is not None:
                value = value.take(members) if name == "_sides" else value[members]
            setattr(part, name, value)
        return part

    def apply(self, moved: Array) -> Array:
        """Differentiate along directions at all nodes, followed by their velocities.

        Both ``(n_batch, 2 n_nodes, r + 2p, r)``; returns changes of the derivatives alike.
        """
        r = moved.shape[-1]
        moved = moved @ self._axes
        core = self._half_axes_t @ moved[..., :r, :]
        n_batch, n_nodes = len(core), core.shape[1] // 2
        stretched, turned = core + transpose(core), core - transpose(core)
        h, k = stretched[:, :n_nodes], turned[:, :n_nodes]
        shape = (n_batch, n_nodes, -1, r, r)
        by_k = skewed((self._turned @ k).reshape(shape))
        by_h = (self._stretched @ h).reshape(shape)
        # changes of a, m, w, and of the sum and the difference of the cores of p_L and p_R
        change = np.empty((n_batch, n_nodes, 5, r, r))
        da, dm, dw, both, apart = (change[:, :, i] for i in range(5))
        dm[...] = by_k[:, :, 0]
        np.add(2 * turned[:, n_nodes:], by_k[:, :, 1], out=dw)
        np.add(skewed(by_h[:, :, 1]), by_k[:, :, 3], out=both)
        apart[...] = by_k[:, :, 2]
        if self._sides is not None:
            beside = self._sides.moved(k, moved[..., r:, :], change)
        ds = stretched[:, n_nodes:] + paired(by_h[:, :, 0]) - dm * self._gap
        db, force = self._core(h, ds, dw, da)
        both -= 0.5 * da * self._gap
        apart += db
        turning = self._skewed @ change[:, :, 1:].reshape(n_batch, n_nodes, 4 * r, r)
        value = force + paired(self._paired @ change[:, :, :2].reshape(n_batch, n_nodes, 2 * r, r))
        slope = da + 2 * apart
        if self._sides is None:
            result = np.concatenate([value + skewed(turning), slope], axis=1)
            return np.asarray(self._axes @ result @ self._axes_t)
        core, sides = self._sides.pulled(h, k, beside, change)
        turning += core[1]
        value += core[0]
        result = np.concatenate([value + skewed(turning), slope], axis=1)
        return _conjugated(self._axes, self._axes_t, stacked(result, sides))

    def _core(self, h: Array, ds: Array, dw: Array, da: Array) -> tuple[Array, Array]:
        """Return the changes of b and of G, and write that of a."""
        n_batch, n_nodes, r = h.shape[:3]
        turn = (self._in_frame @ (h * self._inverse)).reshape(n_batch, n_nodes, 5, r, r)
        turn = turn + _FRAME_PARITY * transpose(turn)
        moves = np.empty((n_batch, n_nodes, 4, r, r))
        velocity, momentum = moves[:, :, :2], moves[:, :, 2:]
        np.subtract(ds, turn[:, :, 0], out=velocity[:, :, 0])
        np.subtract(dw, turn[:, :, 1], out=velocity[:, :, 1])
        dl = diagonal(h)
        rise = self._rise * dl[:, :, None, :, None]
        np.multiply(self._weights, velocity, out=momentum)
        momentum += rise + _PARITY * transpose(rise)
        force = skewed(self._numerator @ moves.reshape(n_batch, n_nodes, 4 * r, r)) * self._inverse
        force -= (dl[..., :, None] - dl[..., None, :]) * self._quotient
        along = 2 * np.einsum("bqkij,bqkij->bqi", self._rise, velocity)
        diagonal(force)[...] = along + (self._diagonal @ dl[..., None])[..., 0]
        force += turn[:, :, 4]
        np.add(momentum[:, :, 0], turn[:, :, 2], out=da)
        return momentum[:, :, 1] + turn[:, :, 3], force


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

    def take(self, members: Array) -> _SideVariation:
        """Return those of some members."""
        return _SideVariation(*(value[members] for value in self))

    def moved(self, k: Array, moved: Array, change: Array) -> tuple[Array, Array, Array]:
        """Return A, y's change and ``[y pi]^T A``; add what the core owes to A."""
        n_batch, double, rows, r = moved.shape
        both = moved.reshape(n_batch, 2, double // 2, 2, rows // 2, r)
        turn, velocity = both[:, 0], both[:, 1]
        dy = velocity + self.rows @ (_SIDES * k[..., None, :, :])
        dy += self.corners @ turn - turn @ self.turns
        products = self.below @ turn
        owed = skewed(products.reshape(*products.shape[:-2], 2, r, r))
        total, apart = owed.sum(axis=2), owed[:, :, 0] - owed[:, :, 1]
        change[:, :, 1] -= 0.5 * total[:, :, 0]
        change[:, :, 2] -= apart[:, :, 0]
        change[:, :, 3] += 0.125 * total[:, :, 1]
        change[:, :, 4] += 0.125 * apart[:, :, 1]
        return turn, dy, products

    def pulled(
        self, h: Array, k: Array, beside: tuple[Array, Array, Array], change: Array
    ) -> tuple[tuple[Array, Array], Array]:
        """Return what the core gains, symmetric and before `skewed`, and the sides' changes."""
        (turn, dy, products), r = beside, h.shape[-1]
        y, pi, dm, dw, mean, apart = (
            self.rows,
            self.momentum,
            *(change[:, :, i] for i in range(1, 5)),
        )
        force = paired((transpose(y) @ dy).sum(axis=2)) * self.mean + paired(self.squared @ h)
        slope = dy * self.side_weights + y @ (2 * self.mean * h)[..., None, :, :]
        slope += turn @ self.cores - pi @ (0.5 * _SIDES * k[..., None, :, :])
        owed = _SIDES * (0.5 * transpose(slope) @ y + 0.25 * transpose(pi) @ dy)
        value = slope @ self.turns - self.corners @ slope - turn @ self.overlap - dy @ self.cores
        value += 0.5 * pi @ (transpose(products[..., :r, :]) + _both(dm, dw))
        value += y @ (0.5 * transpose(products[..., r:, :]) - 2 * _both(mean, 2 * apart))
        return (force, -owed.sum(axis=2)), np.concatenate([value, slope], axis=1)
