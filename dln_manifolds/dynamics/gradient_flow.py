r"""Gradient flow of a loss E(X): of the layers, and of the end-to-end matrix.

Training by gradient flow moves the layers by ``W_p' = -dE/dW_p``. It conserves the imbalances
``W_{p+1}^T W_{p+1} - W_p W_p^T``; from balanced layers, the end-to-end matrix then follows the
Riemannian gradient flow ``X' = -A_X(dE(X))`` whatever the layers are (Bah, Rauhut, Terstiege,
Westdickenberg, arXiv 1910.05505; Menon, arXiv 2411.09004, section 2).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from scipy.integrate import solve_ivp

from dln_manifolds.checks import as_array, as_matrices
from dln_manifolds.errors import ConvergenceError, InvalidPointError
from dln_manifolds.geometry.balancing import end_to_end, end_to_end_pullback
from dln_manifolds.geometry.chain import Chain, chain_of
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import apply_cometric, inner_coproduct
from dln_manifolds.geometry.rank import has_rank, nearest_of_rank
from dln_manifolds.geometry.stratum import MatrixStratum
from dln_manifolds.numerics.arguments import function, real, whole
from dln_manifolds.numerics.arrays import Array, ArrayLike, DType
from dln_manifolds.numerics.matrices import transpose

Gradient = Callable[[Array], Array]
Energy = Callable[[Array], float]
# Of equal widths, or one array for each of them.
Layers = Array | tuple[Array, ...]


@dataclass(frozen=True)
class GradientFlow:
    """A gradient flow at the times asked for, shape ``(n_times,)``.

    ``points`` X(t) have shape ``(n_times, m, n)``. ``layers`` W(t) of the flow upstairs are
    ``(n_times, N, n, n)``, or at unequal widths a tuple of ``W_p(t)``, ``(n_times, d_p, d_{p-1})``;
    they and ``energy`` E(X(t)) are None if there are none. ``drift`` is what the flow should
    conserve, relative: upstairs the change of the `imbalances` beside ``max |W_p W_p^T|`` over the
    flow; downstairs the change of ``E(X(t))`` plus the integral of the squared speed, beside the
    largest energy in size, NaN without an energy.
    """

    times: Array
    points: Array
    layers: Layers | None = field(repr=False)
    drift: Array
    energy: Array | None
    n_evaluations: int

    @property
    def imbalances(self) -> tuple[Array, ...] | None:
        """``W_{p+1}^T W_{p+1} - W_p W_p^T``, p = 1 .. N-1: conserved; ``(n_times, d_p, d_p)``."""
        return None if self.layers is None else imbalances_of(self.layers)


def imbalances_of(layers: Layers) -> tuple[Array, ...]:
    """Return ``W_{p+1}^T W_{p+1} - W_p W_p^T`` of layers as flows have them."""
    single = layers if isinstance(layers, tuple) else np.moveaxis(layers, -3, 0)
    return tuple(transpose(w) @ w - v @ transpose(v) for v, w in pairwise(single))


def layer_gradient(layers: Array, gradient: Gradient, chain: Chain | None = None) -> Array:
    """Return ``dE/dW_p = (W_N .. W_{p+1})^T dE(X) (W_{p-1} .. W_1)^T``, of the shape of W.

    That is ``(..., N, n, n)``, or as the chain says.
    """
    covector = _checked(gradient, end_to_end(layers, chain))
    return end_to_end_pullback(layers, covector, chain)


def flow_of_layers(
    layers: ArrayLike | Sequence[ArrayLike],
    gradient: Gradient,
    times: ArrayLike,
    *,
    energy: Energy | None = None,
    tolerance: float = 1e-12,
) -> GradientFlow:
    """Follow ``W_p' = -dE/dW_p``, training with infinitely small steps.

    From layers, balanced or not, at the first of the increasing times: an array ``(N, n, n)``, or a
    list of matrices of which the first acts first, ``(d_1, d_0)``, ``(d_2, d_1)`` and so on; of a
    point of `BalancedManifold`, ``space.layers(W)``. By the Euclidean gradient ``X -> dE(X)`` of
    the loss; the loss ``X -> E(X)`` itself, if given, is reported along the flow. The tolerance of
    the integration (DOP853) is relative. Results are in single precision if the start is.

    Raises `InvalidPointError` or ValueError if these are not layers of one network, or the times do
    not increase; `ConvergenceError` if the integration fails, as if the loss has no lower bound.
    """
    start, chain, dtype = checked_layers(layers)
    times = checked_times(times)
    _check_start(gradient, end_to_end(start, chain), energy)

    def rate(_: float, flat: Array) -> Array:
        return -layer_gradient(flat.reshape(start.shape), gradient, chain).ravel()

    states, n_evaluations = integrate(rate, start.ravel(), times, tolerance)
    moved = states.reshape(times.size, *start.shape)
    points = end_to_end(moved, chain)
    drift = np.zeros(times.size)
    for imbalance in imbalances_of(tuple(chain.layers(moved))):
        change = np.linalg.norm(imbalance - imbalance[0], axis=(-2, -1))
        drift = np.maximum(drift, change)
    size = max(np.linalg.norm(w @ transpose(w), axis=(-2, -1)).max() for w in chain.layers(moved))
    cast = points.astype(dtype), released(moved, chain, dtype)
    energies = _energies(energy, points)
    return GradientFlow(times, *cast, drift / (size or 1.0), energies, n_evaluations)


def flow_of_point(
    point: ArrayLike,
    depth: float,
    gradient: Gradient,
    times: ArrayLike,
    *,
    rank: int | None = None,
    energy: Energy | None = None,
    tolerance: float = 1e-12,
) -> GradientFlow:
    """Follow the Riemannian gradient flow ``X' = -A_X(dE(X))`` from X, ``(m, n)``.

    It is the flow of `flow_of_layers` from any balanced layers with the end-to-end matrix X, at any
    real depth N >= 1; arguments, result and errors as there, without layers. It keeps the rank of
    X, unless N = 1. If none is given it is the number of singular values that are not zero: then
    what rounding adds to X of lower rank may grow. At X = 0 nothing moves for N > 1.
    """
    start, dtype = checked_matrix(point)
    depth = MatrixStratum.of(shape=start.shape, depth=depth).depth
    times = checked_times(times)
    _check_start(gradient, start, energy)
    values = np.linalg.svd(start, compute_uv=False)
    if rank is None and depth > 1 and not values.all():
        rank = int(np.count_nonzero(values))
    elif rank is not None:
        known = 1 <= whole("rank", rank) <= len(values)
        if not (known and has_rank(values, rank, max(start.shape), dtype)):
            raise InvalidPointError(
                f"point has not rank {rank}: its singular values are {values}. Give its rank, or "
                f"none for the full one."
            )
    if rank:
        MatrixStratum.of(shape=start.shape, depth=depth, rank=rank)  # infinite depths need all

    def rate(_: float, state: Array) -> Array:
        position = state[:-1].reshape(start.shape)
        covector = _checked(gradient, position)
        if depth == 1 and rank is None:
            return np.append(-covector, np.sum(covector**2))
        if rank == 0:
            return np.zeros_like(state)
        frame = Frame.of_point(position, depth, rank)
        # The last entry collects the squared speed, which is what the energy loses.
        speed = inner_coproduct(frame, covector, covector)
        return np.append(-apply_cometric(frame, covector), speed)

    states, n_evaluations = integrate(rate, np.append(start, 0.0), times, tolerance)
    points = states[:, :-1].reshape(times.size, *start.shape)
    if rank:
        points = nearest_of_rank(points, rank, np.dtype(float))
    energies = _energies(energy, points)
    drift = np.full(times.shape, np.nan)
    if energies is not None:
        drift = np.abs(energies + states[:, -1] - energies[0]) / (np.abs(energies).max() or 1.0)
    return GradientFlow(times, points.astype(dtype), None, drift, energies, n_evaluations)


def checked_matrix(value: ArrayLike) -> tuple[Array, DType]:
    """Return one matrix, and the dtype of results."""
    shape = as_array(value, "point").shape
    if len(shape) != 2 or 0 in shape:
        raise InvalidPointError(f"point has shape {shape}; a flow starts at (m, n), one matrix.")
    return as_matrices(value, shape, "point")


def checked_layers(value: ArrayLike | Sequence[ArrayLike]) -> tuple[Array, Chain, DType]:
    """Return the layers of one network, how they lie in the array, and the dtype of results."""
    given: Sequence[object]
    if isinstance(value, list | tuple):
        given = value
    else:
        array = as_array(value, "layers")
        if array.ndim != 3:
            raise InvalidPointError(
                f"layers has shape {array.shape}; a flow starts at (N, n, n), the layers of one "
                f"network, or at a list of matrices: of a point W that is space.layers(W)."
            )
        given = list(array)
    if not len(given):
        raise InvalidPointError("layers has no matrices; a flow starts at one layer or more.")
    matrices: list[Array] = []
    dtypes: list[DType] = []
    for place, layer in enumerate(given):
        name = f"layers[{place}]"
        shape = as_array(layer, name).shape
        if len(shape) != 2 or 0 in shape:
            raise InvalidPointError(f"{name} has shape {shape}; a flow starts at matrices.")
        if matrices and shape[1] != len(matrices[-1]):
            raise InvalidPointError(
                f"{name} has shape {shape}; a flow starts at the layers of one network, so that it "
                f"needs {len(matrices[-1])} columns: layers[{place - 1}], which acts before it, "
                f"has shape {matrices[-1].shape}."
            )
        matrix, dtype = as_matrices(layer, shape, name)
        matrices.append(matrix)
        dtypes.append(dtype)
    chain = chain_of((matrices[0].shape[1], *[len(matrix) for matrix in matrices]))
    return chain.gathered(matrices), chain, np.result_type(*dtypes)


def released(layers: Array, chain: Chain, dtype: DType) -> Layers:
    """Return layers at all times: an array if all widths are equal, else a tuple of each."""
    if chain.is_uniform:
        return layers.astype(dtype)
    return tuple(layer.astype(dtype) for layer in chain.layers(layers))


def checked_times(times: ArrayLike) -> Array:
    """Return times as an array, or raise unless they increase strictly."""
    shape = as_array(times, "times").shape
    if len(shape) != 1 or shape[0] == 0:
        raise ValueError(f"times has shape {shape}; a list of one or more times is needed.")
    array, _ = as_matrices(times, shape, "times")
    wrong = np.diff(array) <= 0
    if wrong.any():
        k = int(np.argmax(wrong))
        raise ValueError(
            f"times must increase from each to the next, but times[{k + 1}] = {array[k + 1]:g} "
            f"follows {array[k]:g}. Sort them and remove repeated ones."
        )
    return array


def integrate(
    rate: Callable[[float, Array], Array], start: Array, times: Array, tolerance: float
) -> tuple[Array, int]:
    """Integrate ``y' = rate(t, y)`` by DOP853; return ``(n_times, n)`` values and evaluations."""
    if times.size < 2:
        return np.repeat(start[None], times.size, axis=0), 0
    tolerance = real("tolerance", tolerance, "positive and finite")
    options = {"method": "DOP853", "t_eval": times, "rtol": tolerance}
    options["atol"] = 0.01 * tolerance * (np.abs(start).max() or 1.0)
    try:
        # Steps that go too far are tried again, and end the flow where none is short enough.
        with np.errstate(over="ignore", invalid="ignore"):
            result = solve_ivp(rate, (times[0], times[-1]), start, **options)
    except np.linalg.LinAlgError as error:
        raise ConvergenceError("The flow met a singular matrix, or left all bounds.") from error
    if not result.success:
        reached = result.t[-1] if len(result.t) else times[0]
        raise ConvergenceError(
            f"The flow stopped after t = {reached:.6g}, the last time asked for that it reached: "
            f"its steps became too small, as where it leaves all bounds. Ask for earlier times."
        )
    return result.y.T, int(result.nfev)


def _checked(gradient: Gradient, point: Array) -> Array:
    """Evaluate a gradient; a wrong shape must not broadcast silently."""
    value = np.asarray(function("gradient", gradient)(point), dtype=float)
    if value.shape != point.shape:
        raise ValueError(
            f"The gradient has shape {value.shape} at a point of shape {point.shape}; it must be "
            f"the matrix of partial derivatives by the entries of X."
        )
    return value


def _check_start(gradient: Gradient, point: Array, energy: Energy | None) -> None:
    """Refuse a gradient that is not finite where a flow starts: no step would be short enough."""
    value = _checked(gradient, point)
    if energy is not None:
        function("energy", energy)
    if not np.isfinite(value).all():
        raise ValueError(
            f"The gradient is not finite where the flow starts: {value[~np.isfinite(value)][0]}. "
            f"The loss is not smooth there."
        )


def _energies(energy: Energy | None, points: Array) -> Array | None:
    return None if energy is None else np.array([float(energy(point)) for point in points])
