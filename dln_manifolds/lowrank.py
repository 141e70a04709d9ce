r"""Large matrices of low rank, held as factors: small dense matrices with the same geometry.

Matrices ``X_1, ..., X_k`` of shape (m, n) and rank r, and shortest geodesics between them, fit into
k r dimensions on either side: rotations and reflections that fix all X are isometries. So all that
is built of logs, such as distances, means and clusters, is that of matrices of shape
``(min(m, k r), min(n, k r))`` (ours). `common_core` makes these from factors ``X = B A``, such as
the adapters of fine-tuned networks (Hu et al., *LoRA*, arXiv 2106.09685), and leads back. It takes
time ``O((m + n) (k r)^2)`` and memory ``O((m + n) k r)``: no array of shape (m, n) is formed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dln_manifolds.checks import as_array, as_matrices, cast, checked_point
from dln_manifolds.errors import InvalidPointError
from dln_manifolds.geometry.rank import THRESHOLD, resolution
from dln_manifolds.geometry.stratum import MatrixStratum
from dln_manifolds.manifolds.observable import DLNObservableManifold
from dln_manifolds.numerics.arrays import Array, ArrayLike, DType
from dln_manifolds.numerics.matrices import tall_qr, transpose

__all__ = ["CommonCore", "common_core"]

# What rounding leaves of a product of factors that cancel, in eps times the sum of their sizes.
_CANCELLING = 8.0


@dataclass(frozen=True, eq=False)
class CommonCore:
    """Small matrices with the geometry of large ones, ``X = left @ point @ right.T``.

    Exact for logs between the ``points`` and all that is built of them, at every depth.

    Attributes
    ----------
    points : ndarray, shape=[k, p, q]
        The small matrices, ``p = min(m, k r)`` and ``q = min(n, k r)``.
    left, right : ndarray, shape=[m, p] and [n, q]
        Orthonormal bases of what the columns and the rows of all X span, filled up to p and q.
    rank : int
        Their rank r.
    """

    points: Array
    left: Array
    right: Array
    rank: int

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (m, n) of the large matrices."""
        return len(self.left), len(self.right)

    def space(self, depth: float) -> DLNObservableManifold:
        """Return the manifold that the ``points`` lie on, of shape (p, q) and rank r."""
        return DLNObservableManifold(shape=self.points.shape[1:], rank=self.rank, depth=depth)

    def expand(self, point: ArrayLike) -> tuple[Array, Array]:
        r"""Return factors (B, A) of large matrices, given the small ones, ``shape=[..., p, q]``.

        Of shapes ``(..., m, r)`` and ``(..., r, n)``, and balanced, ``B^T B = A A^T``: with
        ``point = U diag(s) V^T``, s descending, they are ``left U diag(s)^(1/2)`` and
        ``diag(s)^(1/2) V^T right^T``. Raises `InvalidPointError` if a matrix is not of rank r.
        """
        stratum = MatrixStratum(self.points.shape[1:], self.rank, 2.0)
        _, frame, dtype = checked_point(stratum, point, "point")
        return self._lift(frame.left, frame.roots, frame.right_t, dtype)

    def expand_vector(self, vector: ArrayLike) -> tuple[Array, Array]:
        """Return factors of the large tangent vectors of small ones, ``shape=[..., p, q]``.

        As `expand`, of shapes ``(..., m, w)`` and ``(..., w, n)`` with ``w = min(p, q)``.
        """
        array, dtype = as_matrices(vector, self.points.shape[1:], "vector")
        left, values, right_t = np.linalg.svd(array, full_matrices=False)
        return self._lift(left, np.sqrt(values), right_t, dtype)

    def _lift(self, left: Array, roots: Array, right_t: Array, dtype: DType) -> tuple[Array, Array]:
        """Turn singular bases of small matrices into balanced factors of large ones."""
        B = self.left @ (left * roots[..., None, :])
        A = (roots[..., None] * right_t) @ self.right.T
        return cast(B, dtype, self.left.dtype), cast(A, dtype, self.left.dtype)


