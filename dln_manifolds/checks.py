"""Validation of points and vectors: shape, dtype, finiteness, membership; once for each call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite, prod

import numpy as np

from dln_manifolds.errors import DisconnectedPointsError, InvalidPointError
from dln_manifolds.geometry.balancing import rebalance, relative_imbalance
from dln_manifolds.geometry.chain import Matrices
from dln_manifolds.geometry.frame import Frame, full_nodes
from dln_manifolds.geometry.layer_stratum import LayerStratum
from dln_manifolds.geometry.rank import THRESHOLD, has_rank, resolution
from dln_manifolds.geometry.stratum import Stratum, balance_tolerance, component
from dln_manifolds.numerics.arrays import Array, ArrayLike, DType, OptionalArray
from dln_manifolds.numerics.matrices import size_of
from dln_manifolds.numerics.precision import DOUBLE, coarsest, dtype_of_results, eps_of

HALF: DType = np.dtype(np.float16)

# For `At`: the point may be any array of its shape, or missing.
ANYWHERE = True


def as_array(value: object, name: str) -> Array:
    """Return an array-like as a plain array, whatever its shape and dtype.

    Subclasses of ndarray are converted: np.matrix, for instance, multiplies in another way. Refuses
    what is None, sparse, ragged, of a dtype that NumPy does not have, or has masked entries, which
    would be taken as numbers.
    """
    if type(value) is np.ndarray and value.dtype != object:
        return value
    if value is None or (isinstance(value, np.ndarray) and value.ndim == 0 and value[()] is None):
        raise InvalidPointError(
            f"{name} is None; an array is needed, as all lengths here depend on the point."
        )
    for part in value if isinstance(value, (list, tuple)) else (value,):
        if isinstance(part, np.ma.MaskedArray) and np.ma.is_masked(part):
            raise InvalidPointError(
                f"{name} has masked entries. Remove or repair such members first."
            )
        if hasattr(part, "toarray"):
            raise InvalidPointError(f"{name} is sparse. Convert it with .toarray().")
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        advice = "space.point(layers) makes one array of layers of unequal widths."
        if hasattr(value, "dtype"):  # as tensors have
            advice = "Convert it with .double() or .to_dense()."
        what = f"{name} is not a rectangular array of numbers: {str(error).rstrip('.')}"
        raise InvalidPointError(f"{what}. {advice}") from error


def as_matrices(value: object, shape: tuple[int, ...], name: str) -> tuple[Array, DType]:
    """Return an array-like of shape ``(..., *shape)`` as float64, and the dtype of results."""
    # The usual case: a sum of squares is finite only if all entries are. Others, very long vectors
    # among them, are looked at closely.
    if (
        type(value) is np.ndarray
        and value.dtype == DOUBLE
        and value.shape[-len(shape) :] == shape
        and isfinite(np.vdot(value, value))
    ):
        return value, DOUBLE
    array = as_array(value, name)
    if array.dtype.kind not in "fiub":
        raise InvalidPointError(
            f"{name} has dtype {array.dtype}; real numbers are needed. Convert it with "
            f"{'.real' if array.dtype.kind == 'c' else '.astype(float)'} if that is what you mean."
        )
    if array.shape[-len(shape) :] != shape:
        wanted = ", ".join(map(str, shape))
        advice = "for matrices of another size, make another space."
        if len(shape) > 1 and array.shape[-1:] == (prod(shape),):
            several = "-1, " if array.ndim > 1 else ""
            what = ".to_numpy()" if hasattr(value, "to_numpy") else ""
            advice = f"{what}.reshape({several}{wanted}) makes such of vectors of all entries."
        elif len(shape) == 1:
            advice = "space.point(layers) puts layers of unequal widths into one vector."
        raise InvalidPointError(
            f"{name} has shape {array.shape}; the last axes must be ({wanted}). Batch axes come "
            f"first; {advice}"
        )
    dtype = dtype_of_results(array.dtype)
    array = array.astype(DOUBLE, copy=False)
    finite = np.isfinite(array)
    if not finite.all():
        where = np.argwhere(~finite)[0]
        raise InvalidPointError(
            f"{name} is not finite: {array[tuple(where)]} at {_index(where)}"
            f"{_member(where[: -len(shape)])}. Remove or repair such members first."
        )
    return array, dtype


def gathered(
    value: object, shapes: Sequence[tuple[int, int]], layout: Matrices, name: str
) -> tuple[Array, DType]:
    """Return matrices of given shapes, in any iterable, as one array, and the dtype of results."""
    if not isinstance(value, Iterable):
        raise InvalidPointError(f"{name} must be a list of matrices, not {value!r}.")
    given, listed = list(value), ", ".join(map(str, shapes))
    if len(given) != len(shapes):
        raise InvalidPointError(
            f"{name} has {len(given)} matrices; {len(shapes)} are needed, of shapes {listed}."
        )
    found = []
    for place, (matrix, shape) in enumerate(zip(given, shapes, strict=True)):
        array = as_array(matrix, f"{name}[{place}]")
        if array.shape[-2:] != shape:
            raise InvalidPointError(
                f"{name}[{place}] has shape {array.shape}; the shapes needed are {listed}, in this "
                f"order: the first acts first."
            )
        found.append(as_matrices(array, shape, f"{name}[{place}]"))
    batch = common_batch({f"{name}[{k}]": x.shape[:-2] for k, (x, _) in enumerate(found)})
    arrays = [np.broadcast_to(x, batch + x.shape[-2:]) for x, _ in found]
    return layout.gathered(arrays), np.result_type(*(dtype for _, dtype in found))


def tentative(value: object, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Return an array and which members are finite, real and of a shape; raise nothing."""
    try:
        if isinstance(value, np.ma.MaskedArray) and value.dtype.kind in "fiub":
            value = np.ma.filled(value.astype(float), np.nan)
        array = as_array(value, "value")
    except InvalidPointError:
        return np.empty(0), np.zeros((), dtype=bool)
    batch = array.shape[: -len(shape)]
    if array.dtype.kind not in "fiub" or array.shape[-len(shape) :] != shape:
        return array, np.zeros(batch, dtype=bool)
    return array, np.asarray(np.isfinite(array).all(axis=tuple(range(-len(shape), 0))))


