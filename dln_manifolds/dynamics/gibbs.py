"""The Gibbs measure of a loss on end-to-end matrices: what the Langevin equation keeps."""

import math
import numbers
import warnings
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np

from dln_manifolds.dynamics.normalization import check_normalizable
from dln_manifolds.dynamics.root_langevin import root_covector, root_frame
from dln_manifolds.errors import SamplingWarning
from dln_manifolds.geometry.entropy import entropy, entropy_rates, log_riemannian_density
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import root_of
from dln_manifolds.geometry.stratum import MatrixStratum
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import diagonal

Function = Callable[[Array], Array]


class Space(Protocol):
    """A space of end-to-end matrices."""

    stratum: MatrixStratum


@runtime_checkable
class _Differentiable(Protocol):
    """A function of X that brings its gradient, as costs do."""

    def euclidean_gradient(self, point: Array) -> Array:
        """Return the Euclidean gradient."""


class GibbsMeasure:
    r"""Density ``exp(-(b E - S) / k)`` by the Riemannian volume, S the Boltzmann entropy.

    It is what the Langevin equation keeps (Menon, arXiv 2411.09004, second-hand). In the root chart
    ``T = U diag(s^(1/N)) V^T`` the Riemannian volume is Lebesgue measure, up to a constant (ours).

    Parameters
    ----------
    space : DLNObservableManifold
        The matrices, of any shape and rank, of finite depth.
    energy : callable or Cost
        E(X) of matrices ``(..., m, n)``, shape ``(...)``.
    gradient : callable, optional
        Its Euclidean gradient; costs bring their own.
    beta : float
        Inverse temperature b > 0.
    anisotropy : float
        By how much horizontal noise exceeds vertical noise, k >= 0; without a density at k = 0.

    Raises
    ------
    ValueError
        If numbers are out of range, or the measure is known not to be normalizable: a quadratic
        energy that has no lower bound, or along whose flat directions the density decays too
        slowly, as that of a completion without decay at moderate depth.

    Warns
    -----
    SamplingWarning
        If the energy does not grow in some direction: whether the measure can be normalized is then
        for its author to say.
    """

    def __init__(
        self,
        space: Space,
        energy: Function,
        gradient: Function | None = None,
        beta: float = 1.0,
        anisotropy: float = 1.0,
    ) -> None:
        self.space, self.beta = space, _number("beta", beta)
        self.anisotropy = _number("anisotropy", anisotropy)
        if self.beta == 0:
            raise ValueError("beta must be positive, not 0.")
        stratum = space.stratum
        if math.isinf(stratum.depth):
            raise ValueError("A Gibbs measure needs a finite depth; take a large one.")
        if gradient is None:
            if not isinstance(energy, _Differentiable):
                raise TypeError(
                    "gradient is missing: give the Euclidean gradient of the energy, or as energy "
                    "a cost of dln_manifolds.costs, which brings its own."
                )
            gradient = energy.euclidean_gradient
        self._energy, self._gradient = energy, gradient
        if self.anisotropy:
            doubt = check_normalizable(stratum, self.energy, self.energy_gradient, self.anisotropy)
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
        return self.space.stratum.depth

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (m, n) of the matrices."""
        return self.space.stratum.shape

    @property
    def rank(self) -> int:
        """Rank r of the matrices."""
        return self.space.stratum.rank

    def energy(self, points: Array) -> Array:
        """Return E(X), shape ``(...)``."""
        values = np.asarray(self._energy(points), dtype=float)
        return _checked(values, points.shape[:-2], "energy")

    def energy_gradient(self, points: Array) -> Array:
        """Return the Euclidean gradient of E, shape ``(..., m, n)``."""
        values = np.asarray(self._gradient(points), dtype=float)
        return _checked(values, points.shape, "gradient")

    def log_density(self, points: Array) -> Array:
        """Return the log density of X by Lebesgue measure, or Hausdorff measure of its rank.

        ``-(b E - S) / k + log sqrt(det g)``, up to the constant that normalizes; shape ``(...)``.
        """
        frame = self.space.stratum.frame(np.asarray(points, dtype=float))
        volume = log_riemannian_density(frame.singular_values, frame.depth, frame.surplus)
        return np.asarray(self.root_density(frame) + volume)

    def root_log_density(self, roots: Array) -> Array:
        """Return the log density of T, ``-(b E - S) / k``, up to a constant; shape ``(...)``."""
        return self.root_density(self.root_frame(roots))

    def root_log_density_gradient(self, roots: Array) -> Array:
        """Return the gradient of `root_log_density`, tangent to T below full rank."""
        frame = self.root_frame(roots)
        return frame.assemble(self.root_slope(frame))

    def to_root(self, points: Array) -> Array:
        """Return ``T = U diag(s^(1/N)) V^T``, shape ``(..., m, n)``."""
        return root_of(self.space.stratum.frame(np.asarray(points, dtype=float)))

    def from_root(self, roots: Array) -> Array:
        """Return X of T, shape ``(..., m, n)``."""
        frame = self.root_frame(roots)
        return frame.compose(frame.singular_values)

    def root_frame(self, roots: Array) -> Frame:
        """Decompose T."""
        return root_frame(np.asarray(roots, dtype=float), self.depth, self.rank)

    def root_density(self, frame: Frame) -> Array:
        """Return `root_log_density` of decomposed T."""
        if not self.anisotropy:
            raise ValueError("At anisotropy 0 there is no density: the motion is deterministic.")
        values = frame.singular_values
        volume = entropy(values, frame.depth, self.space.stratum.hidden_widths)
        free = self.beta * self.energy(frame.compose(values)) - volume
        return np.asarray(-free / self.anisotropy)

    def root_slope(self, frame: Frame) -> Array:
        """Return blocks of `root_log_density_gradient` of decomposed T."""
        pulled = root_covector(frame, self.energy_gradient(frame.compose(frame.singular_values)))
        slope = -self.beta * pulled
        rates = entropy_rates(frame, self.space.stratum.hidden_widths)
        core = slope[..., : frame.roots.shape[-1], :]
        diagonal(core)[...] += frame.depth * rates / frame.roots
        return slope / self.anisotropy


def _number(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number, not {value!r}.")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and not negative, not {value}.")
    return float(value)


def _checked(values: Array, shape: tuple[int, ...], name: str) -> Array:
    if values.shape != shape:
        raise ValueError(f"The {name} has shape {values.shape} where {shape} is needed.")
    if np.isnan(values).any():
        raise ValueError(f"The {name} is nan at {int(np.isnan(values).sum())} entries.")
    return values
