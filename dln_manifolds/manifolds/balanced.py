"""The manifold of balanced layers, and its metric."""

import numpy as np
from geomstats.geometry.manifold import register_quotient

from dln_manifolds.autodiff.dispatch import every_backend
from dln_manifolds.autodiff.kinds import OF_METRIC, OF_SPACE
from dln_manifolds.autodiff.tables import LAYER_METRIC, LAYER_SPACE
from dln_manifolds.checks import ANYWHERE, At, as_matrices, cast, checked_point
from dln_manifolds.errors import InvalidPointError
from dln_manifolds.geodesics import LayerSystem
from dln_manifolds.geometry import balancing, sectors
from dln_manifolds.geometry.stratum import LayerStratum, MatrixStratum, balance_tolerance
from dln_manifolds.manifolds.bundle import DLNBundle
from dln_manifolds.manifolds.metric import GeodesicMetric
from dln_manifolds.manifolds.pymanopt_balanced import BalancedOptimization
from dln_manifolds.manifolds.space import NetworkSpace
from dln_manifolds.numerics.arrays import Array, ArrayLike, OptionalArray

_GROUP_ACTION = "orthogonal"


@every_backend(LAYER_METRIC, OF_METRIC, "N, n, n")
class BalancedMetric(GeodesicMetric):
    r"""Metric of the layers: ``<V, V'> = sum_p tr(V_p^T V'_p)``, restricted to balanced layers.

    The balanced layers are a submanifold of Euclidean space; geodesics obey ``W'' = II(W', W')``
    with the second fundamental form II, one tridiagonal (Jacobi) system per pair of singular
    values (Menon and Yu, arXiv 2509.09088). The order of arguments is geomstats'. Points and
    vectors have ``shape=[..., N, n, n]``.
    """

    stratum: LayerStratum

    def _make_system(self) -> LayerSystem:
        return LayerSystem(self.stratum.chain.widths, self.stratum.rank)

    def _place(self, base_point: OptionalArray, **vectors: ArrayLike) -> At:
        return At(self.stratum, base_point, "base_point", ANYWHERE, **vectors)

    def _coordinates(self, at: At) -> list[Array]:
        return at.vectors

    def _dual_coordinates(self, at: At) -> list[Array]:
        # The projection is orthogonal: one of two is enough.
        return [sectors.tangent_part(at.frame, at.vectors[0]), at.vectors[1]]

    def metric_matrix(self, base_point: OptionalArray = None) -> Array:
        """Matrix of the metric on row-major entries, ``(..., N n^2, N n^2)``: the identity.

        The entries are Cartesian coordinates of the ambient space. Tangent vectors have fewer
        degrees of freedom (``space.dim``) than entries; an orthonormal basis of them is in
        ``space.jacobi_basis(base_point)``.
        """
        layers, dtype = as_matrices(base_point, self.stratum.point_shape, "base_point")
        identity = np.eye(int(np.prod(layers.shape[-3:])))
        return cast(np.broadcast_to(identity, (*layers.shape[:-3], *identity.shape)).copy(), dtype)

    def cometric_matrix(self, base_point: OptionalArray = None) -> Array:
        """Matrix of `inner_coproduct` on row-major entries: the orthogonal tangent projection.

        Of shape ``(..., N n^2, N n^2)`` and rank ``space.dim``. No inverse of `metric_matrix`, as
        the tangent space is a part of the ambient space: it drops the normal part of a covector.
        """
        at, shape = At(self.stratum, base_point), self.stratum.point_shape
        size = int(np.prod(shape))
        columns = sectors.tangent_part(at.frame.beside(), np.eye(size).reshape(size, *shape))
        return at.cast(columns.reshape(*at.batch, size, size))

    def orthonormal_coordinates(self, tangent_vec: ArrayLike, base_point: ArrayLike) -> Array:
        """Coordinates of tangent vectors in an orthonormal frame: their entries.

        The metric is the Frobenius inner product of the entries; tangent vectors are a subspace of
        these, and tangent parts are returned, shape ``(..., N, n, n)``. For as many coordinates as
        dimensions, take inner products with ``space.jacobi_basis(base_point)``.
        """
        return self.space.to_tangent(tangent_vec, base_point)

    def from_orthonormal_coordinates(self, coordinates: ArrayLike, base_point: ArrayLike) -> Array:
        """Return tangent vectors of coordinates, the inverse of `orthonormal_coordinates`."""
        return self.space.to_tangent(coordinates, base_point)