def checked_point(stratum: Stratum, value: object, name: str) -> tuple[Array, Frame, DType]:
    """Validate points and decompose them once; also return the dtype of results.

    Refuses what `as_matrices` does, matrices of another rank, and layers that are not balanced.
    """
    array, dtype = as_matrices(value, stratum.point_shape, name)
    if isinstance(stratum, LayerStratum):
        array = _balanced(stratum, array, dtype, name)
    frame, values = stratum.decompose(array)
    _check_rank(stratum, values, dtype, name)
    rank = stratum.rank
    if values.shape[-1] > rank:
        # Looser ones, of single precision for instance, become exact.
        loose = values[..., rank] > resolution(stratum.size, DOUBLE) * values[..., 0]
        if loose.any():
            exact = frame.compose(frame.values)
            array = np.where(spread(loose, len(stratum.point_shape)), exact, array)
    return array, frame, dtype


def _check_rank(stratum: Stratum, values: Array, dtype: DType, name: str) -> None:
    """Raise `InvalidPointError` if a member has another rank, by its singular values."""
    rank, size = stratum.rank, stratum.size
    good = has_rank(values, rank, size, dtype)
    if good.all():
        return
    where = np.argwhere(~good)[0]
    found, member = values[tuple(where)], _member(where)
    if isinstance(stratum, LayerStratum):
        if found[rank - 1] <= resolution(size, dtype) * found[0]:
            span = f"{found[0]:.3g} to {found[rank - 1]:.3g}, and rank {rank} is needed"
            raise InvalidPointError(
                f"{name} has singular layers{member}: their singular values run from {span}."
            )
        raise InvalidPointError(
            f"{name} has layers of a rank above {rank}{member}: a singular value beyond is "
            f"{found[rank]:.3g}, the largest {found[0]:.3g}. space.projection(W) cuts at the rank."
        )
    unit = resolution(size, dtype) * found[0]
    actual = int(np.count_nonzero(found > unit))
    elsewhere = f"rank={actual} makes the space of such matrices" if actual else "zero has no space"
    if actual > rank:
        raise InvalidPointError(
            f"{name} has rank {actual}, more than {rank}{member}: singular value {rank + 1} is "
            f"{found[rank]:.3g}, above {THRESHOLD:g} max(m, n) eps times the largest, {unit:.3g}. "
            f"space.projection(point) returns the nearest matrix of rank {rank}; {elsewhere}."
        )
    what = "is singular" if stratum.is_square else f"has rank {actual}, less than {rank}"
    raise InvalidPointError(
        f"{name} {what}{member}: its singular values run from {found[0]:.3g} to {found[-1]:.3g}, "
        f"and number {rank} is {found[rank - 1]:.3g}, not above {THRESHOLD:g} max(m, n) eps times "
        f"the largest, {unit:.3g}. space.projection(point) raises the singular values that are too "
        f"small; {elsewhere}."
    )


