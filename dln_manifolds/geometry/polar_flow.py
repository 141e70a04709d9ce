r"""The geodesic flow in the polar chart ``X = e^mu E_L f(D) E_R^T``, any rank, shape and depth.

A state is a position ``[D; E_L; E_R]`` and a momentum ``[A + 2B; pi_L; pi_R]`` in the metric
``N g_N``, both stacked to ``(r + m + n, r)``: D and A symmetric, B skew, ``E_L`` and ``E_R`` with
orthonormal columns, ``pi_L`` and ``pi_R`` orthogonal to them. In the eigenframe of D, with alpha
and mean of :mod:`dln_manifolds.geometry.stretch`, roots l, and the velocities

.. math::
    s = A / \alpha, \quad w = \alpha B / mean^2, \quad y = \pi / (N l^2), \quad
    J = [A, D], \quad Y = y^T y,

the equations of motion are

.. math::
    D' = s, \quad E_L' = E_L w / 2 + y_L, \quad E_R' = -E_R w / 2 + y_R, \quad
    A' = G + mean (Y_L + Y_R), \\
    B' = [J, w] / 4 + [Y_L - Y_R, N l^2] / 4, \quad
    \pi_L' = \pi_L w / 2 - y_L (J + 2B) - E_L y_L^T \pi_L,

and ``pi_R'`` alike with w and B of the other sign; ``(d_i - d_j) G_ij = ([A, s] - [B, w])_ij``,
and on the diagonal ``G_ii = sum_j (A s d log(alpha) + B w d log(mean^2 / alpha))_ij / dd_i``. The
frames turn against each other, never together: that makes them unique. At square full rank nothing
stands beside the core. (Ours; the mean of H and of Chen, arXiv 2510.07324, Theorem 2.1.)
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dln_manifolds.geometry.stretch import pair_weights, per_layer, roots_of, weights_between
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import diagonal, transpose
from dln_manifolds.numerics.polynomials import gauss

# Gaps of eigenvalues, relative to their roots, below which the force is a mean of derivatives, by
# so many Gauss nodes; it is analytic up to gaps of 3.
_CLOSE = 0.005
_NODES, _WEIGHTS = gauss(3)
# Least modulus of a root that is divided by.
_TINY = 1e-280


@dataclass(frozen=True)
class Layout:
    """Where the parts of a stacked position or momentum stand."""

    shape: tuple[int, int]
    rank: int
    depth: float

    @property
    def rows(self) -> int:
        """Number of rows, ``r + m + n``."""
        return self.rank + sum(self.shape)

    @property
    def full(self) -> bool:
        """Whether there is nothing beside the core."""
        return self.shape == (self.rank, self.rank)

    def split(self, stacked: Array) -> tuple[Array, Array, Array]:
        """Return core, left and right part."""
        r, m = self.rank, self.rank + self.shape[0]
        return stacked[..., :r, :], stacked[..., r:m, :], stacked[..., m:, :]

    def stacked(self, core: Array, left: Array, right: Array) -> Array:
        """Return one array of three."""
        return np.concatenate([core, left, right], axis=-2)

    def position(self, stretch: Array, left: Array, right: Array) -> Array:
        """Return the position of a stretch ``(..., r, r)`` and two frames."""
        return self.stacked(stretch, left, right)

    def project(self, state: Array) -> Array:
        """Return states ``(n_batch, 2, k, rows, r)`` whose first is a point, up to rounding.

        Frames are orthonormalized by one step of Newton's method for the polar factor, and D and
        the momenta beside the core become what they must be.
        """
        state = state.copy()
        core, *frames = self.split(state[:, 0, 0])
        core[...] = 0.5 * (core + transpose(core))
        for frame, momentum in zip(frames, self.split(state[:, 1, 0])[1:], strict=True):
            frame -= 0.5 * frame @ (transpose(frame) @ frame - np.eye(self.rank))
            if self.full:
                momentum[...] = 0.0
            else:
                momentum -= frame @ (transpose(frame) @ momentum)
        return state


class Core(NamedTuple):
    """Stretch and core momentum in the eigenframe of D, with the velocities."""

    d: Array
    axes: Array
    roots: Array
    alpha: Array
    slope: Array
    mean: Array
    a: Array
    b: Array
    s: Array
    w: Array

    @property
    def gap(self) -> Array:
        """``d_i - d_j``."""
        return self.d[..., :, None] - self.d[..., None, :]

    @property
    def commutator(self) -> Array:
        """``J = [A, D]``."""
        return -self.a * self.gap


def core_of(stretch: Array, momentum: Array, depth: float) -> Core:
    """Return the core of D and ``A + 2B``."""
    d, axes = np.linalg.eigh(stretch)
    inside = transpose(axes) @ momentum @ axes
    turned = transpose(inside)
    a, b = 0.5 * (inside + turned), 0.25 * (inside - turned)
    roots = roots_of(d, depth)
    mean = 0.5 * (roots[..., :, None] + roots[..., None, :])
    if (roots[..., 0] <= 0).any():
        mean = np.where(np.abs(mean) < _TINY, _TINY, mean)
    weights = pair_weights(d, depth)
    s, w = a / weights.alpha, b * weights.alpha / (mean * mean)
    return Core(d, axes, roots, weights.alpha, weights.slope, mean, a, b, s, w)


def skewed(x: Array) -> Array:
    """Return ``x - x^T``: of the product of two skew or two symmetric ones their commutator."""
    return x - transpose(x)


def core_force(core: Core, depth: float) -> Array:
    """Return G in the eigenframe, exact however close eigenvalues are."""
    gap, a, b, s, w = core.gap, core.a, core.b, core.s, core.w
    diagonal(gap)[...] = 1.0
    sizes = np.abs(core.roots)
    least = np.minimum(sizes[..., :-1], sizes[..., 1:])
    crowded = (np.diff(core.d, axis=-1) < _CLOSE * least).any()
    if crowded:
        close = np.abs(gap) < _CLOSE * np.minimum(sizes[..., None, :], sizes[..., :, None])
        diagonal(close)[...] = False
        gap[close] = 1.0
    force = skewed(a @ s - b @ w) / gap
    stretched, twisted = a * s, b * w
    terms = core.slope * (stretched - twisted)
    if math.isfinite(depth):
        # d log(mean^2) / d d_i = 1 / (N mean)
        terms += twisted / (depth * core.mean)
    diagonal(force)[...] = terms.sum(axis=-1)
    if crowded:
        _between(force, close, core, depth)
    return force


def _between(force: Array, close: Array, core: Core, depth: float) -> None:
    """Overwrite the force of close pairs by the mean of derivatives between them, in place."""
    first, last = np.triu_indices(close.shape[-1], 1)
    *batch, pair = np.nonzero(close[..., first, last])
    i, j = (*batch, first[pair]), (*batch, last[pair])
    d_i, d_j = core.d[i], core.d[j]
    theta = (d_j[:, None] + _NODES * (d_i - d_j)[:, None])[:, :, None]
    other = core.d[tuple(batch)][:, None, :]
    alpha, slope = weights_between(theta, other, depth)
    mean = 1.0 + per_layer(0.5 * (theta + other), depth)
    stiff = np.einsum("g,pgk->pk", _WEIGHTS, alpha * slope)
    turning = mean * mean / alpha * (per_layer(1 / mean, depth) - slope)
    bent = np.einsum("g,pgk->pk", _WEIGHTS, turning)
    value = (stiff * core.s[i] * core.s[j] + bent * core.w[i] * core.w[j]).sum(axis=-1)
    force[(*i, j[-1])] = force[(*j, i[-1])] = value


class Sides(NamedTuple):
    """What stands beside the core, in the eigenframe of D: momenta, velocities and ``Y``."""

    inertia: Array
    momenta: tuple[Array, Array]
    velocities: tuple[Array, Array]
    squares: tuple[Array, Array]

    @classmethod
    def of(cls, core: Core, left: Array, right: Array, depth: float) -> "Sides":
        """Return the sides of momenta ``pi_L`` and ``pi_R``."""
        inertia = depth * np.maximum(core.roots**2, _TINY)
        momenta = left @ core.axes, right @ core.axes
        velocities = momenta[0] / inertia[..., None, :], momenta[1] / inertia[..., None, :]
        squares = transpose(velocities[0]) @ velocities[0], transpose(velocities[1]) @ velocities[1]
        return cls(inertia, momenta, velocities, squares)


def pull_beside(left: Array, right: Array, gap: Array) -> Array:
    """Return what mean multiplies in ``A' + 2B'``, of ``Y_L`` and ``Y_R``.

    ``N (l_i^2 - l_j^2)`` is twice the mean times the gap: as a difference it would lose digits, the
    more the deeper.
    """
    return left + right - (left - right) * gap


def polar_rates(state: Array, layout: Layout) -> tuple[Array, Array]:
    """Return time derivatives ``(n_batch, 2, rows, r)`` of states of that shape; the least root."""
    rates, core, _ = rates_with_core(state[:, 0], state[:, 1], layout)
    return rates, core.roots[..., 0]


def rates_along(states: Array, layout: Layout) -> Array:
    """Return rates of states along paths, ``(n_batch, n_nodes, 2, 1, rows, r)``, NaN of no path.

    Nor are there rates where a root is zero to the last bit.
    """
    flat = states.reshape(-1, *states.shape[2:])[:, :, 0]
    finite = np.isfinite(flat).all(axis=(1, 2, 3))
    rates = np.full_like(flat, np.nan)
    if finite.any():
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            rates[finite] = polar_rates(flat[finite], layout)[0]
    return rates.reshape(states.shape)


def rates_with_core(
    position: Array, momentum: Array, layout: Layout
) -> tuple[Array, Core, Sides | None]:
    """Return rates as `polar_rates`, with the core and the sides that they were read off."""
    depth = layout.depth
    stretch, *frames = layout.split(position)
    inside, *momenta = layout.split(momentum)
    core = core_of(stretch, inside, depth)
    commutator = core.commutator
    pull = core_force(core, depth) + 0.5 * skewed(commutator @ core.w)
    sides = None
    if not layout.full:
        sides = Sides.of(core, momenta[0], momenta[1], depth)
        pull += core.mean * pull_beside(*sides.squares, core.gap)
    axes, back = core.axes, transpose(core.axes)
    rates = np.zeros((*position.shape[:-2], 2, layout.rows, layout.rank))
    first, second = layout.split(rates[..., 0, :, :]), layout.split(rates[..., 1, :, :])
    first[0][...], second[0][...] = axes @ core.s @ back, axes @ pull @ back
    half = axes @ (0.5 * core.w) @ back
    for k, sign in (0, 1.0), (1, -1.0):
        first[k + 1][...] = frames[k] @ (sign * half)
        if sides is not None:
            y, pi = sides.velocities[k], sides.momenta[k]
            first[k + 1][...] += y @ back
            moved = sign * 0.5 * pi @ core.w - y @ (commutator + sign * 2 * core.b)
            second[k + 1][...] = (moved - frames[k] @ core.axes @ (transpose(y) @ pi)) @ back
    return rates, core, sides


def speed_squared(position: Array, momentum: Array, layout: Layout) -> Array:
    """Return the squared length ``N g_N`` of a momentum, shape ``(...)``."""
    inside, left, right = layout.split(momentum)
    core = core_of(layout.split(position)[0], inside, layout.depth)
    square = (core.a * core.s + core.b * core.w).sum(axis=(-2, -1))
    if layout.full:
        return square
    sides = Sides.of(core, left, right, layout.depth)
    beside = [
        (p * y).sum(axis=(-2, -1)) for p, y in zip(sides.momenta, sides.velocities, strict=True)
    ]
    return square + beside[0] + beside[1]
