"""The Gibbs measure of a loss on end-to-end matrices: what the Langevin equation keeps."""

import math
import numbers
from collections.abc import Callable
from typing import Protocol

import numpy as np

from dln_manifolds.geometry.stratum import MatrixStratum
from dln_manifolds.numerics.arrays import Array

Function = Callable[[Array], Array]


class Space(Protocol):
    """A space of end-to-end matrices."""

    stratum: MatrixStratum


class GibbsMeasure:
    r"""Density ``exp(-(b E - S) / k)`` by the Riemannian volume, S the Boltzmann entropy.

    Parameters
    ----------
    space : DLNObservableManifold
        The matrices, of finite depth.
    energy, gradient : callable
        E(X) and its Euclidean gradient, of matrices ``(..., m, n)``.
    beta : float
        Inverse temperature b > 0.
    anisotropy : float
        By how much horizontal noise exceeds vertical noise, k >= 0; without a density at k = 0.
    """

    def __init__(
        self,
        space: Space,
        energy: Function,
        gradient: Function,
        beta: float,
        anisotropy: float = 1.0,
    ) -> None:
        self.space, self.beta = space, _number("beta", beta)
        self.anisotropy = _number("anisotropy", anisotropy)
        if self.beta == 0:
            raise ValueError("beta must be positive, not 0.")
        if math.isinf(space.stratum.depth):
            raise ValueError("A Gibbs measure needs a finite depth; take a large one.")
        self._energy, self._gradient = energy, gradient

    def energy(self, points: Array) -> Array:
        """Return E(X), shape ``(...)``."""
        values = np.asarray(self._energy(points), dtype=float)
        return _checked(values, points.shape[:-2], "energy")

    def energy_gradient(self, points: Array) -> Array:
        """Return the Euclidean gradient of E, shape ``(..., m, n)``."""
        values = np.asarray(self._gradient(points), dtype=float)
        return _checked(values, points.shape, "gradient")


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
