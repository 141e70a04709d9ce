r"""Symmetric positive definite matrices: the geometry of Bures and Wasserstein, that of depth 2.

End-to-end matrices with equal orthogonal polar factors, positive definite ones among them, lie on a
totally geodesic part of the manifold, and at depth N = 2 that is the Bures-Wasserstein geometry of
covariance matrices (Chen, arXiv 2510.07324, section 3.2; Bhatia, Jain and Lim 2019):

.. math::
    d(A, B)^2 = 2\, d_{BW}(A, B)^2 = 2\, (tr A + tr B - 2\, tr\, (A^{1/2} B A^{1/2})^{1/2}).

Matrices are symmetric positive definite, ``shape=[..., n, n]``, with batches that broadcast;
float32 is computed in float64 and returned as it came. Plain functions of NumPy arrays.

Examples
--------
>>> import numpy as np
>>> from dln_manifolds import DLNObservableManifold, spd
>>> A, B = np.diag([2.0, 1.0]), np.array([[1.0, 0.3], [0.3, 0.5]])
>>> metric = DLNObservableManifold(n=2, depth=2).metric
>>> halfway = metric.geodesic(A, end_point=B)(0.5)[0]
>>> bool(np.allclose(spd.bures_wasserstein_geodesic(A, B, 0.5), halfway))
True
"""

import numpy as np

from dln_manifolds.checks import as_array, as_matrices, cast, common_batch
from dln_manifolds.errors import IncompleteGeodesicError, InvalidPointError
from dln_manifolds.numerics.arguments import times_of
from dln_manifolds.numerics.arrays import Array, ArrayLike, DType
from dln_manifolds.numerics.matrices import transpose

__all__ = ["bures_wasserstein_geodesic", "geometric_mean", "lyapunov", "riccati"]

# Relative asymmetry that counts as rounding, of double and of single precision.
_SYMMETRIC = {8: 1e-10, 4: 1e-4}


def lyapunov(A: ArrayLike, Q: ArrayLike) -> Array:
    """Lyapunov operator: the L with ``A L + L A = Q`` (Chen, arXiv 2510.07324, (3.7), (3.8)).

    In eigenvectors of A ``L_ij = Q_ij / (a_i + a_j)``. The Bures-Wasserstein inner product of
    tangent vectors is ``tr(Q L') / 2``.

    Parameters
    ----------
    A : array-like, shape=[..., n, n]
        Symmetric positive definite matrices.
    Q : array-like, shape=[..., n, n]
        Any matrices.

    Returns
    -------
    L : ndarray, shape=[..., n, n]
        Symmetric where Q is.
    """
    a, dtype = _positive(A, "A")
    q, other = as_matrices(Q, a.shape[-2:], "Q")
    common_batch({"A": a.shape[:-2], "Q": q.shape[:-2]})
    values, vectors = np.linalg.eigh(a)
    inside = transpose(vectors) @ q @ vectors
    inside = inside / (values[..., :, None] + values[..., None, :])
    return cast(vectors @ inside @ transpose(vectors), dtype, other)


def geometric_mean(A: ArrayLike, B: ArrayLike) -> Array:
    r"""Geometric mean ``A # B = A^{1/2} (A^{-1/2} B A^{-1/2})^{1/2} A^{1/2}``.

    The only positive definite G with ``G A^{-1} G = B`` (Chen, arXiv 2510.07324, Definition 3.3,
    Lemma 3.4), symmetric in A and B, ``(A # B)^{-1} = A^{-1} # B^{-1}``.

    Parameters
    ----------
    A, B : array-like, shape=[..., n, n]
        Symmetric positive definite matrices.

    Returns
    -------
    G : ndarray, shape=[..., n, n]
        Symmetric positive definite matrices.
    """
    a, b, dtypes = _both(A, B)
    # Of A = L L^T, L (L^-1 B L^-T)^{1/2} L^T solves the same equation.
    factor = np.linalg.cholesky(a)
    half = np.linalg.solve(factor, transpose(np.linalg.solve(factor, b)))
    return cast(_symmetric(factor @ _root(half) @ transpose(factor)), *dtypes)


def riccati(A: ArrayLike, B: ArrayLike) -> Array:
    """Solve ``X A X = B``: the only positive definite solution, ``X = A^{-1} # B``.

    The matrix of optimal transport from centred Gaussians with covariance A to those with
    covariance B (Chen, arXiv 2510.07324, Lemma 3.4; Bhatia, Jain and Lim 2019).

    Parameters
    ----------
    A, B : array-like, shape=[..., n, n]
        Symmetric positive definite matrices.

    Returns
    -------
    X : ndarray, shape=[..., n, n]
        Symmetric positive definite matrices.
    """
    a, b, dtypes = _both(A, B)
    return cast(_riccati(a, b), *dtypes)


