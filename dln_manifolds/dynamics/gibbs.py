r"""The Gibbs measure of a loss on end-to-end matrices: what the Langevin equation keeps.

With the Riemannian volume and the Boltzmann entropy S, the volume of the fibre, its density is
``exp(-(b E - S) / k)``. By Lebesgue measure in X, by Hausdorff measure below full rank, a factor
``sqrt(det g)`` joins; in the root chart ``T = U diag(s^(1/N)) V^T`` that factor is constant (ours).
"""

import math
import warnings
from collections.abc import Callable
from typing import Protocol

import numpy as np

from dln_manifolds.dynamics.mass import check_mass
from dln_manifolds.errors import SamplingWarning
from dln_manifolds.geometry.entropy import (
    entropy_differential,
    entropy_of_roots,
    entropy_rates,
    log_riemannian_density,
    log_riemannian_density_differential,
)
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import root_of
from dln_manifolds.geometry.stratum import MatrixStratum
from dln_manifolds.numerics.arguments import real
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.functions import damped_sinhc
from dln_manifolds.numerics.matrices import diagonal, parity_combine

Function = Callable[[Array], Array]


class Space(Protocol):
    """A space of end-to-end matrices."""

    stratum: MatrixStratum


class GibbsMeasure:
    r"""Density ``exp(-(b E - S) / k)`` by the Riemannian volume, S the Boltzmann entropy.

    Its mass is finite only if E grows fast enough: without weight decay that of matrix completion
    is infinite at moderate depth. What can be seen of that is checked.

    Parameters
    ----------
    space : DLNObservableManifold
        The matrices, of finite depth.
    energy : callable or Cost
        E(X), shape ``(...)``, of matrices ``(..., m, n)``.
    gradient : callable, optional
        Its Euclidean gradient, ``(..., m, n)``; that of a cost if none is given.
    beta : float
        Inverse temperature b > 0.
    anisotropy : float
        By how much horizontal noise of layers exceeds vertical noise, k >= 0; at k = 0 there is no
        density.

    Raises
    ------
    TypeError, ValueError
        If a number is of another kind or out of range, a gradient is missing, or, when they are
        evaluated, E or its gradient have a wrong shape or are not numbers. If the mass is known to
        be infinite: E is quadratic and has no lower bound, or the density decays too slowly along
        directions in which E does not grow.

    Warns
    -----
    SamplingWarning
        If E does not grow in some direction: whether the mass is finite is then for you to check.
    """

    def __init__(
        self,
        space: Space,
        energy: Function,
        gradient: Function | None = None,
        beta: float = 1.0,
        anisotropy: float = 1.0,
    ) -> None:
        if not isinstance(getattr(space, "stratum", None), MatrixStratum):
            raise TypeError(
                f"space must be one of end-to-end matrices, not {space!r}: noise in the layers is "
                f"that of langevin(scheme='layers') over it."
            )
        if not callable(energy):
            raise TypeError(f"energy must be a function of X or a cost, not {energy!r}.")
        self.space, self.stratum = space, space.stratum
        self.beta = real("beta", beta, "finite and not negative")
        self.anisotropy = real("anisotropy", anisotropy, "finite and not negative")
        if self.beta == 0:
            raise ValueError("beta must be positive, not 0: at beta = 0 nothing holds X.")
        if math.isinf(self.depth):
            raise ValueError("A Gibbs measure needs a finite depth, however large, not inf.")
        slope = getattr(energy, "euclidean_gradient", None) if gradient is None else gradient
        if not callable(slope):
            raise TypeError(f"gradient must be a function of X, not {slope!r}, or energy a cost.")
        self._energy, self._gradient = energy, slope
        if self.anisotropy:
            doubt = check_mass(self.stratum, self.energy, self.energy_gradient, self.anisotropy)
            if doubt:
                warnings.warn(doubt, SamplingWarning, stacklevel=2)

    def __repr__(self) -> str:
        """Return a line."""
        return (
            f"<GibbsMeasure on {self.space!r}, beta={self.beta:g}, anisotropy={self.anisotropy:g}>"
        )

    @property
    def depth(self) -> float:
        """Depth N."""
        return self.stratum.depth

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (m, n) of the matrices."""
        return self.stratum.shape

    @property
    def rank(self) -> int:
        """Rank r of the matrices."""
        return self.stratum.rank

    def energy(self, points: Array) -> Array:
        """Return E(X), shape ``(...)``."""
        return _checked(self._energy(points), points.shape[:-2], "energy")

    def energy_gradient(self, points: Array) -> Array:
        """Return the Euclidean gradient of E, shape ``(..., m, n)``."""
        return _checked(self._gradient(points), points.shape, "gradient")

    def to_root(self, points: Array) -> Array:
        """Return ``T = U diag(s^(1/N)) V^T`` of X."""
        return root_of(self.stratum.frame(points))

    def from_root(self, root: Array) -> Array:
        """Return X of T."""
        frame = root_frame(root, self.depth, self.rank)
        return frame.compose(frame.singular_values)

    def log_density(self, points: Array) -> Array:
        """Return the logarithm of the density in X, up to a constant, shape ``(...)``."""
        frame = self.stratum.frame(points)
        volume = log_riemannian_density(frame.singular_values, self.depth, frame.surplus)
        return self.log_density_at(frame) + volume

    def log_density_gradient(self, points: Array) -> Array:
        """Return the Euclidean gradient of `log_density`, tangent below full rank."""
        frame = self.stratum.frame(points)
        energy = frame.assemble(frame.blocks(self.energy_gradient(points)))
        volume = entropy_differential(frame, self.stratum.hidden_widths)
        rest = log_riemannian_density_differential(frame)
        return (volume - self.beta * energy) / self.anisotropy + rest

    def root_log_density(self, root: Array) -> Array:
        """Return the logarithm of the density in T, up to a constant, shape ``(...)``."""
        return self.log_density_at(root_frame(root, self.depth, self.rank))

    def root_log_density_gradient(self, root: Array) -> Array:
        """Return the gradient of `root_log_density` by T, tangent below full rank."""
        return self.slope_at(root_frame(root, self.depth, self.rank))

    def slope_at(self, frame: Frame) -> Array:
        """Return the gradient of `root_log_density` of points by their frame."""
        covector = frame.blocks(self.energy_gradient(frame.compose(frame.singular_values)))
        sums, differences, power = power_quotients(frame)
        core = parity_combine(differences, sums, covector[..., : self.rank, :])
        sides = power[..., None, :] * covector[..., self.rank :, :]
        blocks = -self.beta * np.concatenate([core, sides], axis=-2)
        rates = entropy_rates(frame, self.stratum.hidden_widths)
        diagonal(blocks[..., : self.rank, :])[...] += self.depth * rates / frame.roots
        return frame.assemble(blocks / self.anisotropy)

    def log_density_at(self, frame: Frame) -> Array:
        """Return ``-(b E - S) / k`` of points by their frame, shape ``(...)``."""
        if not self.anisotropy:
            raise ValueError("At anisotropy 0 there is no density: X moves without noise.")
        values = frame.singular_values
        volume = entropy_of_roots(frame.roots, self.depth, self.stratum.hidden_widths)
        return (volume - self.beta * self.energy(frame.compose(values))) / self.anisotropy


def root_frame(root: Array, depth: float, rank: int) -> Frame:
    """Return the frame of T, cut at a rank."""
    frame = Frame.of_root(root, depth)
    if rank == frame.values.shape[-1]:
        return frame
    left, values, right_t = frame.left, frame.values, frame.right_t
    return Frame(left[..., :rank], values[..., :rank], right_t[..., :rank, :], depth, depth)


def power_quotients(frame: Frame) -> tuple[Array, Array, Array]:
    """Return ``(s_i + s_j)/(l_i + l_j)``, ``(s_i - s_j)/(l_i - l_j)`` and ``s_i / l_i``."""
    roots, n, x = frame.roots, frame.depth, np.abs(frame.half_log_ratio)
    power = roots ** (n - 1)
    scale = np.maximum(power[..., :, None], power[..., None, :])
    sums = scale * (1 + np.exp(-2 * n * x)) / (1 + np.exp(-2 * x))
    differences = scale * n * damped_sinhc(n * x) / damped_sinhc(x)
    return sums, differences, power


def checked_measure(measure: object) -> "GibbsMeasure":
    """Return a Gibbs measure, or refuse what is none."""
    if not isinstance(measure, GibbsMeasure):
        raise TypeError(f"measure must be a GibbsMeasure, not {measure!r}.")
    return measure


def _checked(value: Array, shape: tuple[int, ...], name: str) -> Array:
    """Return what a function gave, or raise: a wrong shape must not broadcast silently."""
    values = np.asarray(value, dtype=float)
    if values.shape != shape:
        raise ValueError(
            f"The {name} has shape {values.shape} where {shape} is needed: it is evaluated at "
            f"many matrices at once, along the first axes."
        )
    if np.isnan(values).any():
        count = int(np.isnan(values).sum())
        raise ValueError(f"The {name} is nan at {count} of {values.size} entries.")
    return values