def _balanced(stratum: LayerStratum, layers: Array, dtype: DType, name: str) -> Array:
    """Return layers balanced to round-off, or raise `InvalidPointError` if they are far from it."""
    measured = relative_imbalance(layers, stratum.chain)
    unbalanced = measured > balance_tolerance(dtype)
    if unbalanced.any():
        where = np.argwhere(unbalanced)[0]
        raise InvalidPointError(
            f"{name} is not balanced{_member(where)}: its relative imbalance is "
            f"{measured[tuple(where)]:.3g}, more than {balance_tolerance(dtype):.0e}. "
            f"space.balance(W) returns balanced layers with the same end-to-end matrix."
        )
    # Looser layers, of single precision for instance, become exact: geodesics ask for that.
    loose = measured > 1e-13
    if loose.any():
        layers = layers.copy()
        layers[loose] = rebalance(layers[loose], stratum.chain, stratum.rank)
    return layers


def cast(value: Array, *dtypes: DType) -> Array:
    """Return a result in the precision of its inputs, the finest of them."""
    return np.asarray(value).astype(np.result_type(*dtypes), copy=False)


class At:
    """The arguments of one call at a point: checked once, as float64, with the frame of the point.

    Its ``point`` with ``frame``, the ``vectors`` in the order given, their common ``batch`` shape,
    and the ``dtype`` of results: the finest precision among the arguments.
    """

    __slots__ = ("_dtypes", "_names", "batch", "dtype", "frame", "point", "stratum", "vectors")

    def __init__(
        self,
        stratum: Stratum,
        point: OptionalArray,
        name: str = "base_point",
        anywhere: bool = False,
        /,
        **vectors: ArrayLike,
    ) -> None:
        self.stratum = stratum
        if not anywhere:
            self.point, self.frame, self.dtype = checked_point(stratum, point, name)
        else:
            # A missing point takes part in no batch; the dtype is that of the vectors.
            self.point, self.dtype = np.empty(stratum.point_shape), HALF
            if point is not None:
                self.point, _ = as_matrices(point, stratum.point_shape, name)
        self._gather(name, vectors)

    def _gather(self, name: str, vectors: dict[str, ArrayLike]) -> None:
        shape = self.stratum.point_shape
        self.batch = self.point.shape[: self.point.ndim - len(shape)]
        self.vectors: list[Array] = []
        self._names, self._dtypes = [name], [self.dtype]
        last: OptionalArray = None
        for key, value in vectors.items():
            if value is last and self.vectors:
                self.vectors.append(self.vectors[-1])
                self._names.append(key)
                self._dtypes.append(self._dtypes[-1])
            else:
                self.vectors.append(self.add(value, key, shape))
            last = value

    def add(self, value: ArrayLike, name: str, shape: tuple[int, ...]) -> Array:
        """Check one more argument, shape ``(..., *shape)``, against the others."""
        array, dtype = as_matrices(value, shape, name)
        if dtype is not self.dtype:
            self.dtype = np.result_type(self.dtype, dtype)
        batch = array.shape[: array.ndim - len(shape)]
        if not self.batch:
            self.batch = batch
        elif batch and batch != self.batch:
            self.batch = common_batch({" and ".join(self._names): self.batch, name: batch})
        self._names.append(name)
        self._dtypes.append(dtype)
        return array

    def meet(self, other: At, **names: At) -> None:
        """Give two the same batch and dtype."""
        self.batch = other.batch = common_batch({key: at.batch for key, at in names.items()})
        self.dtype = other.dtype = np.result_type(self.dtype, other.dtype)

    def tangent(self) -> At:
        """Return the same, vectors without round-off; refuse vectors with normal parts."""
        if not self.stratum.is_open:
            names = zip(self.vectors, self._names[1:], self._dtypes[1:], strict=True)
            self.vectors = [self._tangent_part(*vector) for vector in names]
        return self

    def _tangent_part(self, vector: Array, name: str, dtype: DType) -> Array:
        tangent = self.stratum.tangent_part(self.frame, vector)
        n_batch, values = tangent.ndim - len(self.stratum.point_shape), self.frame.values
        both = vector - tangent, np.broadcast_to(vector, tangent.shape)
        normal, size = (size_of(x, n_batch) for x in both)
        # As tangent as the coarser of vector and base point can tell.
        coarser = coarsest(dtype, self._dtypes[0])
        # A small vector may be the sum of large ones, as the mean of logs at a Fréchet mean is:
        # what is round-off for points passes.
        rounding = 64 * eps_of(coarser) * size_of(values, values.ndim - 1)
        wrong = normal > balance_tolerance(coarser) * size + rounding
        if wrong.any():
            where = np.argwhere(wrong)[0]
            part = float(normal[tuple(where)] / size[tuple(where)])
            raise InvalidPointError(
                f"{name} is not tangent{_member(where)}: a part {part:.3g} of its length is "
                f"normal. space.to_tangent(vector, base_point) projects it."
            )
        return tangent

    def cast(self, value: Array) -> Array:
        """Return a result in the dtype of results."""
        return np.asarray(value).astype(self.dtype, copy=False)

    def copied(self, value: Array) -> Array:
        """Return an argument as a result of its own, with all batch axes."""
        shape = self.stratum.point_shape
        return np.broadcast_to(value, (*self.batch, *shape)).astype(self.dtype, copy=True)

    def flat(self, array: Array) -> Array:
        """Return an array with its batch axes broadcast and joined into one."""
        return flatten(array, self.batch, len(self.stratum.point_shape))

    def flat_point(self) -> tuple[Array, Frame]:
        """Return the point and its frame, their batch axes broadcast and joined into one."""
        n_batch = self.frame.values.ndim - 1
        frame = self.frame.mapped(lambda x: flatten(x, self.batch, x.ndim - n_batch))
        return self.flat(self.point), frame


