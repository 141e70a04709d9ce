"""The manifold of balanced layers, and its metric."""

import math
from collections.abc import Iterable

import numpy as np
from geomstats.geometry.manifold import register_quotient

from dln_manifolds.autodiff.dispatch import every_backend
from dln_manifolds.autodiff.kinds import OF_METRIC, OF_SPACE
from dln_manifolds.autodiff.tables import LAYER_METRIC, LAYER_SPACE
from dln_manifolds.checks import (
    ANYWHERE,
    At,
    as_matrices,
    cast,
    checked_point,
    common_batch,
    gathered,
)
from dln_manifolds.errors import InvalidPointError
from dln_manifolds.geodesics import LayerSystem
from dln_manifolds.geometry import balancing, sectors
from dln_manifolds.geometry.alignment import nearest_factorization
from dln_manifolds.geometry.layer_stratum import LayerStratum
from dln_manifolds.geometry.second_fundamental_form import lifted_entropy_hessian
from dln_manifolds.geometry.stratum import balance_tolerance
from dln_manifolds.manifolds.bundle import DLNBundle
from dln_manifolds.manifolds.metric import GeodesicMetric
from dln_manifolds.manifolds.pymanopt_balanced import BalancedOptimization
from dln_manifolds.manifolds.space import NetworkSpace
from dln_manifolds.numerics.arrays import (
    Array,
    ArrayLike,
    DType,
    OptionalArray,
    is_list_of_matrices,
)
from dln_manifolds.numerics.matrices import transpose

_GROUP_ACTION = "orthogonal"


