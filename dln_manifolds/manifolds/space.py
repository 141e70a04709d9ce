"""What the two manifolds of a deep linear network share: a stratum, seen by both hosts."""

import abc
from typing import Self

import geomstats.backend as gs
import numpy as np
from geomstats.geometry.manifold import Manifold as GeomstatsManifold
from pymanopt.manifolds.manifold import Manifold as PymanoptManifold

from dln_manifolds.checks import ANYWHERE, At, as_matrices, tentative
from dln_manifolds.geometry import entropy as volume
from dln_manifolds.geometry import sectors
from dln_manifolds.geometry.stratum import Stratum, balance_tolerance
from dln_manifolds.manifolds.described import Adjustable
from dln_manifolds.manifolds.flattened import FlattenedManifold
from dln_manifolds.numerics.arguments import Seed, generator, whole
from dln_manifolds.numerics.arrays import Array, ArrayLike, DType, OptionalArray
from dln_manifolds.numerics.matrices import size_of
from dln_manifolds.numerics.precision import coarsest, dtype_of_results


def _uniform(shape: tuple[int, ...], rng: Seed = None) -> Array:
    drawn = gs.random.rand(*shape) if rng is None else generator(rng).random(shape)
    return np.asarray(drawn)


def _normal(shape: tuple[int, ...], rng: Seed = None) -> Array:
    source = gs.random if rng is None else generator(rng)
    return np.asarray(source.normal(size=shape))


