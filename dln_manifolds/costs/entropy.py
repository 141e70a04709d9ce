"""The Boltzmann entropy as a cost, and the free energy of a loss."""

from math import inf

import numpy as np

from dln_manifolds.costs.base import Cost, Domain, real_number
from dln_manifolds.costs.spectral import Spectral
from dln_manifolds.geometry.entropy import entropy, entropy_jet
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.spectral_functions import SpectralJet
from dln_manifolds.geometry.stratum import MatrixStratum
from dln_manifolds.numerics.arguments import real, whole
from dln_manifolds.numerics.arrays import Array


class Entropy(Spectral):
    r"""The entropy ``S(X) = log vol(O_X)`` of an end-to-end matrix.

    Exact at equal singular values too. It stays bounded where one singular value vanishes, with an
    unbounded slope, and falls to minus infinity where two do: singular values below ``1e-100 s_1``
    count as that, so that solvers may come close to singular matrices. The ``depth`` is N >= 1, the
    ``rank`` full if not given: below that, derivatives are along the matrices of that rank. Of a
    network whose hidden layers are wider than the rank give the ``widths`` ``d_0, ..., d_N``, too.
    Menon and Yu, *An entropy formula for the Deep Linear Network*, arXiv 2509.09088.
    """

    def __init__(
        self, depth: float, rank: int | None = None, widths: tuple[int, ...] | None = None
    ) -> None:
        self.depth = real_number(depth, "depth", at_least=1)
        self.rank = None if rank is None else whole("rank", rank)
        self.domain = Domain(of_layers=False, depth=self.depth, rank=self.rank or inf, hidden=())
        self.hidden_widths = None
        if widths is not None:
            stratum = MatrixStratum.of(depth=depth, rank=rank, widths=widths)
            self.rank, self.hidden_widths = stratum.rank, stratum.hidden_widths
            self.domain = Domain.of_network(False, stratum)
        super().__init__()

    def __call__(self, point: Array) -> Array:
        """Return S(X)."""
        values = self._frames(point).singular_values
        return np.asarray(entropy(values, self.depth, self.hidden_widths))[()]

    def jet(self, frame: Frame) -> SpectralJet:
        """Return first and second derivatives by the logarithms of singular values."""
        return entropy_jet(frame, self.hidden_widths)


def free_energy(
    energy: Cost,
    beta: float,
    depth: float,
    rank: int | None = None,
    widths: tuple[int, ...] | None = None,
) -> Cost:
    r"""Return the free energy ``F(X) = E(X) - S(X) / beta`` of a deep linear network.

    A cost of matrices X, as the loss E is; `OfLayers` makes it one of layers. The inverse
    temperature ``beta`` is positive, infinite for the loss itself; ``depth``, ``rank`` and
    ``widths`` are those of `Entropy`. Menon, *The geometry of the deep linear network*, arXiv
    2411.09004; Chen, Kotwal and Menon, arXiv 2512.06137.
    """
    beta = real("beta", beta, "positive")
    if not isinstance(energy, Cost):
        raise TypeError(f"energy must be a cost of dln_manifolds.costs, not {energy!r}.")
    return energy if np.isinf(beta) else energy - Entropy(depth, rank, widths) / beta
