"""The manifold of end-to-end matrices of one shape and rank, and its metric."""

import numpy as np

from dln_manifolds.autodiff.dispatch import every_backend
from dln_manifolds.autodiff.kinds import OF_METRIC, OF_SPACE
from dln_manifolds.autodiff.tables import OBSERVABLE_METRIC, OBSERVABLE_SPACE
from dln_manifolds.checks import At
from dln_manifolds.costs.base import Cost, Domain
from dln_manifolds.costs.spectral import hessian_of, laplacian_of
from dln_manifolds.geodesics import System, system_of_matrices
from dln_manifolds.geometry import entropy as volume
from dln_manifolds.geometry.metric import operator_matrix
from dln_manifolds.geometry.spectral_functions import spectral_hessian
from dln_manifolds.geometry.stratum import MatrixStratum
from dln_manifolds.manifolds.completed import CompletedDistances
from dln_manifolds.manifolds.pymanopt_observable import ObservableOptimization
from dln_manifolds.manifolds.space import NetworkSpace
from dln_manifolds.numerics.arrays import Array, ArrayLike, OptionalArray


@every_backend(OBSERVABLE_METRIC, OF_METRIC, "m, n")
class DLNObservableMetric(CompletedDistances):
    r"""Metric of the deep linear network on end-to-end matrices of one shape and rank.

    .. math::
        g_X(Z, Z') = tr(Z^T A_X^{-1} Z'), \qquad
        A_X(P) = \sum_{p=1}^N (X X^T)^{(N-p)/N} P (X^T X)^{(p-1)/N},

    the quotient of the Frobenius metric on balanced layers by the group of the fibre (Menon and
    Yu, arXiv 2509.09088; Chen, arXiv 2510.07324, (1.7), (1.8), Theorem 1.1), for real depths
    N >= 1. It is normalized without a factor 1/N, so lengths are those of the layers in Frobenius
    norm. Of rank r (Bah et al., arXiv 1910.05505), ``A_X^{-1}`` is the inverse on tangent vectors,
    and parts of vectors that are not tangent drop out. At ``depth=math.inf`` it is the limit of
    ``N g_N`` (Cohen, Menon and Veraszto, arXiv 2210.12497). Points and vectors have
    ``shape=[..., m, n]``.

    The order of arguments is geomstats': ``exp(tangent_vec, base_point)`` and
    ``log(point, base_point)``. The methods of the same names on the space are pymanopt's, which
    take the base point first.
    """

    def _make_system(self) -> System:
        return system_of_matrices(self.stratum.depth, self.stratum.shape, self.stratum.rank)

    def _place(self, base_point: OptionalArray, **vectors: ArrayLike) -> At:
        return At(self.stratum, base_point, **vectors)

    def _coordinates(self, at: At) -> list[Array]:
        # Their squares may be within range where 1 / a_ij is not.
        first = at.frame.blocks(at.vectors[0]) / at.frame.root_weights
        if len(at.vectors) == 1:
            return [first]
        if at.vectors[1] is at.vectors[0]:
            return [first, first]
        return [first, at.frame.blocks(at.vectors[1]) / at.frame.root_weights]

    def _dual_coordinates(self, at: At) -> list[Array]:
        return [at.frame.blocks(covector) * at.frame.root_weights for covector in at.vectors]

    def metric_matrix(self, base_point: OptionalArray = None) -> Array:
        """Matrix of the metric on row-major entries, ``(..., m n, m n)``.

        ``vec(Z) @ matrix @ vec(Z')`` is the inner product. Positive definite at full rank; of lower
        rank than min(m, n), matrices that are normal to the manifold are its null space.
        """
        at = At(self.stratum, base_point)
        return at.cast(operator_matrix(at.frame, 1 / at.frame.weights))

    def cometric_matrix(self, base_point: OptionalArray = None) -> Array:
        """Matrix of the cometric ``A_X`` on row-major entries, shape ``(..., m n, m n)``.

        The inverse of `metric_matrix`, or its pseudo-inverse where that is singular.
        """
        at = At(self.stratum, base_point)
        return at.cast(operator_matrix(at.frame, at.frame.weights))

    def orthonormal_coordinates(self, tangent_vec: ArrayLike, base_point: ArrayLike) -> Array:
        """Coordinates ``C = A_X^{-1/2}(Z)`` in an orthonormal frame, ``(..., m, n)`` (ours).

        The Frobenius inner product of coordinates is the inner product of the vectors. The frame is
        smooth in X and does not depend on a choice of singular vectors. Coordinates are tangent.
        """
        at = At(self.stratum, base_point, tangent_vec=tangent_vec)
        return at.cast(at.frame.assemble(self._coordinates(at)[0]))

    def from_orthonormal_coordinates(self, coordinates: ArrayLike, base_point: ArrayLike) -> Array:
        """Tangent vectors ``Z = A_X^{1/2}(C)``: the inverse of `orthonormal_coordinates`."""
        at = At(self.stratum, base_point, coordinates=coordinates)
        return at.cast(at.frame.assemble(self._dual_coordinates(at)[0]))

    def log_volume_density(self, base_point: ArrayLike) -> Array:
        """Logarithm of the Riemannian density with respect to Lebesgue measure, ``(...)``.

        ``(1/2) log det g_X = -(1/2) sum_i log a_ii - sum_{i<j} log a_ij`` (ours); dimensionless. At
        lower rank and other shapes with respect to Hausdorff measure, with ``-(1 - 1/N)
        (m + n - 2r) sum_i log s_i`` more.
        """
        at = At(self.stratum, base_point)
        return at.cast(self._log_density(at))

    def _log_density(self, at: At) -> Array:
        frame = at.frame
        return volume.log_riemannian_density(frame.singular_values, frame.depth, frame.surplus)

    def volume_density(self, base_point: ArrayLike) -> Array:
        """Riemannian density ``sqrt(det g_X)``, shape ``(...)``; may overflow, its log not."""
        at = At(self.stratum, base_point)
        return at.cast(np.exp(self._log_density(at)))

    def hessian(self, cost: Cost, tangent_vec: ArrayLike, base_point: ArrayLike) -> Array:
        """Riemannian Hessian ``nabla_Z grad E`` of a cost along tangent vectors, ``(..., m, n)``.

        In closed spectral form (ours) of the entropy and of what depends on singular values alone,
        `dln_manifolds.costs.SpectralFunction`, exact at equal ones; of a free energy by parts.
        """
        at = At(self.stratum, base_point, tangent_vec=tangent_vec).tangent()
        vector = np.broadcast_to(at.vectors[0], (*at.batch, *self.stratum.point_shape))
        return at.cast(hessian_of(self._of_matrices(cost), at.frame, at.point, vector))

    def laplacian(self, cost: Cost, base_point: ArrayLike) -> Array:
        r"""Laplace-Beltrami operator ``div grad E`` of a cost, shape ``(...)``.

        The trace of `hessian`, ``tr(A_X D^2 E) + <dE, U diag((N - 1) s^(1 - 2/N)) V^T>`` (ours), of
        singular values alone in closed form. At infinite depth that of the limit of ``N g_N``.
        """
        at = At(self.stratum, base_point)
        return at.cast(laplacian_of(self._of_matrices(cost), at.frame, at.point))

    def _of_matrices(self, cost: Cost) -> Cost:
        """Return a cost of these matrices; refuse others."""
        if not isinstance(cost, Cost):
            raise TypeError(f"cost must be a dln_manifolds.costs.Cost, not {type(cost).__name__}.")
        points = Domain.of_network(False, self.stratum)
        cost.domain.agree(points, "The cost", "the manifold is")
        return cost