@every_backend(LAYER_METRIC, OF_METRIC, "*point_shape")
class BalancedMetric(GeodesicMetric):
    r"""Metric of the layers: ``<V, V'> = sum_p tr(V_p^T V'_p)``, restricted to balanced layers.

    The balanced layers are a submanifold of Euclidean space; geodesics obey ``W'' = II(W', W')``
    with the second fundamental form II, one tridiagonal (Jacobi) system per pair of singular
    values (Menon and Yu, arXiv 2509.09088), and of lower rank what leads out of the spaces of rows
    and columns (ours). The order of arguments is geomstats'. Points and vectors have the
    ``*point_shape`` of the space.
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
        """Matrix of the metric on the entries of layers, a square one: the identity.

        The entries are Cartesian coordinates of the ambient space. Tangent vectors have fewer
        degrees of freedom (``space.dim``) than entries; an orthonormal basis of them is in
        ``space.jacobi_basis(base_point)``.
        """
        shape = self.stratum.point_shape
        layers, dtype = as_matrices(base_point, shape, "base_point")
        identity = np.eye(math.prod(shape))
        batch = layers.shape[: layers.ndim - len(shape)]
        return cast(np.broadcast_to(identity, (*batch, *identity.shape)).copy(), dtype)

    def cometric_matrix(self, base_point: OptionalArray = None) -> Array:
        """Matrix of `inner_coproduct` on entries, a square one: the tangent projection.

        Orthogonal, of rank ``space.dim``. No inverse of `metric_matrix`, as the tangent space is a
        part of the ambient space: it drops the normal part of a covector.
        """
        at, shape = At(self.stratum, base_point), self.stratum.point_shape
        size = math.prod(shape)
        columns = sectors.tangent_part(at.frame.beside(), np.eye(size).reshape(size, *shape))
        return at.cast(columns.reshape(*at.batch, size, size))

    def orthonormal_coordinates(self, tangent_vec: ArrayLike, base_point: ArrayLike) -> Array:
        """Coordinates of tangent vectors in an orthonormal frame: their entries.

        The metric is the Frobenius inner product of the entries; tangent vectors are a subspace of
        these, and tangent parts are returned, shape ``(..., *point_shape)``. For as many
        coordinates as dimensions, take inner products with ``space.jacobi_basis(base_point)``.
        """
        return self.space.to_tangent(tangent_vec, base_point)

    def from_orthonormal_coordinates(self, coordinates: ArrayLike, base_point: ArrayLike) -> Array:
        """Return tangent vectors of coordinates, the inverse of `orthonormal_coordinates`."""
        return self.space.to_tangent(coordinates, base_point)


@every_backend(LAYER_SPACE, OF_SPACE, "*point_shape")
class BalancedManifold(NetworkSpace, BalancedOptimization):
    r"""Balanced layers ``W = (W_1, ..., W_N)`` of rank r: ``W_{p+1}^T W_{p+1} = W_p W_p^T``.

    Layers ``W_p = Q_p diag(l) Q_{p-1}^T`` of a network with widths ``d_0, ..., d_N``: a submanifold
    of all layers with the Frobenius metric, of dimension ``sum_p (d_p r - r (r + 1) / 2) + r``. It
    has ``2^(c-1)`` components if c of the widths are r, one if there is none. Gradient flow keeps
    layers balanced. One object serves geomstats and pymanopt, as `DLNObservableManifold` does.

    Points and vectors have ``shape=[..., N, n, n]`` if all widths are n. Layers of unequal widths
    lie in a vector, ``shape=[..., sum_p d_p d_{p-1}]``: the first layer first, row by row.
    ``space.layers(W)`` takes it apart and ``space.point(layers)`` makes it. Give the width n and
    the depth, or all widths::

        BalancedManifold(n=3, depth=4)
        BalancedManifold(widths=(64, 32, 10))
        BalancedManifold(widths=(4, 3, 5), rank=2)

    Parameters
    ----------
    n : int, optional
        Width: layers are n x n.
    depth : int, optional
        Number of layers N >= 1, if the widths do not say it. The first layer acts first:
        ``X = W_N ... W_1``.
    equip : bool
        Whether to equip the space with its metric.
    widths : tuple of int, optional
        Widths ``d_0, d_1, ..., d_N``: the layer ``W_p`` is ``d_p x d_{p-1}``.
    rank : int, optional
        Rank r of the layers and of their product; the smallest width if not given.

    Raises
    ------
    TypeError, ValueError
        If a number is missing, of another kind or out of range, or contradicts another.

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

    A network of unequal widths:

    >>> total = BalancedManifold(widths=(4, 3, 5))
    >>> [layer.shape for layer in total.layers(total.random_point())]
    [(3, 4), (5, 3)]
    """

    stratum: LayerStratum

    def __init__(
        self,
        n: int | None = None,
        depth: int | None = None,
        equip: bool = True,
        *,
        widths: tuple[int, ...] | None = None,
        rank: int | None = None,
    ) -> None:
        stratum = LayerStratum.of_widths(n, depth, widths, rank)
        given = ", ".join(f"{key}={value}" for key, value in stratum.arguments.items())
        super().__init__(stratum, f"Balanced layers, {given}", equip)
        self.group_action = _GROUP_ACTION
        self.fiber_bundle = DLNBundle(self)

    def default_metric(self) -> type[BalancedMetric]:
        """Return the class of the default metric."""
        return BalancedMetric

    def layers(self, point: ArrayLike) -> tuple[Array, ...]:
        """Return the layers ``W_1, ..., W_N``, of shapes ``(..., d_p, d_{p-1})``, the first first.

        Of points, of vectors, or of any array of their shape.
        """
        array, dtype = as_matrices(point, self.shape, "point")
        return tuple(layer.astype(dtype) for layer in self.stratum.chain.layers(array))

    def point(self, layers: Iterable[ArrayLike]) -> Array:
        """Return layers ``W_1, ..., W_N`` as one array, shape ``(..., *point_shape)``.

        They need not be balanced, see `balance`; batch axes come first.

        Parameters
        ----------
        layers : list of array-like, shapes=[..., d_p, d_{p-1}]
            The layers, the first one first.

        Raises
        ------
        InvalidPointError
            If there are more or fewer layers, or one of them, which is named, has another shape.
        """
        return cast(*gathered(layers, self.stratum.chain.shapes, self.stratum.chain, "layers"))

    def end_to_end(self, point: ArrayLike) -> Array:
        """End-to-end matrix ``X = W_N ... W_1`` of any layers, shape ``(..., m, n)``.

        Chen, arXiv 2510.07324, (1.1). Layers ``(..., *point_shape)`` need not be balanced.
        """
        array, dtype = as_matrices(point, self.shape, "point")
        return cast(balancing.end_to_end(array, self.stratum.chain), dtype)

    def factor(self, point: ArrayLike, near: OptionalArray = None) -> Array:
        """Return one balanced factorization of X (Chen, arXiv 2510.07324, (1.5)).

        ``W_p = Q_p diag(s^(1/N)) Q_{p-1}^T`` with ``Q_0 = V``, ``Q_N = U`` and the first r columns
        of the identity in between; or the one nearest to layers ``near``, which may be any, of
        ``shape=[..., *point_shape]``: for N = 2 by one singular value decomposition, for deeper
        networks locally, the best of a few starts (ours).
        """
        _, frame, dtype = checked_point(self.stratum.matrices, point, "point")
        if near is None:
            return cast(balancing.factor(frame, self.stratum.chain), dtype)
        reference, other = self._any_layers(near, "near")
        n_batch = reference.ndim - len(self.shape)
        common_batch({"point": frame.values.shape[:-1], "near": reference.shape[:n_batch]})
        return cast(nearest_factorization(frame, reference, self.stratum.chain), dtype, other)

    def balance(self, layers: ArrayLike | Iterable[ArrayLike]) -> Array:
        """Return the balanced layers with the same end-to-end matrix that are nearest to layers.

        To layers ``(..., *point_shape)``, or a list of them. If their product X has a rank above r,
        it becomes its nearest matrix of rank r. Exact for N = 2: with ``X = U diag(l)^2 V^T``,
        ``Q_1`` is the polar factor of ``(W_1 V + W_2^T U) diag(l)``. For deeper networks
        alternating Procrustes problems and Newton's method find a local minimum, the best of a few
        starts (ours). `projection` does the same without change of component; the limit of
        `dln_manifolds.dynamics.balancing_flow` is another point, farther away.

        Raises
        ------
        InvalidPointError
            If layers have other shapes, or a product of a lower rank.
        """
        array, dtype = self._any_layers(layers, "layers")
        return cast(self.stratum.project(array, dtype, keep_component=False), dtype)

    def _any_layers(self, value: object, name: str) -> tuple[Array, DType]:
        """Return layers, one array or a list of them, as one array, and the dtype of results."""
        chain = self.stratum.chain
        if chain.flat and is_list_of_matrices(value):
            return gathered(value, chain.shapes, chain, name)
        return as_matrices(value, self.shape, name)

    def act(self, group_elem: ArrayLike | Iterable[ArrayLike], point: ArrayLike) -> Array:
        """Let the group of the fibre act: ``h_p W_p h_{p-1}^T`` with ``h_0 = h_N = I``.

        Its orbits are the fibres (Menon and Yu, arXiv 2509.09088): the end-to-end matrix stays.
        At unequal widths, group elements are the matrices ``h_1, ..., h_{N-1}`` in a list, or row
        by row in one vector.

        Raises
        ------
        InvalidPointError
            If a group element is not orthogonal, or an argument is not valid.
        """
        chain = self.stratum.chain
        if chain.flat and is_list_of_matrices(group_elem):
            group, dtype_a = gathered(group_elem, chain.group.shapes, chain.group, "group_elem")
        else:
            group, dtype_a = as_matrices(group_elem, chain.group_shape, "group_elem")
        bound = balance_tolerance(dtype_a)
        for part in chain.group.parts(group):
            defect = np.abs(part @ transpose(part) - np.eye(part.shape[-1]))
            if (defect > bound).any():
                raise InvalidPointError(
                    f"group_elem is not orthogonal: h h^T differs from the identity by up to "
                    f"{defect.max():.3g}, more than {bound:.0e}. Give matrices of single precision "
                    f"as float32; U @ Vt of U, s, Vt = np.linalg.svd(h) is the orthogonal matrix "
                    f"nearest to h."
                )
        layers, dtype_b = as_matrices(point, self.shape, "point")
        return cast(balancing.act(group, layers, chain), dtype_a, dtype_b)

    def horizontal_projection(self, vector: ArrayLike, base_point: ArrayLike) -> Array:
        """Return the horizontal part of ambient vectors at W, shape ``(..., *point_shape)``.

        Horizontal vectors are orthogonal to the fibre within the tangent space: in the frames
        ``V_p = L^(N-p) C L^(p-1)`` (Chen, arXiv 2510.07324, Lemma 3.11). Beside these, the first
        layer may move the space of rows of X, and the last one that of its columns.
        """
        at = At(self.stratum, base_point, vector=vector)
        return at.cast(sectors.horizontal_part(at.frame, at.vectors[0]))

    def vertical_projection(self, vector: ArrayLike, base_point: ArrayLike) -> Array:
        """Return the part of ambient vectors along the fibre, shape ``(..., *point_shape)``.

        ``A_p W_p - W_p A_{p-1}``, A skew (Chen, arXiv 2510.07324, Definition 3.8).
        """
        at = At(self.stratum, base_point, vector=vector)
        return at.cast(sectors.split(at.frame, at.vectors[0]).vertical)

    def normal_projection(self, vector: ArrayLike, base_point: ArrayLike) -> Array:
        """Return the normal part of ambient vectors at W, shape ``(..., *point_shape)``.

        ``W_p S_{p-1} - S_p W_p``, S symmetric; of rank r also all of
        ``(I - Q_p Q_p^T) V_p (I - Q_{p-1} Q_{p-1}^T)`` (ours).
        """
        at = At(self.stratum, base_point, vector=vector)
        return at.cast(sectors.split(at.frame, at.vectors[0]).normal)

    def jacobi_basis(self, base_point: ArrayLike) -> sectors.JacobiBasis:
        """Return orthonormal bases of the ambient space at W, a single point, by sectors.

        Of eigenvectors of Jacobi matrices, as those of Menon and Yu (arXiv 2509.09088): a
        `JacobiBasis` with ``.horizontal``, ``.vertical`` and ``.normal`` of shapes
        ``(k, *point_shape)``. There are ``k = (d_0 + d_N - r) r`` horizontal and
        ``sum_p (d_p r - r (r + 1) / 2)`` vertical ones, the sum over hidden widths, and as many
        normal ones as are left of the entries.
        """
        at = At(self.stratum, base_point)
        if at.batch:
            raise InvalidPointError(
                f"jacobi_basis takes a single point, not a batch of shape {at.batch}."
            )
        return sectors.JacobiBasis(*map(at.cast, sectors.jacobi_basis(at.frame)))

    def horizontal_lift(self, tangent_vec: ArrayLike, fiber_point: ArrayLike) -> Array:
        """Return the horizontal vector at W over a tangent vector at X, of the same length.

        Of rank r, over the tangent part of the vector: what is normal at X has no lift.

        ``V_p = (W_N ... W_{p+1})^T A_X^{-1}(Z) (W_{p-1} ... W_1)^T``, in the frames as Lemma 3.11
        of Chen (arXiv 2510.07324).
        """
        at = At(self.stratum, fiber_point, "fiber_point")
        vector = at.add(tangent_vec, "tangent_vec", self.stratum.shape)
        return at.cast(sectors.horizontal_lift(at.frame, vector))

    def push_forward(self, vector: ArrayLike, base_point: ArrayLike) -> Array:
        """Differential of ``W -> X``, ``sum_p W_N .. W_{p+1} V_p W_{p-1} .. W_1``.

        Of vectors ``(..., *point_shape)`` at balanced layers W; results are tangent at X, of shape
        ``(..., m, n)``.
        """
        at = At(self.stratum, base_point, vector=vector)
        return at.cast(sectors.push_forward(at.frame, at.vectors[0]))

    def mean_curvature(self, point: ArrayLike) -> Array:
        """Mean curvature vector of the fibre, shape ``(..., *point_shape)``.

        The trace of its second fundamental form in the manifold: minus the lift of the gradient of
        the entropy (Menon and Yu, arXiv 2509.09088).
        """
        return -self.entropy_gradient(point)

    def entropy_hessian(self, vector: ArrayLike, point: ArrayLike) -> Array:
        """Riemannian Hessian ``nabla_V grad S`` of the entropy along a tangent vector (ours)."""
        at = At(self.stratum, point, "point", vector=vector)
        inside = sectors.tangent_part(at.frame, at.vectors[0])
        widths = self.stratum.hidden_widths
        return at.cast(lifted_entropy_hessian(at.frame, at.point, inside, widths))


register_quotient(
    Space=BalancedManifold, Metric=BalancedMetric, GroupAction=_GROUP_ACTION, FiberBundle=DLNBundle
)
