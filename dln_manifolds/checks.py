"""Validation of points and vectors: shape, dtype, finiteness, invertibility."""

from __future__ import annotations

from typing import Any

import numpy as np

from dln_manifolds.errors import DisconnectedPointsError, InvalidPointError
from dln_manifolds.geometry.balancing import rebalance, relative_imbalance
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.sectors import tangent_part
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import transpose


def as_array(value: Any, name: str) -> Array:
    """Return an array-like as an array, whatever its shape and dtype.

    Raises
    ------
    InvalidPointError
        If it is None, a ragged list, or has masked entries, which would be taken as numbers.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise InvalidPointError(f"{name} has masked entries. Remove or repair such members first.")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InvalidPointError(f"{name} is not a rectangular array of numbers.") from error
    if array.dtype == object and array.ndim == 0 and array[()] is None:
        raise InvalidPointError(
            f"{name} is None; an array is needed, as all lengths here depend on the point."
        )
    return array


def as_matrices(value: Any, shape: tuple[int, ...], name: str) -> tuple[Array, np.dtype[Any]]:
    """Return an array-like as float64, and the dtype in which results are returned.

    Parameters
    ----------
    value : array-like, shape=[..., *shape]
        Real numbers; integers are taken as floats.
    shape : tuple of int
        Trailing shape asked for.
    name : str
        How messages call the value.

    Raises
    ------
    InvalidPointError
        If the dtype is not real, the shape does not fit or an entry is not finite.
    """
    array = as_array(value, name)
    if array.dtype.kind not in "fiub":
        raise InvalidPointError(
            f"{name} has dtype {array.dtype}; real numbers are needed. Convert it with "
            f"{'.real' if array.dtype.kind == 'c' else '.astype(float)'} if that is what you mean."
        )
    if array.shape[-len(shape) :] != shape:
        wanted = ", ".join(map(str, shape))
        raise InvalidPointError(
            f"{name} has shape {array.shape}; the last axes must be ({wanted}). Batch axes come "
            f"first; for matrices of another size, make another space."
        )
    dtype = np.dtype(np.float32) if array.dtype == np.float32 else np.dtype(np.float64)
    array = array.astype(np.float64, copy=False)
    finite = np.isfinite(array)
    if not finite.all():
        where = np.argwhere(~finite)[0]
        raise InvalidPointError(
            f"{name} is not finite: {array[tuple(where)]} at {_index(where)}"
            f"{_member(where[: -len(shape)])}. Remove or repair such members first."
        )
    return array, dtype


def is_invertible(singular_values: Array, dtype: np.dtype[Any]) -> Array:
    """Whether the smallest singular value exceeds ``n eps`` times the largest."""
    n = singular_values.shape[-1]
    smallest, largest = singular_values[..., -1], singular_values[..., 0]
    return np.asarray(smallest > n * np.finfo(dtype).eps * largest)


def check_invertible(frame: Frame, dtype: np.dtype[Any], name: str) -> None:
    """Raise `InvalidPointError` if a member is numerically singular."""
    invertible = is_invertible(frame.singular_values, dtype)
    if invertible.all():
        return
    where = np.argwhere(~invertible)[0]
    values = frame.singular_values[tuple(where)]
    raise InvalidPointError(
        f"{name} is singular{_member(where)}: its singular values run from {values[0]:.3g} to "
        f"{values[-1]:.3g}, below n eps times the largest. The manifold holds the invertible "
        f"matrices only; space.projection(point) raises the singular values that are too small."
    )


def checked_frame(
    point: Any, shape: tuple[int, ...], depth: float, name: str
) -> tuple[Frame, np.dtype[Any]]:
    """Validate points, decompose them once, and return the dtype of results."""
    array, dtype = as_matrices(point, shape, name)
    return invertible_frame(array, dtype, depth, name), dtype


def invertible_frame(point: Array, dtype: np.dtype[Any], depth: float, name: str) -> Frame:
    """Decompose points that `as_matrices` returned."""
    frame = Frame.of_point(point, depth)
    check_invertible(frame, dtype, name)
    return frame


def cast(value: Array, *dtypes: np.dtype[Any]) -> Array:
    """Return a result as float32 if every input was, else as float64."""
    return np.asarray(value).astype(np.result_type(*dtypes), copy=False)


def checked_layers(
    point: Any, shape: tuple[int, ...], name: str
) -> tuple[Array, Frame, np.dtype[Any]]:
    """Validate balanced layers and read off their frames; also return the dtype of results.

    Raises
    ------
    InvalidPointError
        Besides what :func:`as_matrices` refuses: singular layers, and layers that are not balanced.
    """
    layers, dtype = as_matrices(point, shape, name)
    measured = relative_imbalance(layers)
    unbalanced = measured > balance_tolerance(dtype)
    if unbalanced.any():
        where = np.argwhere(unbalanced)[0]
        raise InvalidPointError(
            f"{name} is not balanced{_member(where)}: its relative imbalance is "
            f"{measured[tuple(where)]:.3g}, more than {balance_tolerance(dtype):.0e}. "
            f"space.projection(W) returns balanced layers with the same end-to-end matrix."
        )
    # Looser layers, of single precision for instance, become exact: geodesics ask for that.
    loose = measured > 1e-13
    if loose.any():
        layers = layers.copy()
        layers[loose] = rebalance(layers[loose])
    frame = Frame.of_layers(layers)
    singular = ~is_invertible(frame.roots, dtype)
    if singular.any():
        where = np.argwhere(singular)[0]
        raise InvalidPointError(
            f"{name} has singular layers{_member(where)}: their singular values run from "
            f"{frame.roots[tuple(where)][0]:.3g} to {frame.roots[tuple(where)][-1]:.3g}."
        )
    return layers, frame, dtype


def checked_tangent(
    frame: Frame,
    vector: Any,
    shape: tuple[int, ...],
    name: str,
    base_dtype: np.dtype[Any],
) -> tuple[Array, np.dtype[Any]]:
    """Validate a tangent vector at balanced layers, and remove its round-off.

    Raises
    ------
    InvalidPointError
        Besides what :func:`as_matrices` refuses: a vector with a normal part.
    """
    array, dtype = as_matrices(vector, shape, name)
    common_batch(len(shape), **{name: array, "base_point": frame.left})
    tangent = tangent_part(frame, array)
    axes = tuple(range(-len(shape), 0))
    normal = np.sqrt(np.sum((array - tangent) ** 2, axis=axes))
    size = np.sqrt(np.sum(array**2, axis=axes))
    # As tangent as the coarser of vector and base point can tell.
    coarser = max(dtype, base_dtype, key=lambda kind: np.finfo(kind).eps)
    # A small vector may be the sum of large ones, as the mean of logs at a Fréchet mean is: what
    # is round-off for the layers passes.
    rounding = 64 * np.finfo(coarser).eps * np.linalg.norm(frame.roots, axis=-1)
    wrong = normal > balance_tolerance(coarser) * size + rounding
    if wrong.any():
        where = np.argwhere(wrong)[0]
        part = float(normal[tuple(where)] / size[tuple(where)])
        raise InvalidPointError(
            f"{name} is not tangent{_member(where)}: a part {part:.3g} of its length is normal. "
            f"space.to_tangent(vector, base_point) projects it."
        )
    return tangent, dtype


def balance_tolerance(dtype: np.dtype[Any]) -> float:
    """Relative imbalance up to which layers of a dtype count as balanced: ``sqrt(eps) / 2``."""
    return 0.5 * float(np.sqrt(np.finfo(dtype).eps))


def check_layers_connected(first: Array, last: Array, tolerate: bool = False) -> Array:
    """Return which pairs differ in the sign of det of some layer, shape ``(...)``.

    Raises
    ------
    DisconnectedPointsError
        If there are such pairs and they are not tolerated.
    """
    signs = np.linalg.slogdet(first)[0], np.linalg.slogdet(last)[0]
    apart = signs[0] != signs[1]
    if apart.any() and not tolerate:
        where = np.argwhere(apart)[0]
        raise DisconnectedPointsError(
            f"Layer {int(where[-1])} has det of different signs{_member(where[:-1])} in base_point "
            f"and point: they lie in different components of the balanced manifold, and no path "
            f"joins them. Act with reflections h_p on both sides of the layer to change component."
        )
    return np.asarray(apart.any(axis=-1))


def common_batch(point_ndim: int, **arrays: Array) -> tuple[int, ...]:
    """Return the broadcast batch shape of arrays of points and vectors.

    Raises
    ------
    InvalidPointError
        If the batch shapes do not broadcast.
    """
    shapes = {name: array.shape[: array.ndim - point_ndim] for name, array in arrays.items()}
    first, *others = shapes.values()
    if all(shape == first for shape in others):
        return first  # what most calls are; numpy takes longer to say so
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError as error:
        listed = " and ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InvalidPointError(
            f"Batch shapes do not broadcast: {listed}. Give one point or as many as on the other "
            f"side; insert an axis of length 1 to combine each with each."
        ) from error


def flatten(array: Array, batch: tuple[int, ...], point_ndim: int) -> Array:
    """Broadcast the batch axes and join them into one."""
    trailing = array.shape[array.ndim - point_ndim :]
    if array.shape == (*batch, *trailing):
        return array.reshape(-1, *trailing)
    return np.broadcast_to(array, (*batch, *trailing)).reshape(-1, *trailing)


def flat_frame(frame: Frame, batch: tuple[int, ...]) -> Frame:
    """Broadcast the batch axes of a frame and join them into one."""
    n_batch = frame.values.ndim - 1
    return frame.mapped(lambda array: flatten(array, batch, array.ndim - n_batch))


def check_connected(first: Frame, last: Frame, tolerate: bool = False) -> Array:
    """Return which pairs of points differ in the sign of det, shape ``(...)``.

    Raises
    ------
    DisconnectedPointsError
        If there are such pairs and they are not tolerated.
    """
    apart = np.asarray(np.linalg.det(first.polar @ transpose(last.polar)) < 0)
    if apart.any() and not tolerate:
        where = np.argwhere(apart)[0]
        raise DisconnectedPointsError(
            f"det(base_point) and det(point) have different signs{_member(where)}: they lie in "
            f"different components of GL(n), and no path joins them. Flip the sign of one row or "
            f"column of one of them if orientation has no meaning in your data."
        )
    return apart


def _index(where: Array) -> str:
    return "[" + ", ".join(str(int(i)) for i in where) + "]"


def _member(where: Array) -> str:
    return f" (batch member {_index(where)})" if len(where) else ""
