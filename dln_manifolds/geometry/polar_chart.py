r"""The Lagrangian of the polar chart ``X = E_L (1 + D/N)^N E_R^T``, and its gradient.

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
from typing import NamedTuple

import numpy as np

from dln_manifolds.geometry.polar_flow import Core, core_force, skewed
from dln_manifolds.geometry.stretch import PairWeights, pair_weights, roots_of
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import transpose

#: Signs of the cores of left and right turns.
SIDES = np.array([1.0, -1.0])[:, None, None]


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


class Cometric(NamedTuple):
    """The inverse of the metric at nodes: factors of derivatives and of their transposes."""

    axes: Array
    axes_t: Array
    direct: Array
    crossed: Array
    side_weights: Array

    def mapped(self, function: Callable[[Array], Array]) -> Cometric:
        """Apply a function to all factors."""
        return Cometric(*map(function, self))

    def apply(self, covector: Array) -> Array:
        """Raise derivatives by velocities of directions."""
        r, inside = self.axes.shape[-1], _conjugated(self.axes_t, self.axes, covector)
        block = inside[..., :r, :]
        raised = self.direct * block
        raised += self.crossed * transpose(block)
        if inside.shape[-2] > r:
            inside[..., r:, :] /= self.side_weights[..., None, :]
            inside[..., :r, :] = raised
            raised = inside
        return _conjugated(self.axes, self.axes_t, raised)


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

    def cometric(self) -> Cometric:
        """Return the inverse of the metric on velocities of directions."""
        core, axes = self.core, np.ascontiguousarray(self.core.axes)
        even, odd = 0.5 / core.alpha, 0.125 * core.alpha / core.mean**2
        axes_t = np.ascontiguousarray(transpose(axes))
        return Cometric(axes, axes_t, even + odd, even - odd, self.side_weights)

    def derivatives(self) -> tuple[Array, Array]:
        """Return the derivatives of L by directions and by their velocities."""
        (a, b, w), m, j = (self.core.a, self.core.b, self.core.w), self.common, self.core.commutator
        value = self.force + paired(a @ m)
        turning = 0.5 * j @ w + 2 * b @ m
        if self.rows.shape[-2] == 0:
            return self.leave(value + skewed(turning)), self.leave(a + 2 * b)
        rows, pi = self.rows, self.side_momentum
        # half of the skew part of pi^T y, of which the differences of N l^2 would lose digits
        apart = (SIDES * (transpose(rows) @ rows)).sum(axis=-3)
        turning -= 0.5 * self.core.mean * self.core.gap * apart
        sides = pi @ both_sides(m, w) - rows @ both_sides(j, 4 * b) - self.corners @ pi
        value = stacked(value + skewed(turning), sides)
        return self.leave(value), self.leave(stacked(a + 2 * b, pi))


def both_sides(mean: Array, difference: Array) -> Array:
    """Return ``mean + difference / 2`` for the left, ``mean - difference / 2`` for the right."""
    return mean[..., None, :, :] + (0.5 * SIDES) * difference[..., None, :, :]


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
    return completed_state(d, axes, weights, (s, left - right), (common, rows, corners), depth)


def completed_state(
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
