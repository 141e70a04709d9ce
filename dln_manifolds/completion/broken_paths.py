r"""Paths in the root chart that are broken at one time, where they cross det = 0.

.. math::
    T(t) = \exp(t \Omega_L) M(t) \exp(-t \Omega_R), \qquad
    M(t) = (1-t) M_0 + t M_1 + \sum_m c_m \phi_m(t),

as in :mod:`dln_manifolds.geodesics.root_paths`, with other modes: integrated Legendre polynomials
on either side of the break ``t_*``, and one hat function, of height one there times
``(1/t_* + 1/(1-t_*))^{-1/2}``. Their derivatives are orthonormal. At matrices of rank n - 1 the
metric has finitely many derivatives at even and at broken depths, so that smooth modes converge
like a power only; broken ones converge as they do elsewhere. (Ours.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dln_manifolds.geodesics.root_paths import Ends, PathState
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import transpose
from dln_manifolds.numerics.newton import Minimum, minimize
from dln_manifolds.numerics.polynomials import ModalBasis, combine, gauss, modes_at

# Where a break is put if there is no crossing.
MIDDLE = 0.5
# Intervals in which a change of the sign of det is looked for, and halvings of the first of them.
_INTERVALS, _HALVINGS = 64, 50


def broken_modes(breaks: Array, times: Array, n_modes: int) -> tuple[Array, Array]:
    """Return modes and their derivatives at times ``(n_batch, n_times)``.

    ``n_modes`` on either side of the breaks, ``(n_batch,)``: shape ``(n_batch, n_times, 2 K + 1)``.
    """
    before, after = breaks[:, None], 1 - breaks[:, None]
    first = times < before
    local = np.where(first, times / before, (times - before) / after)
    modes, slopes = modes_at(local, n_modes)
    length = np.sqrt(np.where(first, before, after))[..., None]
    modes, slopes, early = modes * length, slopes / length, first[..., None]
    height = 1 / np.sqrt(1 / before + 1 / after)
    hat = height * np.where(first, local, 1 - local)
    pitch = height * np.where(first, 1 / before, -1 / after)
    return (
        np.concatenate([early * modes, ~early * modes, hat[..., None]], axis=-1),
        np.concatenate([early * slopes, ~early * slopes, pitch[..., None]], axis=-1),
    )


def broken_basis(breaks: Array, n_modes: int, n_nodes: int) -> ModalBasis:
    """Return the modes at as many Gauss nodes on either side of breaks, ``(n_batch,)``."""
    rule, before, after = gauss(n_nodes), breaks[:, None], 1 - breaks[:, None]
    nodes = np.concatenate([before * rule.nodes, before + after * rule.nodes], axis=1)
    weights = np.concatenate([before * rule.weights, after * rule.weights], axis=1)
    return ModalBasis(nodes, weights, *broken_modes(breaks, nodes, n_modes))


@dataclass(frozen=True, eq=False)
class BrokenPaths:
    """A batch of paths: what they join, their breaks and coefficients ``(n_batch, 2 K + 1, n, n)``.

    ``n_nodes`` is that of the quadrature on either side, and ``blind`` says which ends of each are
    singular, ``(n_batch, 2)``: there the sign of det is one of rounding.
    """

    ends: Ends
    breaks: Array
    unknowns: Array
    n_nodes: int
    blind: Array

    @classmethod
    def of_modes(cls, ends: Ends, coefficients: Array, n_nodes: int, blind: Array) -> BrokenPaths:
        """Return paths given by smooth modes, broken in the middle: the same to rounding."""
        n_modes, breaks = coefficients.shape[1], np.full(len(coefficients), MIDDLE)
        basis = broken_basis(breaks, n_modes, n_nodes)
        slopes = combine(modes_at(basis.nodes, n_modes)[1], coefficients)
        unknowns = combine(transpose(basis.weighted_slopes), slopes)
        return cls(ends, breaks, unknowns, n_nodes, blind)

    @property
    def n_modes(self) -> int:
        """Number of modes on either side."""
        return self.unknowns.shape[1] // 2

    def take(self, members: Array) -> BrokenPaths:
        """Return some members."""
        parts = self.breaks[members], self.unknowns[members]
        return BrokenPaths(self.ends.take(members), *parts, self.n_nodes, self.blind[members])

    def at(self, times: Array) -> Array:
        """Return M at times ``(n_batch, n_times)``."""
        modes, t = broken_modes(self.breaks, times, self.n_modes)[0], times[..., None, None]
        line = (1 - t) * self.ends.start[:, None] + t * self.ends.end[:, None]
        return line + combine(modes, self.unknowns)

    def rebroken(self, breaks: Array, n_modes: int, n_nodes: int) -> BrokenPaths:
        """Return the nearest paths with other breaks and numbers of modes and nodes."""
        basis = broken_basis(breaks, n_modes, n_nodes)
        slopes = combine(broken_modes(self.breaks, basis.nodes, self.n_modes)[1], self.unknowns)
        unknowns = combine(transpose(basis.weighted_slopes), slopes)
        return BrokenPaths(self.ends, breaks, unknowns, n_nodes, self.blind)

    def crossing(self) -> tuple[Array, Array]:
        """Return the times at which det M first changes its sign, and which members have one.

        By halving an interval: signs at nodes alone may be those of rounding.
        """
        n_batch = len(self.breaks)
        grid = np.broadcast_to(np.arange(_INTERVALS + 1) / _INTERVALS, (n_batch, _INTERVALS + 1))
        signs = np.linalg.slogdet(self.at(grid))[0]
        for end, beside, blind in zip((0, -1), (1, -2), self.blind.T, strict=True):
            signs[blind, end] = signs[blind, beside]
        changed = signs[:, 1:] * signs[:, :1] < 0
        place, rows = changed.argmax(axis=1), np.arange(n_batch)
        low, high = grid[rows, place], grid[rows, place + 1]
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            sign = np.linalg.slogdet(self.at(middle[:, None])[:, 0])[0]
            early = sign * signs[:, 0] > 0
            low, high = np.where(early, middle, low), np.where(early, high, middle)
        return 0.5 * (low + high), changed.any(axis=1)

    def state(self) -> PathState:
        """Return the paths with their energy."""
        basis = broken_basis(self.breaks, self.n_modes, self.n_nodes)
        return PathState(self.ends, self.unknowns, basis)

    def minimized(
        self, tolerance: float, most: Array | float = np.inf
    ) -> tuple[BrokenPaths, Minimum]:
        """Return the paths of least energy nearby, to a slope, for so much work at most."""
        unknowns, found = minimized(self.state(), tolerance, most)
        return replace(self, unknowns=unknowns), found

    def aimed(self, shift: Array) -> BrokenPaths:
        """Return paths whose ends M_1 are moved."""
        return replace(self, ends=replace(self.ends, end=self.ends.end + shift))


def minimized(
    path: PathState, tolerance: float, most: Array | float = np.inf
) -> tuple[Array, Minimum]:
    """Minimize the energy of paths to a slope; return their unknowns and how well it went."""
    unknowns = path.unknowns.copy()

    def finished(rows: Array, at: PathState, done: Array) -> None:
        unknowns[rows] = at.unknowns[done]

    found = minimize(path, tolerance=tolerance, most=most, finished=finished)
    return unknowns, found
