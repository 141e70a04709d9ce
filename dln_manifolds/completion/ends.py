"""Validation of points of the metric completion: square matrices, singular ones among them."""

from __future__ import annotations

import math

import numpy as np

from dln_manifolds.checks import as_matrices, common_batch, flatten
from dln_manifolds.completion.solve import cut_frame
from dln_manifolds.errors import DisconnectedPointsError, InvalidPointError
from dln_manifolds.geodesics.system import Points
from dln_manifolds.geometry.stratum import Stratum
from dln_manifolds.numerics.arrays import Array, ArrayLike, DType


def require_square(stratum: Stratum) -> None:
    """Raise `InvalidPointError` unless a manifold is that of square matrices of full rank."""
    if not stratum.is_square or len(stratum.point_shape) != 2:
        raise InvalidPointError(
            f"Distances of the completion are those of square end-to-end matrices of full rank, as "
            f"DLNObservableManifold(n={stratum.size}, ...) has them, not of shape "
            f"{stratum.point_shape} and rank {stratum.rank}: these have no det to change its sign, "
            f"and dist joins all that one component holds."
        )


def completed_point(stratum: Stratum, value: ArrayLike, name: str) -> tuple[Points, DType]:
    """Validate square matrices ``(..., n, n)`` of any rank but zero; return results' dtype too.

    Singular values that :func:`dln_manifolds.geometry.rank.resolution` does not tell from zero
    become zero.
    """
    array, dtype = as_matrices(value, stratum.point_shape, name)
    frame = cut_frame(array, stratum.depth, dtype)
    zero = frame.values[..., 0] == 0
    if zero.any():
        raise InvalidPointError(
            f"{name} is the zero matrix{_member(int(np.argmax(zero)), zero.shape)}, the tip of the "
            f"cone: its distance from X is sqrt(N sum s_i^(2/N)), along the ray c X."
        )
    return Points(array, frame), dtype


def completed_ends(
    stratum: Stratum, point: ArrayLike, base_point: ArrayLike
) -> tuple[Points, Points, tuple[int, ...], DType]:
    """Return validated flat pairs, base points first, their batch shape and the dtype of results.

    Raises
    ------
    InvalidPointError
        For manifolds other than of square matrices of full rank, what is no matrix, the zero
        matrix, singular matrices at infinite depth, and pairs of singular matrices that are not
        both of rank n - 1.
    DisconnectedPointsError
        For opposite signs of det at infinite depth.
    """
    require_square(stratum)
    (last, dtype), (first, other) = (
        completed_point(stratum, value, name)
        for value, name in ((point, "point"), (base_point, "base_point"))
    )
    shapes = {"point": last.value.shape[:-2], "base_point": first.value.shape[:-2]}
    batch = common_batch(shapes)
    start, end = _flat(first, batch), _flat(last, batch)
    check_reachable(start, end, depth=stratum.depth, batch=batch)
    return start, end, batch, np.result_type(dtype, other)


def _flat(points: Points, batch: tuple[int, ...]) -> Points:
    """Broadcast the batch axes and join them into one."""
    n_batch = points.value.ndim - 2
    frame = points.frame.mapped(lambda x: flatten(x, batch, x.ndim - n_batch))
    return Points(flatten(points.value, batch, 2), frame)


def check_reachable(first: Points, last: Points, *, depth: float, batch: tuple[int, ...]) -> None:
    """Raise for pairs that are infinitely far apart, and those that no solver is there for."""
    n = first.frame.values.shape[-1]
    ranks = [(points.frame.values > 0).sum(axis=-1) for points in (first, last)]
    if math.isinf(depth):
        _check_infinite(first, last, ranks, batch)
        return
    both = (np.maximum(*ranks) < n) & (np.minimum(*ranks) < n - 1) & (depth > 1)
    if both.any():
        place = int(np.argmax(both))
        raise InvalidPointError(
            f"base_point and point have ranks {ranks[0][place]} and {ranks[1][place]}"
            f"{_member(place, batch)}: of two singular {n} x {n} matrices both must be of rank "
            f"{n - 1}. DLNObservableManifold(n={n}, rank=...) has distances of those of one lower "
            f"rank."
        )


def _check_infinite(
    first: Points, last: Points, ranks: list[Array], batch: tuple[int, ...]
) -> None:
    """At infinite depth the completion is the space itself."""
    n = first.frame.values.shape[-1]
    why = "at infinite depth the space is complete, and singular matrices are infinitely far away"
    singular = np.minimum(*ranks) < n
    if singular.any():
        raise InvalidPointError(
            f"base_point or point is singular{_member(int(np.argmax(singular)), batch)}: {why}. "
            f"Take a finite depth, however large."
        )
    signs = [np.linalg.slogdet(points.frame.polar)[0] for points in (first, last)]
    apart = signs[0] != signs[1]
    if apart.any():
        raise DisconnectedPointsError(
            f"det(base_point) and det(point) have different signs"
            f"{_member(int(np.argmax(apart)), batch)}: {why}, so that no path of finite length "
            f"joins them. Take a finite depth, however large, or flip the sign of a row."
        )


def _member(place: int, batch: tuple[int, ...]) -> str:
    """Name a member of a flat batch, if there is a batch."""
    index = [int(k) for k in np.unravel_index(place, batch)] if batch else []
    return f" (batch member {index})" if index else ""