def common_core(factors: Iterable[Sequence[ArrayLike]] | tuple[ArrayLike, ...]) -> CommonCore:
    r"""Return small dense matrices with the geometry of large ones that are given by factors.

    Every X may be given by other factors, ``(B G, G^-1 A)``: the points are the same but for
    rotations of the bases.

    Parameters
    ----------
    factors : list of pairs, or two stacks
        For each of k matrices ``X = B A`` of rank r its factors (B, A), ``shape=[m, r]`` and
        ``[r, n]``; or all B and all A in two stacks, ``shape=[k, m, r]`` and ``[k, r, n]``. Also
        longer tuples, whose product in the order written is X; r is then their least width.

    Raises
    ------
    InvalidPointError
        If factors are no finite real matrices with a product, shapes or ranks differ, or a product
        has a rank below r: ``s_r <= eps max(max(p, q) s_1, 8 sum_j |b_j| |a_j|)``, with the
        columns of B and the rows of A: their products may cancel.

    Examples
    --------
    >>> import numpy as np
    >>> from dln_manifolds.lowrank import common_core
    >>> rng = np.random.default_rng(0)
    >>> core = common_core([(rng.normal(size=(500, 2)), rng.normal(size=(2, 400))) for _ in "abc"])
    >>> core.points.shape
    (3, 6, 6)
    >>> middle = core.space(depth=2).metric.geodesic(core.points[0], core.points[1])(0.5)[0]
    >>> [factor.shape for factor in core.expand(middle)]
    [(500, 2), (2, 400)]
    """
    label, members = _members(factors)
    pairs, dtype = _pairs(label, members)
    rank, k = len(pairs[0][1]), len(pairs)
    left, columns = tall_qr(np.concatenate([B for B, _ in pairs], axis=1))
    right, rows = tall_qr(np.concatenate([A.T for _, A in pairs], axis=1))
    small = (x.reshape(len(x), k, rank).swapaxes(0, 1) for x in (columns, rows))
    # Once more, each by itself: of r x r matrices, what is left of factors that nearly cancel has
    # rank r.
    (U, B), (V, A) = (np.linalg.qr(x) for x in small)
    middle = B @ transpose(A)
    cancelling = (np.linalg.norm(B, axis=-2) * np.linalg.norm(A, axis=-2)).sum(axis=-1)
    _check_rank(middle, cancelling, max(len(columns), len(rows)), dtype, label)
    points = U @ middle @ transpose(V)
    return CommonCore(cast(points, dtype), cast(left, dtype), cast(right, dtype), rank)


def _pairs(label: str, members: list[object]) -> tuple[list[tuple[Array, Array]], DType]:
    """Return checked factors (B, A) of all members, of one shape and rank, and their dtype."""
    pairs, dtypes = [], []
    for k, member in enumerate(members):
        name = f"{label}[{k}]"
        if not isinstance(member, list | tuple) or len(member) < 2:
            raise InvalidPointError(
                f"{name} is of {_kind(member)}; a pair (B, A) or a longer tuple is needed."
            )
        matrices = []
        for j, value in enumerate(member):
            array = as_array(value, f"{name}[{j}]")
            if array.ndim != 2 or not array.size:
                raise InvalidPointError(f"{name}[{j}] has shape {array.shape}; a matrix is needed.")
            array, dtype = as_matrices(array, array.shape, f"{name}[{j}]")
            matrices.append(array)
            dtypes.append(dtype)
        _check_shapes([x.shape for x in matrices], name)
        cut = 1 + int(np.argmin([x.shape[1] for x in matrices[:-1]]))
        pairs.append((_product(matrices[:cut]), _product(matrices[cut:])))
        first, found = ((len(B), A.shape[1], len(A)) for B, A in (pairs[0], pairs[-1]))
        if found != first:
            raise InvalidPointError(
                f"{name} makes matrices of shape {found[:2]} and rank {found[2]}, and {label}[0] "
                f"of shape {first[:2]} and rank {first[2]}. The points of a manifold have one "
                f"shape and one rank: make a core of each, or cut the larger ranks down."
            )
    if not pairs:
        raise InvalidPointError("factors are empty; a pair (B, A) for each matrix is needed.")
    return pairs, np.result_type(*dtypes)


