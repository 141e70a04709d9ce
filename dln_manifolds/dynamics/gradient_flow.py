r"""Gradient flow of a loss E(X): of the layers, and of the end-to-end matrix.

Training by gradient flow moves the layers by ``W_p' = -dE/dW_p``. It conserves the imbalances
``W_{p+1}^T W_{p+1} - W_p W_p^T``; from balanced layers, the end-to-end matrix then follows the
Riemannian gradient flow ``X' = -A_X(dE(X))`` whatever the layers are (Bah, Rauhut, Terstiege,
Westdickenberg, arXiv 1910.05505; Menon, arXiv 2411.09004, section 2).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.integrate import solve_ivp

from dln_manifolds.checks import as_array, as_matrices
from dln_manifolds.errors import ConvergenceError, InvalidPointError
from dln_manifolds.geometry.balancing import end_to_end, end_to_end_pullback, imbalance
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import apply_cometric, inner_coproduct
from dln_manifolds.numerics.arrays import Array, ArrayLike, DType
from dln_manifolds.numerics.matrices import transpose

Gradient = Callable[[Array], Array]
Energy = Callable[[Array], float]


@dataclass(frozen=True)
class GradientFlow:
    """A gradient flow at the times asked for, shape ``(n_times,)``.

    ``points`` X(t) have shape ``(n_times, n, n)``; ``layers`` W(t) of the flow upstairs,
    ``(n_times, N, n, n)``, and ``energy`` E(X(t)) are None if there are none. ``drift`` is what the
    flow should conserve, relative: upstairs the change of the imbalances beside
    ``max |W_p W_p^T|`` over the flow; downstairs the change of ``E(X(t))`` plus the integral of the
    squared speed, beside the largest energy in size, NaN without an energy. ``n_evaluations``
    counts those of the gradient.
    """

    times: Array
    points: Array
    layers: Array | None = field(repr=False)
    drift: Array
    energy: Array | None
    n_evaluations: int


def layer_gradient(layers: Array, gradient: Gradient) -> Array:
    """Return ``dE/dW_p = (W_N .. W_{p+1})^T dE(X) (W_{p-1} .. W_1)^T``, ``(..., N, n, n)``."""
    return end_to_end_pullback(layers, _checked(gradient, end_to_end(layers)))


def flow_of_layers(
    layers: ArrayLike,
    gradient: Gradient,
    times: ArrayLike,
    *,
    energy: Energy | None = None,
    tolerance: float = 1e-12,
) -> GradientFlow:
    """Follow ``W_p' = -dE/dW_p``, training with infinitely small steps.

    From layers ``(N, n, n)``, balanced or not, at the first of the increasing times, by the
    Euclidean gradient ``X -> dE(X)`` of the loss; the loss ``X -> E(X)`` itself, if given, is
    reported along the flow. The tolerance of the integration (DOP853) is relative. Results are in
    single precision if the start is.

    Raises `InvalidPointError` or ValueError if these are not layers of one network, or the times do
    not increase; `ConvergenceError` if the integration fails, as where the loss is not bounded
    below.
    """
    start, dtype = checked_start(layers, 3, "layers")
    times = checked_times(times)

    def rate(_: float, flat: Array) -> Array:
        return -layer_gradient(flat.reshape(start.shape), gradient).ravel()

    states, n_evaluations = integrate(rate, start.ravel(), times, tolerance)
    moved = states.reshape(times.size, *start.shape)
    points = end_to_end(moved)
    change = imbalance(moved) - imbalance(start)
    size = np.linalg.norm(moved @ transpose(moved), axis=(-2, -1)).max()
    drift = np.linalg.norm(change, axis=(-2, -1)).max(axis=-1, initial=0.0) / (size or 1.0)
    cast = points.astype(dtype), moved.astype(dtype)
    return GradientFlow(times, *cast, drift, _energies(energy, points), n_evaluations)


def flow_of_point(
    point: ArrayLike,
    depth: float,
    gradient: Gradient,
    times: ArrayLike,
    *,
    energy: Energy | None = None,
    tolerance: float = 1e-12,
) -> GradientFlow:
    """Follow the Riemannian gradient flow ``X' = -A_X(dE(X))`` from X, ``(n, n)``.

    It is the flow of `flow_of_layers` from any balanced layers with the end-to-end matrix X, at any
    real depth N >= 1; arguments, result and errors as there, without layers.
    """
    start, dtype = checked_start(point, 2, "point")
    times = checked_times(times)

    def rate(_: float, state: Array) -> Array:
        position = state[:-1].reshape(start.shape)
        covector = _checked(gradient, position)
        frame = Frame.of_point(position, depth)
        # The last entry collects the squared speed, which is what the energy loses.
        speed = inner_coproduct(frame, covector, covector)
        return np.append(-apply_cometric(frame, covector), speed)

    states, n_evaluations = integrate(rate, np.append(start, 0.0), times, tolerance)
    points = states[:, :-1].reshape(times.size, *start.shape)
    energies = _energies(energy, points)
    drift = np.full(times.shape, np.nan)
    if energies is not None:
        drift = np.abs(energies + states[:, -1] - energies[0]) / (np.abs(energies).max() or 1.0)
    return GradientFlow(times, points.astype(dtype), None, drift, energies, n_evaluations)


def checked_start(value: ArrayLike, ndim: int, name: str) -> tuple[Array, DType]:
    """Return one square matrix, or the layers of one network, and the dtype of results."""
    shape = as_array(value, name).shape
    if len(shape) != ndim or shape[-1] != shape[-2] or 0 in shape:
        wanted = "(n, n), one matrix" if ndim == 2 else "(N, n, n), the layers of one network"
        raise InvalidPointError(f"{name} has shape {shape}; a flow starts at {wanted}.")
    return as_matrices(value, shape, name)


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
    options = {"method": "DOP853", "t_eval": times, "rtol": tolerance}
    options["atol"] = 0.01 * tolerance * (np.abs(start).max() or 1.0)
    try:
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
    value = np.asarray(gradient(point), dtype=float)
    if value.shape != point.shape:
        raise ValueError(
            f"The gradient has shape {value.shape} at a point of shape {point.shape}; it must be "
            f"the matrix of partial derivatives by the entries of X."
        )
    return value


def _energies(energy: Energy | None, points: Array) -> Array | None:
    return None if energy is None else np.array([float(energy(point)) for point in points])
