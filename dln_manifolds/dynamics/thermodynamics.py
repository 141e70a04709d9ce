r"""Thermodynamics of losses of singular values alone, by quadrature.

In the root singular values the Gibbs measure has the density (ours)

.. math:: \prod_{i<j} |l_i^2 - l_j^2| \, a_{ij}^{1/2k} \prod_i l_i^p \, e^{-b E / k}, \qquad
          p = m + n - 2r,

on ``l_1 >= ... >= l_r >= 0``, up to the constant volume of the bases. Gauss-Legendre rules in
``l_1`` and the ratios integrate it, for up to three singular values.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dln_manifolds.checks import as_array
from dln_manifolds.errors import ConvergenceError
from dln_manifolds.geometry.coefficients import log_a_of_roots
from dln_manifolds.geometry.stratum import MatrixStratum
from dln_manifolds.numerics.arguments import function, real, whole
from dln_manifolds.numerics.arrays import Array, ArrayLike
from dln_manifolds.numerics.polynomials import gauss

Function = Callable[[Array], Array]

# What may be left out at either end of the largest root: ``exp(-45) < 1e-19`` of the largest.
_DEEP = 45.0
# Nodes on a panel, and panels of the largest root and of a ratio: coarse rules and fine ones.
_NODES = 12
_PANELS = {1: ((60, 1), (90, 1)), 2: ((20, 8), (30, 12)), 3: ((8, 4), (10, 5))}
# By how much both may differ, relative.
_AGREED = {1: 1e-9, 2: 1e-9, 3: 1e-6}
_LARGEST = 1e12
# Depth up to which panels shrink linearly towards their upper end.
_SHALLOW = 30.0


class _Law(NamedTuple):
    """Nodes ``(n_nodes, r)`` of singular values, their weights, and the logarithm of Z."""

    values: Array
    weights: Array
    log_z: float


class SpectralThermodynamics:
    """Free energy, energy, heat capacity and laws of singular values, exact up to quadrature.

    Every number is computed by two rules and raises `ConvergenceError` where they disagree.

    Parameters
    ----------
    loss : callable
        E of singular values, ``(..., n)`` in descending order, shape ``(...)``.
    n : int
        Number of singular values, at most 3: the rank r.
    depth : float
        Depth N >= 1, finite.
    anisotropy : float
        k > 0, as of `GibbsMeasure`.
    shape : tuple of int, optional
        Shape (m, n) of the matrices, square by default.

    Examples
    --------
    >>> import numpy as np
    >>> from dln_manifolds.dynamics import SpectralThermodynamics
    >>> law = SpectralThermodynamics(lambda s: 0.5 * np.sum(s**2, axis=-1), n=2, depth=3)
    >>> round(law.mean_energy(4.0) * 4.0, 8)  # D / (q N), with D = 6 and q = 2
    1.0
    """

    def __init__(
        self,
        loss: Function,
        n: int,
        depth: float,
        anisotropy: float = 1.0,
        shape: tuple[int, int] | None = None,
    ) -> None:
        if whole("n", n) > max(_PANELS):
            raise ValueError(
                f"n must be at most {max(_PANELS)}, not {n}: quadrature in more dimensions is too "
                f"much. Draw from a GibbsMeasure by `sample` and integrate its mean energy by "
                f"`thermodynamic_integration`."
            )
        stratum = MatrixStratum.of(shape=(n, n) if shape is None else shape, rank=n, depth=depth)
        if not np.isfinite(stratum.depth):
            raise ValueError("Thermodynamics needs a finite depth; take a large one.")
        self.loss, self.n, self.depth = loss, n, stratum.depth
        self.anisotropy = real("anisotropy", anisotropy, "positive and finite")
        self.surplus = sum(stratum.shape) - 2 * n
        # The deeper, the nearer to equal roots lies all that changes: within 1/N of it.
        self._grade = 2.0 if self.depth <= _SHALLOW else 6.0 - n
        # Of the temperature that was asked for last.
        self._laws: dict[float, tuple[_Law, _Law]] = {}

    def __repr__(self) -> str:
        """Return a line."""
        return (
            f"<SpectralThermodynamics of {self.n} singular values at depth {self.depth:g}, "
            f"anisotropy={self.anisotropy:g}>"
        )

    def log_partition(self, beta: float) -> float:
        """Return ``log Z``, up to the constant volume of the bases.

        Its derivative by beta is ``-U / k``.
        """
        return self._agreed(beta, lambda law: law.log_z)

    def mean_energy(self, beta: float) -> float:
        """Return ``U = <E>``."""
        return self.expectation(self.loss, beta)

    def heat_capacity(self, beta: float) -> float:
        """Return ``C = dU / dT = b^2 var(E) / k``, T = 1/b."""

        def variance(law: _Law) -> float:
            energies = self.loss(law.values)
            mean = law.weights @ energies
            return float(law.weights @ (energies - mean) ** 2)

        return beta**2 / self.anisotropy * self._agreed(beta, variance)

    def entropy(self, beta: float) -> float:
        """Return the thermodynamic entropy ``b U / k + log Z``, up to the same constant."""
        return beta * self.mean_energy(beta) / self.anisotropy + self.log_partition(beta)

    def expectation(self, function: Function, beta: float) -> float:
        """Return the mean of a smooth function of singular values, ``(..., n) -> (...)``."""

        def mean(law: _Law) -> float:
            values = np.asarray(function(law.values), dtype=float)
            if values.shape != law.weights.shape:
                raise ValueError(
                    f"The function has shape {values.shape} of singular values of shape "
                    f"{law.values.shape}; it must be a number for each row."
                )
            return float(law.weights @ values)

        return self._agreed(beta, mean)

    def distribution(self, thresholds: ArrayLike, beta: float, index: int = 0) -> Array:
        """Return the probabilities that ``s_index`` is at most each threshold, to about 1e-2.

        Sharp edges cost quadrature its digits; `expectation` of smooth functions keeps them.
        """
        bounds = as_array(thresholds, "thresholds")
        if index not in range(-self.n, self.n):
            raise ValueError(f"index must lie between 0 and {self.n - 1}, not {index}.")
        law = self._laws_at(beta)[1]
        values = law.values[:, index]
        order = np.argsort(values)
        # Half of the weight of a node lies on either side of it.
        middle = np.cumsum(law.weights[order]) - 0.5 * law.weights[order]
        return np.interp(bounds, values[order], middle, left=0.0, right=1.0)

    def _agreed(self, beta: float, number: Callable[[_Law], float]) -> float:
        coarse, fine = (float(number(law)) for law in self._laws_at(beta))
        if not abs(fine - coarse) <= _AGREED[self.n] * max(1.0, abs(fine)):
            raise ConvergenceError(
                f"Two quadratures disagree: {coarse:.10g} and {fine:.10g}. The loss may not be "
                f"smooth, or beta = {beta:g} may be too large for {self.n} singular values."
            )
        return fine

    def _laws_at(self, beta: float) -> tuple[_Law, _Law]:
        """Return the law by both rules."""
        beta = real("beta", beta, "positive and finite")
        if beta not in self._laws:
            self._laws = {beta: (self._law(beta, 0), self._law(beta, 1))}
        return self._laws[beta]

    def _law(self, beta: float, level: int) -> _Law:
        n_largest, n_ratio = _PANELS[self.n][level]
        ratios, shares = self._ratios(n_ratio)
        low, high = self._range(beta, ratios)
        largest, weights = _composite(low, high, n_largest, self._grade)
        roots = largest[:, None, None] * ratios
        logarithms = self._log_density(roots, beta)
        logarithms += np.log(weights)[:, None] + np.log(shares)
        logarithms += (self.n - 1) * np.log(largest)[:, None]
        top = logarithms.max()
        density = np.exp(logarithms - top).ravel()
        total = density.sum()
        values = roots.reshape(-1, self.n) ** self.depth
        return _Law(values, density / total, float(np.log(total) + top))

    def _ratios(self, n_panels: int) -> tuple[Array, Array]:
        """Return ``l_j / l_1``, ``(n_nodes, n)``, and weights with their Jacobian."""
        steps, weights = _composite(0.0, 1.0, n_panels, self._grade)
        ones = np.ones_like(steps)
        if self.n == 1:
            return np.ones((1, 1)), np.ones(1)
        if self.n == 2:
            return np.stack([ones, steps], axis=-1), weights
        second, third = (grid.ravel() for grid in np.meshgrid(steps, steps, indexing="ij"))
        shares = np.outer(weights * steps, weights).ravel()
        return np.stack([np.ones_like(second), second, second * third], axis=-1), shares

    def _range(self, beta: float, ratios: Array) -> tuple[float, float]:
        """Return where the largest root has all but nothing of the measure."""
        logarithm = np.log(_LARGEST) / self.depth
        largest = np.exp(np.linspace(-logarithm, logarithm, 2000))
        few = ratios[:: max(1, len(ratios) // 200)]
        with np.errstate(over="ignore", invalid="ignore"):
            heights = self._log_density(largest[:, None, None] * few, beta).max(axis=1)
        heights = np.where(np.isfinite(heights), heights, -np.inf) + self.n * np.log(largest)
        inside = np.flatnonzero(heights > heights.max() - _DEEP)
        if inside[-1] == len(largest) - 1 or not np.isfinite(heights.max()):
            raise ValueError(
                "The measure cannot be normalized: its density does not fall towards large "
                "singular values. Take a loss that grows."
            )
        low = largest[inside[0] - 1] if inside[0] else 0.0
        return float(low), float(largest[inside[-1] + 1])

    def _log_density(self, roots: Array, beta: float) -> Array:
        values = roots**self.depth
        energies = np.asarray(self.loss(values), dtype=float)
        if energies.shape != values.shape[:-1]:
            raise ValueError(
                f"The loss has shape {energies.shape} of singular values of shape {values.shape}; "
                f"it must be a number for each row."
            )
        if np.isnan(energies).any():
            raise ValueError("The loss is nan at some singular values.")
        logarithms = -beta / self.anisotropy * energies
        logarithms = logarithms + self.surplus * np.log(roots).sum(axis=-1)
        if self.n > 1:
            i, j = np.triu_indices(self.n, 1)
            a = log_a_of_roots(roots, self.depth)[..., i, j]
            gaps = np.log(np.abs(roots[..., i] - roots[..., j]) * (roots[..., i] + roots[..., j]))
            logarithms = logarithms + np.sum(gaps + 0.5 / self.anisotropy * a, axis=-1)
        return logarithms


def thermodynamic_integration(
    mean_energy: Callable[[float], float],
    start: float,
    end: float,
    n_nodes: int = 8,
    anisotropy: float = 1.0,
) -> float:
    """Return ``log Z(end) - log Z(start)``, minus the integral of ``U / k`` over beta.

    By the Gauss-Legendre rule in log beta, for measures of any kind: ``mean_energy(beta)`` may be
    the mean of the energies of draws, ``sample(measure(beta)).energies.mean()``. Raises ValueError
    unless both inverse temperatures are positive.
    """
    function("mean_energy", mean_energy, "beta")
    start, end = (
        real("start", start, "positive and finite"),
        real("end", end, "positive and finite"),
    )
    anisotropy = real("anisotropy", anisotropy, "positive and finite")
    rule, length = gauss(whole("n_nodes", n_nodes)), np.log(end / start)
    betas = start * np.exp(rule.nodes * length)
    energies = np.array([mean_energy(float(beta)) for beta in betas])
    return float(-length * rule.weights @ (betas * energies) / anisotropy)


def _composite(low: float, high: float, n_panels: int, grade: float) -> tuple[Array, Array]:
    """Return nodes and weights of Gauss rules on panels, finer by a power at the upper end."""
    rule, even = gauss(_NODES), np.linspace(0.0, 1.0, n_panels + 1)
    ends = low + (high - low) * (1 - (1 - even) ** grade)
    widths = np.diff(ends)[:, None]
    nodes = ends[:-1, None] + widths * rule.nodes
    return nodes.ravel(), (widths * rule.weights).ravel()