def bures_wasserstein_geodesic(A: ArrayLike, B: ArrayLike, t: ArrayLike) -> Array:
    """Bures-Wasserstein geodesic from A to B: ``((1 - t) I + t X) A ((1 - t) I + t X)``.

    With X of `riccati` (Chen, arXiv 2510.07324, Theorem 3.5, (3.12)). It is also the geodesic of
    `DLNObservableManifold` at depth 2, with length ``sqrt(2)`` times that of Bures and Wasserstein.

    Parameters
    ----------
    A, B : array-like, shape=[..., n, n]
        Symmetric positive definite matrices.
    t : array-like, shape=[n_t] or a number
        Times; beyond [0, 1] the geodesic goes on to where it meets a singular matrix.

    Returns
    -------
    points : ndarray, shape=[..., n_t, n, n] or [..., n, n]
        Points; the axis of time is there if t has it.

    Raises
    ------
    IncompleteGeodesicError
        If the geodesic does not reach one of the times.
    """
    a, b, dtypes = _both(A, B)
    times = times_of(t)
    move = _riccati(a, b) - np.eye(a.shape[-1])
    _check_reached(np.linalg.eigvalsh(move), times)
    if times.ndim:
        move, a = move[..., None, :, :], a[..., None, :, :]
    turned = np.eye(a.shape[-1]) + times[..., None, None] * move
    return cast(_symmetric(turned @ a @ turned), *dtypes)


def _check_reached(rates: Array, times: Array) -> None:
    """Raise where ``1 + t x`` is not positive, for a rate x of the geodesic and a time t."""
    with np.errstate(divide="ignore"):
        ends = np.where(rates != 0, -1 / rates, np.inf)
    after = np.where(ends > 0, ends, np.inf).min(axis=-1, initial=np.inf)
    before = np.where(ends < 0, ends, -np.inf).max(axis=-1, initial=-np.inf)
    last, first = times.max(initial=0.0), times.min(initial=0.0)
    if (after <= last).any() or (before >= first).any():
        late = (after <= last).any()
        meets = float(after.min() if late else before.max())
        raise IncompleteGeodesicError(
            f"The geodesic meets a singular matrix at t = {meets:.6g}, and does not reach "
            f"t = {last if late else first:.6g}. Ask for times in between; all geodesics reach "
            f"0 <= t <= 1.",
            time=after if late else before,
        )


def _riccati(a: Array, b: Array) -> Array:
    # Of A = L L^T, L^-T (L^T B L)^{1/2} L^-1.
    factor_t = transpose(np.linalg.cholesky(a))
    half = np.linalg.solve(factor_t, _root(factor_t @ b @ transpose(factor_t)))
    return _symmetric(np.linalg.solve(factor_t, transpose(half)))


def _root(matrix: Array) -> Array:
    """Return positive square roots; what rounding made negative is zero."""
    values, vectors = np.linalg.eigh(matrix)
    root = np.sqrt(np.maximum(values, 0.0))
    return (vectors * root[..., None, :]) @ transpose(vectors)


def _symmetric(matrix: Array) -> Array:
    return 0.5 * (matrix + transpose(matrix))


def _both(A: ArrayLike, B: ArrayLike) -> tuple[Array, Array, tuple[DType, DType]]:
    """Check two arguments against each other."""
    (a, dtype), (b, other) = _positive(A, "A"), _positive(B, "B")
    if a.shape[-1] != b.shape[-1]:
        raise InvalidPointError(f"A has {a.shape[-1]} rows and B has {b.shape[-1]}.")
    common_batch({"A": a.shape[:-2], "B": b.shape[:-2]})
    return a, b, (dtype, other)


def _positive(value: ArrayLike, name: str) -> tuple[Array, DType]:
    """Return symmetric positive definite matrices as float64, and the dtype of results."""
    shape = as_array(value, name).shape
    if len(shape) < 2 or shape[-1] != shape[-2] or not shape[-1]:
        raise InvalidPointError(f"{name} has shape {shape}; square matrices are needed.")
    array, dtype = as_matrices(value, shape[-2:], name)
    scale = np.abs(array).max(axis=(-2, -1), initial=0.0)
    skew = np.abs(array - transpose(array)).max(axis=(-2, -1), initial=0.0)
    wrong = np.argwhere(skew > _SYMMETRIC[dtype.itemsize] * scale)
    if len(wrong):
        raise InvalidPointError(
            f"{name} is not symmetric{_member(wrong[0])}. Its symmetric part is (A + A.T) / 2; "
            f"general matrices have their geometry in DLNObservableManifold."
        )
    array = _symmetric(array)
    values = np.linalg.eigvalsh(array)
    bound = shape[-1] * np.finfo(np.float64).eps * values[..., -1]
    wrong = np.argwhere(~(values[..., 0] > bound))
    if len(wrong):
        found = values[tuple(wrong[0])]
        raise InvalidPointError(
            f"{name} is not positive definite{_member(wrong[0])}: its eigenvalues run from "
            f"{found[0]:.3g} to {found[-1]:.3g}. Add a small multiple of the identity if it is a "
            f"covariance matrix of few samples."
        )
    return array, dtype


def _member(where: Array) -> str:
    return f" (batch member {where.tolist()})" if len(where) else ""