@every_backend(OBSERVABLE_SPACE, OF_SPACE, "m, n")
class DLNObservableManifold(NetworkSpace, ObservableOptimization):
    r"""End-to-end matrices ``X = W_N ... W_1`` of deep linear networks, of one shape and rank.

    The m x n matrices of rank r, with the metric that makes the map from balanced layers a
    Riemannian submersion. Of full rank they are an open set; square ones, GL(n), have two
    components (the sign of det X), all others are connected. One object serves both hosts:
    geomstats finds its methods here and on ``metric`` (batched), pymanopt finds its own here (one
    point at a time, base point first). Points and vectors have ``shape=[..., m, n]``, for
    pymanopt's methods ``[m, n]``.

    Give one of ``n``, ``shape`` and ``widths``, and the depth unless the widths say it::

        DLNObservableManifold(n=3, depth=4)
        DLNObservableManifold(shape=(5, 4), rank=2, depth=3)
        DLNObservableManifold(widths=(4, 3, 5))
        DLNObservableManifold(n=3, depth=math.inf)

    Parameters
    ----------
    n : int, optional
        Width: matrices are n x n.
    depth : float, optional
        Depth N of the network, any real number >= 1; infinity for square matrices of full rank.
    equip : bool
        Whether to equip the space with its metric.
    shape : tuple of int, optional
        Shape (m, n) of matrices.
    rank : int, optional
        Rank r; the largest that shape or widths allow if not given.
    widths : tuple of int, optional
        Widths ``d_0 = n, d_1, ..., d_N = m`` of the network. The hidden ones matter for the entropy
        alone; if not given, they are r.

    Raises
    ------
    TypeError, ValueError
        If a number is missing, of another kind or out of range, or contradicts another.

    References
    ----------
    Chen, *Geodesics in the Deep Linear Network*, arXiv 2510.07324. Menon and Yu, *An entropy
    formula for the Deep Linear Network*, arXiv 2509.09088.

    Examples
    --------
    >>> from dln_manifolds import DLNObservableManifold
    >>> space = DLNObservableManifold(n=3, depth=4)
    >>> X, Y = space.random_point(2)
    >>> Z = space.metric.log(Y, X)
    >>> bool(abs(space.metric.exp(Z, X) - Y).max() < 1e-10)
    True
    """

    stratum: MatrixStratum

    def __init__(
        self,
        n: int | None = None,
        depth: float | None = None,
        equip: bool = True,
        *,
        shape: tuple[int, int] | None = None,
        rank: int | None = None,
        widths: tuple[int, ...] | None = None,
    ) -> None:
        stratum = MatrixStratum.of(n, depth, shape, rank, widths)
        given = ", ".join(f"{key}={value}" for key, value in stratum.arguments.items())
        name = f"Observable manifold of the deep linear network, {given}"
        super().__init__(stratum, name, equip)

    def entropy_hessian(self, vector: ArrayLike, point: ArrayLike) -> Array:
        """Riemannian Hessian ``nabla_Z grad S`` of the entropy along a tangent vector (ours)."""
        at, widths = At(self.stratum, point, "point", vector=vector), self.stratum.hidden_widths
        jet = volume.entropy_jet(at.frame, widths)
        return at.cast(spectral_hessian(at.frame, jet, at.vectors[0]))

    def default_metric(self) -> type[DLNObservableMetric]:
        """Return the class of the default metric."""
        return DLNObservableMetric