class NetworkSpace(Adjustable, GeomstatsManifold, abc.ABC):
    """Manifold whose points belong to networks of some widths and a depth, for both hosts.

    The stratum says what its points are; the name is what pymanopt prints.
    """

    def __init__(self, stratum: Stratum, name: str, equip: bool) -> None:
        self.stratum = stratum
        dim, shape = stratum.dimension, stratum.point_shape
        PymanoptManifold.__init__(self, name, dim)
        GeomstatsManifold.__init__(self, dim=dim, shape=shape, intrinsic=True, equip=equip)

    @property
    def dim(self) -> int:
        """Dimension of the manifold."""
        return self._dimension

    @dim.setter
    def dim(self, value: int) -> None:
        self._dimension = value

    @property
    def depth(self) -> float:
        """Number of layers N. Changed by `set_params`."""
        return self.stratum.depth

    @property
    def rank(self) -> int:
        """Rank r of the end-to-end matrices. Changed by `set_params`."""
        return self.stratum.rank

    @property
    def n(self) -> int:
        """Width of networks whose end-to-end matrices are square and of full rank."""
        if not self.stratum.is_square:
            raise AttributeError(
                f"n is the width of square matrices of full rank, and this is {self!r}: see shape, "
                f"rank and widths."
            )
        return self.rank

    @property
    def widths(self) -> tuple[int, ...] | None:
        """Widths ``d_0, ..., d_N``, the hidden ones r unless given; None if N is no integer."""
        return self.stratum.every_width

    @property
    def arguments(self) -> dict[str, object]:
        """The call that makes this space: arguments by name, without ``equip``."""
        return self.stratum.arguments

    def __repr__(self) -> str:
        """Return the call that makes this space."""
        given = {key: f"{value!r}" for key, value in self.arguments.items()}
        if self.depth == np.inf:
            given["depth"] = "math.inf"
        listed = ", ".join(f"{key}={value}" for key, value in given.items())
        return f"{type(self).__name__}({listed})"

    def new(self, equip: bool = True) -> Self:
        """Return a new space of the same shape, rank, widths and depth."""
        return type(self)(**self.arguments, equip=equip)  # type: ignore[arg-type]

    def flattened(self, orthonormal: bool = False) -> FlattenedManifold:
        """Return a view of this space whose points are vectors, for algorithms that need them.

        Vectors are row-major entries, or with ``orthonormal=True`` coordinates in a frame that is
        orthonormal in the metric. ``view.flatten(points)`` and ``view.unflatten(vectors)`` go there
        and back.
        """
        return FlattenedManifold(self, orthonormal)

    def belongs(self, point: object, atol: float | None = None) -> Array | np.bool_:
        """Whether arrays are points of the manifold, up to their rounding and free of scale.

        End-to-end matrices are finite, real and numerically of rank r: so many singular values are
        above ``4 max(m, n) eps s_1``, and above ``atol``.
        Layers have such a product, and are balanced, ``W_{p+1}^T W_{p+1} = W_p W_p^T``, up to a
        relative ``atol``, half the square root of eps by default. False, and never an error, for
        anything that is not a point.
        """
        array, usable = tentative(point, self.shape)
        if usable.all() and usable.size:
            inside = self.stratum.contains(array.astype(float, copy=False), _precision(array), atol)
        else:
            inside = np.array(usable)
            if inside.any():
                inside[usable] = self.belongs(array[usable], atol)
        return inside[()]

    def is_tangent(
        self, vector: object, base_point: object = None, atol: float | None = None
    ) -> Array | np.bool_:
        """Whether vectors are finite, real and tangent at their base points, up to rounding.

        At end-to-end matrices of full rank, an open set, every matrix is tangent and the base point
        may be left out. ``atol`` is the relative length allowed of a part that is not tangent, half
        the square root of eps by default. False, and never an error, for anything else.
        """
        vectors, usable = tentative(vector, self.shape)
        bases, good = tentative(base_point, self.shape)
        if self.stratum.is_open:
            fits = base_point is None or bases.shape[-len(self.shape) :] == self.shape
            good = np.ones_like(good) if fits else np.zeros((), dtype=bool)
        elif good.any():
            good = good & self.belongs(bases)
        try:
            batch = np.broadcast_shapes(usable.shape, good.shape)
        except ValueError:
            return np.bool_(False)
        tangent = np.array(np.broadcast_to(usable & good, batch))
        if tangent.any() and not self.stratum.is_open:
            whole = (*batch, *self.shape)
            some, at = (np.broadcast_to(x, whole)[tangent].astype(float) for x in (vectors, bases))
            normal = some - self.stratum.tangent_part(self.stratum.frame(at), some)
            sizes = [size_of(x) for x in (normal, some)]
            bound = balance_tolerance(_precision(vectors, bases)) if atol is None else atol
            tangent[tangent] = sizes[0] <= bound * sizes[1]
        return tangent[()]

    def to_tangent(self, vector: ArrayLike, base_point: OptionalArray = None) -> Array:
        """Project ambient vectors to the tangent space, orthogonally in Frobenius norm.

        At end-to-end matrices of full rank every matrix is tangent: base points may be left out,
        and give their batch shape only. At lower rank, ``(I - U U^T) v (I - V V^T)`` drops out. Of
        layers, the vertical and the horizontal part remain (Chen, arXiv 2510.07324, Definition
        3.8), without ``W_p S_{p-1} - S_p W_p``, S symmetric.
        """
        if self.stratum.is_open:
            at = At(self.stratum, base_point, "base_point", ANYWHERE, vector=vector)
            return at.copied(at.vectors[0])
        at = At(self.stratum, base_point, vector=vector)
        return at.cast(self.stratum.tangent_part(at.frame, at.vectors[0]))

    def projection(self, point: ArrayLike, vector: OptionalArray = None) -> Array:
        """Project to the manifold (one argument) or to the tangent space (two arguments).

        Any finite matrix becomes the nearest one of rank r. Singular values that count as zero, up
        to ``4 max(m, n) eps s_1``, are raised to a quarter above that. Of a singular square matrix,
        their left singular vectors follow the right ones: positive semidefinite matrices become
        positive definite, and raised determinants are positive. Of zero, to which no rank is near,
        all r become one. Points are left as they are.
        Invertible layers become the balanced layers with the same end-to-end matrix, in their
        component and (locally) nearest within the fibre. Vectors, at a point, are treated as by
        `to_tangent`.

        Returns
        -------
        projected : array-like, shape=[..., *point_shape]
            Points, or tangent vectors.

        Raises
        ------
        InvalidPointError
            If an argument is not valid, or layers are singular.
        """
        if vector is not None:
            return self.to_tangent(vector, point)
        array, dtype = as_matrices(point, self.shape, "point")
        return self.stratum.project(array, dtype).astype(dtype, copy=True)

    def regularize(self, point: ArrayLike) -> Array:
        """Return a copy: every point has one representation, shape ``(..., *point_shape)``."""
        array, dtype = as_matrices(point, self.shape, "point")
        return array.astype(dtype, copy=True)

    def random_point(self, n_samples: int = 1, bound: float = 1.0, *, rng: Seed = None) -> Array:
        r"""Draw points ``X = U diag(s) V^T``, or layers over such X.

        The bases U and V, of layers ``W_p = Q_p diag(s^(1/N)) Q_{p-1}^T`` all Q_p, are uniform: in
        SO(n) (Chen, arXiv 2510.07324, (1.5)), so that determinants are positive, or at other shapes
        and lower rank among orthonormal columns. ``log s_i`` is uniform in ``[-bound, bound]``.
        Drawn by geomstats' ``gs.random``, and by ``numpy.random`` for pymanopt, or by ``rng``, a
        generator of NumPy or a seed: with geomstats' numpy backend the former are one generator. A
        single point has no batch axis.

        Raises
        ------
        ValueError
            If the bound is so wide that matrices may be singular in double precision.
        """
        rng = None if rng is None else generator(rng)
        draws = [lambda shape, draw=draw: draw(shape, rng) for draw in (_uniform, _normal)]
        points = self.stratum.draw(n_samples, bound, *draws)
        return points[0] if n_samples == 1 else points

    def random_tangent_vec(
        self, base_point: OptionalArray = None, n_samples: int = 1, *, rng: Seed = None
    ) -> Array:
        """Draw tangent vectors with independent standard normal coordinates in the metric.

        Their mean square length is the dimension of the manifold. Several at a single base point
        have ``shape=[n_samples, *point_shape]``. Drawn as by `random_point`.
        """
        at, n_samples = At(self.stratum, base_point), whole("n_samples", n_samples, least=0)
        if n_samples > 1 and at.batch and at.batch != (n_samples,):
            raise ValueError(
                f"{n_samples} vectors at base points of batch shape {at.batch}: the numbers differ."
            )
        batch = at.batch if at.batch or n_samples == 1 else (n_samples,)
        return at.cast(self.stratum.isotropic(at.frame, _normal((*batch, *self.shape), rng)))

    def entropy(self, point: ArrayLike) -> Array:
        """Boltzmann entropy ``S(X) = log vol(O_X)``, shape ``(...)``; dimensionless.

        ``S = (N-1) log c_n + (1/2) sum_{i<j} log a_ij``, the entropy formula of Menon and Yu,
        arXiv 2509.09088; of rank r and hidden widths ``d_p`` it is (ours) ``sum_p log(c_{d_p} /
        c_{d_p - r}) + (1/2) sum_{i<j} log a_ij + sum_p (d_p - r) sum_j log(s_j) / N``. The constant
        is left out at infinite depth, where it diverges. Of layers W, it is that of their
        end-to-end matrix X: constant along the fibre, whose volume it is the logarithm of.
        """
        at = At(self.stratum, point, "point")
        return at.cast(self._entropy(at))

    def _entropy(self, at: At) -> Array:
        ends, widths = self.stratum.ends(at.frame), self.stratum.hidden_widths
        return volume.entropy(ends.singular_values, ends.depth, widths)

    def volume_density(self, point: ArrayLike) -> Array:
        """Volume of the fibre over X, ``exp(S(X))``, shape ``(...)``; overflows where S > 709."""
        at = At(self.stratum, point, "point")
        return at.cast(np.exp(self._entropy(at)))

    def entropy_gradient(self, point: ArrayLike) -> Array:
        """Riemannian gradient of the entropy: ``A_X(dS)`` at X, its horizontal lift at layers.

        Minus the mean curvature of the fibre, or the push-forward of that (Menon and Yu, arXiv
        2509.09088).
        """
        at = At(self.stratum, point, "point")
        ends = self.stratum.ends(at.frame)
        gradient = volume.entropy_gradient(ends, self.stratum.hidden_widths)
        if at.frame.layered:
            gradient = sectors.horizontal_lift(at.frame, gradient)
        return at.cast(gradient)


def _precision(*arrays: Array) -> DType:
    """Return the coarsest of the dtypes of arrays."""
    return coarsest(*(dtype_of_results(x.dtype) for x in arrays))
