r"""The cone law: geodesics between points of any sizes from those between points of size one.

Balanced layers are a cone, ``W -> c W``, and so are end-to-end matrices in the root chart,
``T -> c T``. A geodesic and the tip of the cone span a flat sector, in which the geodesic is a
straight line. With the geodesic ``u(tau)`` between two points of size one, that between
``r_0 u(0)`` and ``r_1 u(1)`` is therefore, exactly,

.. math::
    w(t) = \rho u(\tau), \quad \rho = (1-t) r_0 + t r_1, \quad \tau = t r_1 / \rho, \quad
    w'(t) = (r_1 - r_0) u(\tau) + (r_0 r_1 / \rho) u'(\tau),

and its length d is given by ``d^2 = (r_1 - r_0)^2 + r_0 r_1 L^2`` with the length L of the other.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dln_manifolds.geometry.polar_flow import Layout
from dln_manifolds.geometry.stretch import per_layer
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import transpose, weigh

# Sizes farther apart than this are told apart no more: nothing near the smaller is resolved.
_LEAST = 1e-300


@dataclass(frozen=True)
class Cone:
    """Sizes ``r_0, r_1 > 0`` of both ends."""

    first: Array
    last: Array

    @cached_property
    def scale(self) -> Array:
        """The larger size, which positions and rates are divided by."""
        return np.maximum(self.first, self.last)

    @cached_property
    def _parts(self) -> tuple[Array, Array, Array]:
        """``r_0``, ``r_1`` and ``r_1 - r_0`` divided by the larger size."""
        first, last = (np.maximum(r / self.scale, _LEAST) for r in (self.first, self.last))
        return first, last, (self.last - self.first) / self.scale

    def initial_rate(self, position: Array, rate: Array) -> Array:
        """Return the initial rate divided by ``scale``, from ``u(0)`` and its rate."""
        _, last, growth = self._parts
        return weigh(growth, position) + weigh(last, rate)

    def length(self, unit_length: Array) -> Array:
        """Return the lengths d from the lengths L."""
        chord = np.sqrt(self.first) * np.sqrt(self.last) * unit_length
        return np.hypot(self.last - self.first, chord)

    def time(self, unit_time: Array) -> Array:
        """Return t of ``tau`` in [0, 1], and infinity of infinity."""
        first, last, _ = self._parts
        inside = np.isfinite(unit_time)
        tau = np.where(inside, unit_time, 1.0)
        return np.where(inside, tau * first / (tau * first + (1 - tau) * last), np.inf)

    def states(self, unit_time: Array, state: Array) -> tuple[Array, Array, Array]:
        """Return times, states ``(n_batch, 2, ...)`` divided by ``scale``, and that."""
        first, last, growth = self._parts
        slow = unit_time * first + (1 - unit_time) * last
        position = weigh(first * last / slow, state[:, 0])
        rate = weigh(growth, state[:, 0]) + weigh(slow, state[:, 1])
        return unit_time * first / slow, np.stack([position, rate], axis=1), self.scale


@dataclass(frozen=True)
class PolarCone:
    r"""The law in the polar chart: the scale ``mu_0`` and ``apart``, ``mu_1 - mu_0``, at any depth.

    With ``X = e^mu E_L f(D) E_R^T`` a point of size ``r = e^(mu/N)`` is ``r H`` in the root chart.
    Seen from a point of the geodesic, divided by its own size ``rho``, the geodesic has the rate

    .. math:: H' = \frac{r_1 - r_0}{\rho} H + \frac{r_0 r_1}{\rho^2} \frac{dH}{d\tau},

    and its frames turn by the second factor. In terms of ``N (r_1 / r_0 - 1)`` all this has a limit
    at N = infinity, where a geodesic is a product: mu on a straight line, beside one with
    |det X| = 1.
    """

    first: Array
    apart: Array
    layout: Layout

    @property
    def scale(self) -> Array:
        """The scale of the initial rate: that of the first end."""
        return self.first

    @cached_property
    def _ratio(self) -> Array:
        """``r_1 / r_0``."""
        return np.exp(np.clip(per_layer(self.apart, self.layout.depth), -690, 690))

    @cached_property
    def _growth(self) -> Array:
        """``N (r_1 / r_0 - 1)``."""
        depth = self.layout.depth
        if not np.isfinite(depth):
            return self.apart
        return depth * np.expm1(np.clip(self.apart / depth, -690, 690))

    def _size(self, time: Array) -> Array:
        """``rho / r_0`` at times t."""
        return 1 - time + time * self._ratio

    def _rate(self, position: Array, rate: Array, size: Array) -> Array:
        """Return the rate, seen from a point of size rho / r_0, of that of the unit geodesic."""
        moved = weigh(self._ratio / size**2, rate)
        core, inside = self.layout.split(moved)[0], self.layout.split(position)[0]
        identity = np.eye(self.layout.rank)
        core += weigh(self._growth / size, identity + per_layer(inside, self.layout.depth))
        return moved

    def initial_rate(self, position: Array, rate: Array) -> Array:
        """Return the initial rate at scale ``mu_0``, from that of the unit geodesic."""
        return self._rate(position, rate, np.ones_like(self._ratio))

    def length(self, unit_length: Array) -> Array:
        """Return the lengths d from the lengths L of unit geodesics in the metric ``N g_N``."""
        depth, rank = self.layout.depth, self.layout.rank
        size = np.exp(per_layer(self.first, depth))
        radial = np.sqrt(rank) * self._growth
        value = size * np.hypot(radial, np.sqrt(self._ratio) * unit_length)
        return value / np.sqrt(depth) if np.isfinite(depth) else value

    def time(self, unit_time: Array) -> Array:
        """Return t of ``tau`` in [0, 1], and infinity of infinity."""
        inside = np.isfinite(unit_time)
        tau = np.where(inside, unit_time, 1.0)
        return np.where(inside, tau / (tau + (1 - tau) * self._ratio), np.inf)

    def states(self, unit_time: Array, state: Array) -> tuple[Array, Array, Array]:
        """Return times, states ``(n_batch, 2, ...)`` of size one, and their scales."""
        time = self.time(unit_time)
        size = self._size(time)
        depth = self.layout.depth
        grown = depth * np.log(size) if np.isfinite(depth) else time * self._growth
        position = state[:, 0]
        rate = np.stack(
            [self._rate(position[:, k], state[:, 1, k], size) for k in range(state.shape[2])],
            axis=1,
        )
        return time, np.stack([position, rate], axis=1), self.first + grown


def rescaled(state: Array, by: Array, layout: Layout) -> Array:
    """Return states ``(n_batch, 2, ...)`` of the polar chart of points times ``e^by``."""
    infinite = not np.isfinite(layout.depth)
    growth = np.ones_like(by) if infinite else np.exp(by / layout.depth)
    shift = by if infinite else layout.depth * np.expm1(by / layout.depth)
    moved = state.copy()
    stretch = layout.split(moved[:, 0])[0]
    stretch *= growth[:, None, None, None]
    stretch += shift[:, None, None, None] * np.eye(layout.rank)
    core, *sides = layout.split(moved[:, 1])
    turned = transpose(core)
    # Twice by the growth: its square may be no double.
    core[...] = weigh(growth, 0.5 * (core + turned) + weigh(growth, 0.5 * (core - turned)))
    for side in sides:
        side[...] = weigh(growth, weigh(growth, side))
    return moved