def connect(start: At, end: At, tolerate: bool) -> Array:
    """Broadcast end points of paths against each other; return which pairs are apart, flat.

    Where pairs are apart and that is tolerated, the end is replaced by the start.
    """
    start.meet(end, point=end, base_point=start)
    apart = check_connected(start.frame, end.frame, tolerate)
    if apart.any():
        ndim = len(start.stratum.point_shape)
        end.point = np.where(spread(apart, ndim), start.point, end.point)
        end.frame = end.stratum.frame(end.point)
    return flatten(apart, start.batch, 0)


def check_connected(first: Frame, last: Frame, tolerate: bool = False) -> Array:
    """Return which pairs lie in different components, shape ``(...)``; raise if not tolerated."""
    apart = np.asarray(component(first) != component(last))
    if apart.any() and not tolerate:
        where = np.argwhere(apart)[0]
        if first.layered:
            nodes = full_nodes(first.layout, first.values.shape[-1])
            begin, end = nodes[where[-1]], nodes[where[-1] + 1] - 1
            which = f"Layer {end}" if begin == end else f"The product of layers {begin} to {end}"
            raise DisconnectedPointsError(
                f"{which} has det of different signs{_member(where[:-1])} in base_point and point: "
                f"they lie in different components of the balanced manifold, and no path joins "
                f"them. Act with reflections h_p on both sides to change component; "
                f"completed_dist of DLNObservableMetric joins end-to-end matrices through det = 0."
            )
        raise DisconnectedPointsError(
            f"det(base_point) and det(point) have different signs{_member(where)}: they lie in "
            f"different components of GL(n), and no path joins them. metric.completed_dist is the "
            f"distance through det = 0; training from orthogonal or once balanced layers keeps the "
            f"sign. Flip the sign of a row or column of one if orientation has no meaning."
        )
    return np.asarray(apart.any(axis=-1)) if first.layered else apart


def common_batch(shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Return the broadcast of batch shapes, by the names of the arguments."""
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


def spread(members: Array, ndim: int) -> Array:
    """Give an array over members, shape ``(...)``, the axes of points."""
    return members.reshape(*members.shape, *(1,) * ndim)


def flatten(array: Array, batch: tuple[int, ...], point_ndim: int) -> Array:
    """Broadcast the batch axes and join them into one."""
    trailing = array.shape[array.ndim - point_ndim :]
    if array.shape == (*batch, *trailing):
        return array.reshape(-1, *trailing)
    return np.broadcast_to(array, (*batch, *trailing)).reshape(-1, *trailing)


def _index(where: Array) -> str:
    return "[" + ", ".join(str(int(i)) for i in where) + "]"


def _member(where: Array) -> str:
    return f" (batch member {_index(where)})" if len(where) else ""
