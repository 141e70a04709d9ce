r"""Exact thermodynamics of losses that depend on singular values alone, by quadrature.

The root singular values ``l_1 >= ... >= l_n >= 0`` of square matrices of full rank have the density
(ours)

.. math:: \prod_{i<j} (l_i^2 - l_j^2) a_{ij}^{1/(2k)} e^{-b E / k} dl.

The integral is over ``l_1`` and the ratios ``l_{i+1} / l_i``, by Gauss' rules.
"""

from collections.abc import Callable

import numpy as np

from dln_manifolds.geometry.coefficients import kappa
from dln_manifolds.geometry.stratum import MatrixStratum, whole
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.polynomials import gauss

# Nodes for l_1 in each of two panels, and for ratios; few where the largest l_1 is looked for.
_OUTER, _RATIOS = 64, 40
_COARSE = 8
# Logarithm of what is negligible beside the largest density, and singular values looked at.
_NEGLIGIBLE, _FARTHEST = 45.0, 1e8


class SpectralThermodynamics:
    r"""Partition function and averages of a loss of singular values, for n <= 3.

    Parameters
    ----------
    loss : callable
        E of singular values ``(..., n)`` in descending order, shape ``(...)``.
    n : int
        Width, at most 3.
    depth : float
        Depth N, finite.
    anisotropy : float
        Anisotropy k > 0; see `GibbsMeasure`.

    Examples
    --------
    >>> from dln_manifolds.dynamics import SpectralThermodynamics
    >>> exact = SpectralThermodynamics(lambda s: (s**2).sum(axis=-1) / 2, n=2, depth=3)
    >>> round(exact.mean_energy(4.0), 6)  # (n + n (n-1) (N+1) / 2) / (2 N b)
    0.25
    """

    def __init__(
        self, loss: Callable[[Array], Array], n: int, depth: float, anisotropy: float = 1.0
    ) -> None:
        stratum = MatrixStratum.square(n, depth)
        if stratum.rank > 3:
            raise ValueError(f"n must be at most 3 for quadrature, not {n}.")
        if not np.isfinite(stratum.depth) or not 0 < anisotropy < np.inf:
            raise ValueError(
                f"depth must be finite and anisotropy positive, not {depth} and {anisotropy}."
            )
        self.loss, self.n, self.depth = loss, whole("n", n), stratum.depth
        self.anisotropy = float(anisotropy)

    def law(self, beta: float) -> tuple[Array, Array]:
        """Return singular values, ``(n_nodes, n)``, and their probabilities, ``(n_nodes,)``."""
        roots, logarithm = self._nodes(beta)
        weights = np.exp(logarithm - logarithm.max())
        return roots**self.depth, weights / weights.sum()

    def mean(self, function: Callable[[Array], Array], beta: float) -> float:
        """Return the mean of a function of singular values ``(..., n)``."""
        values, weights = self.law(beta)
        return float(weights @ function(values))

    def log_partition(self, beta: float) -> float:
        """Return ``log Z``, with ``dl`` over descending roots for a measure."""
        _, logarithm = self._nodes(beta)
        return float(logarithm.max() + np.log(np.exp(logarithm - logarithm.max()).sum()))

    def mean_energy(self, beta: float) -> float:
        """Return ``U = -k d log Z / db``."""
        return self.mean(self.loss, beta)

    def heat_capacity(self, beta: float) -> float:
        """Return ``-b^2 dU/db = (b^2 / k) var(E)``."""
        middle = self.mean_energy(beta)
        variance = self.mean(lambda s: (self.loss(s) - middle) ** 2, beta)
        return beta**2 / self.anisotropy * variance

    def entropy(self, beta: float) -> float:
        """Return ``log Z + b U / k``, that of the law in roots, with the volume of fibres."""
        return self.log_partition(beta) + beta * self.mean_energy(beta) / self.anisotropy

    def _nodes(self, beta: float) -> tuple[Array, Array]:
        """Return roots, and logarithms of density times weight."""
        if isinstance(beta, bool) or not 0 < beta < np.inf:
            raise ValueError(f"beta must be positive and finite, not {beta}.")
        top = self._top(beta)
        x, w = gauss(_OUTER)
        first = np.concatenate([0.5 * top * x, 0.5 * top * (1 + x)])
        outer = 0.5 * top * np.concatenate([w, w])
        ratios, weights = _ratios(self.n, _RATIOS)
        roots = first[:, None, None] * ratios
        # Each ratio scales all roots below it.
        jacobian = np.prod(roots[..., :-1], axis=-1)
        logarithm = self._log_density(roots, beta) + np.log(outer[:, None] * weights * jacobian)
        return roots.reshape(-1, self.n), logarithm.ravel()

    def _log_density(self, roots: Array, beta: float) -> Array:
        i, j = np.triu_indices(self.n, 1)
        first, second = roots[..., i], roots[..., j]
        # a_ij = l_i^(2N-2) kappa_ij ((1 + r^N) / (1 + r))^2, r = l_j / l_i
        ratio = second / first
        quotient = (
            kappa(-0.5 * np.log(ratio), self.depth) * ((1 + ratio**self.depth) / (1 + ratio)) ** 2
        )
        log_a = 2 * (self.depth - 1) * np.log(first) + np.log(quotient)
        pairs = np.log(first**2 - second**2) + log_a / (2 * self.anisotropy)
        loss = np.asarray(self.loss(roots**self.depth), dtype=float)
        if loss.shape != roots.shape[:-1] or np.isnan(loss).any():
            raise ValueError(
                f"loss has shape {loss.shape} where {roots.shape[:-1]} is needed, or is nan."
            )
        return np.sum(pairs, axis=-1) - beta / self.anisotropy * loss

    def _top(self, beta: float) -> float:
        """Return an ``l_1`` beyond which the density is negligible."""
        ratios, _ = _ratios(self.n, _COARSE)
        first = np.geomspace(1e-6, _FARTHEST, 400) ** (1 / self.depth)
        highest = self._log_density(first[:, None, None] * ratios, beta).max(axis=-1)
        kept = np.flatnonzero(highest > highest.max() - _NEGLIGIBLE)
        if kept[-1] == first.size - 1:
            raise ValueError(
                f"The measure has no finite mass: its density does not decay up to singular values "
                f"of {_FARTHEST:g}. Add weight decay to the loss, or raise beta = {beta:g}."
            )
        return float(first[kept[-1] + 1])


def _ratios(n: int, n_nodes: int) -> tuple[Array, Array]:
    """Return ``l_i / l_1``, shape ``(m, n)``, by products of Gauss nodes, and weights ``(m,)``."""
    x, w = gauss(n_nodes)
    index = np.indices((n_nodes,) * (n - 1)).reshape(n - 1, n_nodes ** (n - 1))
    ratios = np.concatenate([np.ones((1, index.shape[1])), np.cumprod(x[index], axis=0)])
    return ratios.T, np.prod(w[index], axis=0)
