"""Inner products and lengths of tangent vectors and covectors, by geomstats' names."""

import abc

import numpy as np

from dln_manifolds.autodiff.dispatch import asked_by
from dln_manifolds.checks import At, spread
from dln_manifolds.geometry.stratum import Stratum
from dln_manifolds.manifolds.space import NetworkSpace
from dln_manifolds.numerics.arguments import Seed, whole
from dln_manifolds.numerics.arrays import Array, ArrayLike, OptionalArray
from dln_manifolds.numerics.matrices import size_of

_SUMS = {1: "...i,...i->...", 2: "...ij,...ij->...", 3: "...pij,...pij->..."}

# Sums of squares in between have lost nothing that matters to over- or underflow.
_SMALLEST, _LARGEST = 1e-250, 1e250


class InnerProduct(abc.ABC):
    """The half of a metric that measures vectors at a point: no geodesic is solved."""

    stratum: Stratum

    @property
    @abc.abstractmethod
    def space(self) -> NetworkSpace:
        """The manifold that has this metric."""

    @abc.abstractmethod
    def _place(self, base_point: OptionalArray, **vectors: ArrayLike) -> At:
        """Check a base point and vectors for what depends on lengths alone."""

    @abc.abstractmethod
    def _coordinates(self, at: At) -> list[Array]:
        """Return the vectors so that sums of products of their entries are inner products."""

    @abc.abstractmethod
    def _dual_coordinates(self, at: At) -> list[Array]:
        """Return covectors so that sums of products of their entries are inner products."""

    def _product(self, at: At, first: Array, second: Array) -> Array:
        """Return the sum of products of entries, for each member of the batch."""
        value = np.einsum(_SUMS[len(self.stratum.point_shape)], first, second)
        return value if value.shape == at.batch else np.array(np.broadcast_to(value, at.batch))

    def _length(self, at: At, coordinates: Array) -> Array:
        """Return the root of the sum of squares, which neither overflows nor underflows."""
        square = self._product(at, coordinates, coordinates)
        if at.batch:
            usual = bool(((square > _SMALLEST) & (square < _LARGEST)).all())
        else:
            usual = _SMALLEST < float(square) < _LARGEST
        if usual:
            return np.sqrt(square)
        n_batch = coordinates.ndim - len(self.stratum.point_shape)
        batch, axes = coordinates.shape[:n_batch], coordinates.shape[n_batch:]
        flat = coordinates.reshape(-1, *axes)
        return np.array(np.broadcast_to(size_of(flat).reshape(batch), at.batch))

    def inner_product(
        self, tangent_vec_a: ArrayLike, tangent_vec_b: ArrayLike, base_point: OptionalArray = None
    ) -> Array:
        r"""Inner product of tangent vectors: a squared length in Frobenius norm of the layers.

        At an end-to-end matrix ``g_X(Z, Z') = tr(Z^T A_X^{-1} Z') = sum_ij Z~_ij Z~'_ij / a_ij``
        with ``Z~ = U^T Z V``, ``a_ij = (s_i^2 - s_j^2) / (s_i^(2/N) - s_j^(2/N))`` (Chen,
        arXiv 2510.07324, (1.7), (1.8), (2.1)); of lower rank, ``s_j^(2/N - 2)`` weighs what moves
        the spaces of rows and columns (Bah et al., arXiv 1910.05505). Of layers
        ``sum_p tr(V_p^T V'_p)``: the base point gives its batch shape only and may be left out.
        """
        at = self._place(base_point, tangent_vec_a=tangent_vec_a, tangent_vec_b=tangent_vec_b)
        return at.cast(self._product(at, *self._coordinates(at)))

    def inner_coproduct(
        self,
        cotangent_vec_a: ArrayLike,
        cotangent_vec_b: ArrayLike,
        base_point: OptionalArray = None,
    ) -> Array:
        """Inner product of covectors, Euclidean gradients P and P'.

        At an end-to-end matrix ``tr(P^T A_X P')``, for equal ones twice the Hamiltonian of Chen
        (arXiv 2510.07324, (3.39)). Of layers ``<P, P'>`` without the normal parts.
        """
        covectors = {"cotangent_vec_a": cotangent_vec_a, "cotangent_vec_b": cotangent_vec_b}
        at = At(self.stratum, base_point, **covectors)
        return at.cast(self._product(at, *self._dual_coordinates(at)))

    def squared_norm(self, vector: ArrayLike, base_point: OptionalArray = None) -> Array:
        """Square of the length of tangent vectors, shape ``(...)``: `inner_product` with itself.

        geomstats' ``FrechetMean``, which stops at a variance of 1e-8, is told that of points scaled
        to size one where they are smaller: its mean of small numbers is as good.
        """
        if not asked_by("geomstats.learning.frechet_mean"):
            return self.inner_product(vector, vector, base_point)
        # Lengths go with the size of layers; at infinite depth, where roots are one, they do not.
        at = At(self.stratum, base_point, vector=vector)
        size = np.minimum(1.0, np.max(at.frame.roots, axis=-1))
        return at.cast(np.square(self._length(at, self._coordinates(at)[0]) / size))

    def norm(self, vector: ArrayLike, base_point: OptionalArray = None) -> Array:
        """Length of tangent vectors ``sqrt(g(v, v))``, shape ``(...)``, at every scale.

        In Frobenius norm of the layers; its derivative at zero is taken as zero.
        """
        at = self._place(base_point, vector=vector)
        return at.cast(self._length(at, self._coordinates(at)[0]))

    def normalize(self, vector: ArrayLike, base_point: OptionalArray = None) -> Array:
        """Scale tangent vectors to unit length, shape ``(..., *point_shape)``; zero stays zero."""
        at = self._place(base_point, vector=vector)
        length = self._length(at, self._coordinates(at)[0])
        length = spread(np.where(length == 0, 1.0, length), len(self.stratum.point_shape))
        return at.cast(at.vectors[0] / length)

    def normal_basis(self, basis: ArrayLike, base_point: OptionalArray = None) -> Array:
        """Scale every vector of a basis, shape ``(k, *point_shape)``, to unit length, no more."""
        return self.normalize(basis, base_point)

    def random_unit_tangent_vec(
        self, base_point: ArrayLike, n_vectors: int = 1, *, rng: Seed = None
    ) -> Array:
        """Draw tangent vectors of unit length, their direction uniform in the metric.

        By the generator or seed ``rng``, if one is given. Several vectors need a single base point,
        and have ``shape=[n_vectors, *point_shape]``.
        """
        n_vectors = whole("n_vectors", n_vectors, least=0)
        if n_vectors != 1 and np.ndim(base_point) > len(self.stratum.point_shape):
            raise ValueError("Several vectors at once need a single base point.")
        drawn = self.space.random_tangent_vec(base_point, n_vectors, rng=rng)
        return self.normalize(drawn, base_point)