@every_backend(LAYER_SPACE, OF_SPACE, "N, n, n")
class BalancedManifold(NetworkSpace, BalancedOptimization):
    r"""Balanced layers ``W = (W_1, ..., W_N)``, ``W_{p+1}^T W_{p+1} = W_p W_p^T``, invertible.

    A submanifold of the layers with the Frobenius metric, of dimension ``n^2 + (N-1) n (n-1) / 2``
    and with 2^N components (the signs of the layers' determinants). Gradient flow keeps layers
    balanced. One object serves geomstats and pymanopt, as `DLNObservableManifold` does. Points and
    vectors have ``shape=[..., N, n, n]``, for pymanopt's methods ``[N, n, n]``.

    Parameters
    ----------
    n : int
        Width: layers are n x n.
    depth : int
        Number of layers N >= 1. ``W[0]`` acts first: ``X = W[N-1] @ ... @ W[0]``.
    equip : bool
        Whether to equip the space with its metric.

    Notes
    -----
    geomstats' `NFoldManifold` takes this space, its `ProductManifold` factors of one shape only:
    for others it lays points out flat in as many numbers as the space has dimensions, which are
    fewer than the entries of the layers.

    References
    ----------
    Menon, *The geometry of the deep linear network*, arXiv 2411.09004. Menon and Yu, *An entropy
    formula for the Deep Linear Network*, arXiv 2509.09088.

    Examples
    --------
    >>> from dln_manifolds import BalancedManifold
    >>> total = BalancedManifold(n=3, depth=4)
    >>> W = total.random_point()
    >>> V = total.horizontal_projection(total.random_tangent_vec(W), W)
    >>> bool(total.belongs(total.metric.exp(0.1 * V, W)))
    True
    """

    stratum: LayerStratum

    def __init__(self, n: int, depth: int, equip: bool = True) -> None:
        name = f"Balanced layers, n={n}, depth={depth}"
        super().__init__(LayerStratum.square(n, depth), name, equip)
        self.group_action = _GROUP_ACTION
        self.fiber_bundle = DLNBundle(self)

    def default_metric(self) -> type[BalancedMetric]:
        """Return the class of the default metric."""
        return BalancedMetric

    def end_to_end(self, point: ArrayLike) -> Array:
        """End-to-end matrix ``X = W_N ... W_1`` of any layers, shape ``(..., n, n)``.

        Chen, arXiv 2510.07324, (1.1). Layers ``(..., N, n, n)`` need not be balanced.
        """
        array, dtype = as_matrices(point, self.shape, "point")
        return cast(balancing.end_to_end(array), dtype)

    def factor(self, point: ArrayLike) -> Array:
        """Return one balanced factorization of X (Chen, arXiv 2510.07324, (1.5)).

        ``W_p = Q_p diag(s^(1/N)) Q_{p-1}^T`` with ``Q_0 = V``, ``Q_N = U`` and the identity in
        between: all layers but the first and the last are ``diag(s^(1/N))``.
        """
        matrices = MatrixStratum.square(self.n, self.depth)
        _, frame, dtype = checked_point(matrices, point, "point")
        return cast(balancing.factor(frame, self.stratum.chain), dtype)

    def act(self, group_elem: ArrayLike, point: ArrayLike) -> Array:
        """Let the group of the fibre act: ``h_p W_p h_{p-1}^T`` with ``h_0 = h_N = I``.

        Its orbits are the fibres (Menon and Yu, arXiv 2509.09088): the end-to-end matrix stays.

        Raises
        ------
        InvalidPointError
            If a group element is not orthogonal, or an argument is not valid.
        """
        shape = (self.stratum.depth - 1, *self.stratum.shape)
        group, dtype_a = as_matrices(group_elem, shape, "group_elem")
        defect = np.abs(group @ group.swapaxes(-1, -2) - np.eye(self.n))
        if (defect > balance_tolerance(dtype_a)).any():
            raise InvalidPointError(
                f"group_elem is not orthogonal: h h^T differs from the identity by up to "
                f"{defect.max():.3g}, more than {balance_tolerance(dtype_a):.0e}. Give matrices of "
                f"single precision as float32; U @ Vt of U, s, Vt = np.linalg.svd(h) is the "
                f"orthogonal matrix nearest to h."
            )
        layers, dtype_b = as_matrices(point, self.shape, "point")
        return cast(balancing.act(group, layers), dtype_a, dtype_b)

    def horizontal_projection(self, vector: ArrayLike, base_point: ArrayLike) -> Array:
        """Return the horizontal part of ambient vectors at W, shape ``(..., N, n, n)``.

        Horizontal vectors are orthogonal to the fibre within the tangent space: in the frames
        ``V_p = L^(N-p) C L^(p-1)`` (Chen, arXiv 2510.07324, Lemma 3.11).
        """
        at = At(self.stratum, base_point, vector=vector)
        return at.cast(sectors.horizontal_part(at.frame, at.vectors[0]))

    def vertical_projection(self, vector: ArrayLike, base_point: ArrayLike) -> Array:
        """Return the part of ambient vectors along the fibre, shape ``(..., N, n, n)``.

        ``A_p W_p - W_p A_{p-1}``, A skew (Chen, arXiv 2510.07324, Definition 3.8).
        """
        at = At(self.stratum, base_point, vector=vector)
        return at.cast(sectors.split(at.frame, at.vectors[0]).vertical)

    def normal_projection(self, vector: ArrayLike, base_point: ArrayLike) -> Array:
        """Return the normal part of ambient vectors at W, shape ``(..., N, n, n)``.

        ``W_p S_{p-1} - S_p W_p``, S symmetric (ours).
        """
        at = At(self.stratum, base_point, vector=vector)
        return at.cast(sectors.split(at.frame, at.vectors[0]).normal)

    def jacobi_basis(self, base_point: ArrayLike) -> sectors.JacobiBasis:
        """Return orthonormal bases of the ambient space at W, a single point, by sectors.

        Of eigenvectors of Jacobi matrices, as those of Menon and Yu (arXiv 2509.09088): a
        `JacobiBasis` with ``.horizontal``, ``.vertical`` and ``.normal`` of shapes ``(k, N, n, n)``
        with ``k = n^2``, ``(N-1) n (n-1) / 2`` and ``(N-1) n (n+1) / 2``.
        """
        at = At(self.stratum, base_point)
        if at.batch:
            raise InvalidPointError(
                f"jacobi_basis takes a single point, not a batch of shape {at.batch}."
            )
        return sectors.JacobiBasis(*map(at.cast, sectors.jacobi_basis(at.frame)))

    def horizontal_lift(self, tangent_vec: ArrayLike, fiber_point: ArrayLike) -> Array:
        """Return the horizontal vector at W over a tangent vector at X, of the same length.

        ``V_p = (W_N ... W_{p+1})^T A_X^{-1}(Z) (W_{p-1} ... W_1)^T``, in the frames as Lemma 3.11
        of Chen (arXiv 2510.07324).
        """
        at = At(self.stratum, fiber_point, "fiber_point")
        vector = at.add(tangent_vec, "tangent_vec", self.stratum.shape)
        return at.cast(sectors.horizontal_lift(at.frame, vector))

    def push_forward(self, vector: ArrayLike, base_point: ArrayLike) -> Array:
        """Differential of ``W -> X``, ``sum_p W_N .. W_{p+1} V_p W_{p-1} .. W_1``.

        Of vectors ``(..., N, n, n)`` at balanced layers W; tangent vectors at X, ``(..., n, n)``.
        """
        at = At(self.stratum, base_point, vector=vector)
        return at.cast(sectors.push_forward(at.frame, at.vectors[0]))

    def mean_curvature(self, point: ArrayLike) -> Array:
        """Mean curvature vector of the fibre, shape ``(..., N, n, n)``.

        The trace of its second fundamental form in the manifold: minus the lift of the gradient of
        the entropy (Menon and Yu, arXiv 2509.09088).
        """
        return -self.entropy_gradient(point)


register_quotient(
    Space=BalancedManifold, Metric=BalancedMetric, GroupAction=_GROUP_ACTION, FiberBundle=DLNBundle
)
