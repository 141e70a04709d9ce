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

from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import weigh

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