def _members(factors: object) -> tuple[str, list[object]]:
    """Return what to call the members, and the factors of each in a list, also if stacked."""
    if not isinstance(factors, Iterable) or hasattr(factors, "ndim"):
        raise InvalidPointError(
            f"factors are of {_kind(factors)}; a list of pairs (B, A) or two stacks are needed."
        )
    members = list(factors)
    if not members or any(getattr(stack, "ndim", None) != 3 for stack in members):
        return "factors", members
    shapes = [tuple(stack.shape) for stack in members]
    if len({shape[0] for shape in shapes}) > 1:
        raise InvalidPointError(
            f"factors are stacks of shapes {' and '.join(map(str, shapes))}: as many matrices are "
            f"needed in each. A single pair (B, A) is a list of one: [(B, A)]."
        )
    for j, stack in enumerate(members):
        as_matrices(stack, shapes[j][1:], f"factors[{j}]")
    return "factors[:]", list(zip(*members, strict=True))


def _kind(value: object) -> str:
    """Describe what was given in the place of factors."""
    shape = f" and shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
    length = f" and length {len(value)}" if isinstance(value, list | tuple) else ""
    return f"type {type(value).__name__}{shape}{length}"


def _check_shapes(shapes: list[tuple[int, ...]], name: str) -> None:
    """Raise `InvalidPointError` if factors have no product, or none of the rank that they say."""
    listed = " and ".join(map(str, shapes))
    if any(after[1] != before[0] for after, before in pairwise(shapes)):
        raise InvalidPointError(
            f"{name} has factors of shapes {listed}, which have no product. They stand in the "
            f"order written, X = B A: the one that acts first is last."
        )
    rank, ends = min(shape[1] for shape in shapes[:-1]), (shapes[0][0], shapes[-1][1])
    if rank > min(ends):
        raise InvalidPointError(
            f"{name} has factors of shapes {listed}: matrices of shape {ends} have no rank {rank}. "
            f"They stand in the order written, X = B A, with B of shape (m, r) and A (r, n)."
        )


def _product(matrices: list[Array]) -> Array:
    """Return the product of matrices, in the cheapest order."""
    return matrices[0] if len(matrices) == 1 else np.linalg.multi_dot(matrices)


def _check_rank(middle: Array, cancelling: Array, size: int, dtype: DType, label: str) -> None:
    """Raise `InvalidPointError` if a product has a lower rank than its factors say."""
    values = np.linalg.svd(middle, compute_uv=False)
    # That of the space of small matrices, and what rounding leaves of factors of lower rank: less
    # than eps sum_j |b_j| |a_j|, at every size.
    rounding = _CANCELLING * float(np.finfo(dtype).eps) * cancelling
    least = np.maximum(resolution(size, dtype) * values[:, 0], rounding)
    wrong = np.flatnonzero(~(values[:, -1] > least))
    if len(wrong):
        k, rank = int(wrong[0]), values.shape[1]
        actual = int(np.count_nonzero(values[k] > least[k]))
        advice = f"Use factors of width {actual}" if actual else "Zero has no space: leave it out"
        raise InvalidPointError(
            f"{label}[{k}]: its product has rank {actual}, less than {rank}: singular value {rank} "
            f"is {values[k, -1]:.3g}, not above {least[k]:.3g}, the larger of {THRESHOLD:g} max(p, "
            f"q) eps times the first and {_CANCELLING:g} eps sum_j |b_j| |a_j|. {advice}."
        )
