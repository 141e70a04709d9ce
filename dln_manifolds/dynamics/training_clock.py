r"""The distance as a clock: how long balanced training took at least, from checkpoints alone.

Gradient flow of balanced layers loses ``-dE/dt = |X'|_g^2``, so by Cauchy and Schwarz the way from
X_0 to X_1 takes at least ``d(X_0, X_1)^2 / (E_0 - E_1)`` (ours; speed limits of this kind in the
Wasserstein distance of weights: Seroussi et al., Nature Communications 14, 2023). Time is learning
rate times steps. The bound holds whatever happened in between, and a run that beats it was no
balanced plain gradient descent.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from dln_manifolds.checks import as_array, as_matrices, checked_point
from dln_manifolds.dynamics.gradient_flow import checked_times
from dln_manifolds.errors import InvalidPointError
from dln_manifolds.geodesics import Points, solve_log, system_of_matrices
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.stratum import MatrixStratum, component
from dln_manifolds.numerics.arguments import real
from dln_manifolds.numerics.arrays import Array, ArrayLike

_TOLERANCE = 1e-12


class Verdict(Enum):
    """What checkpoints say of the training between them; ``.message`` is one sentence."""

    CONSISTENT = "consistent with balanced plain gradient descent"
    CHANGED_SIGN = "not balanced: det X changed its sign, which balanced gradient flow never does"
    CLIMBED = "not plain gradient descent: the loss rose"
    TOO_FAST = "not balanced plain gradient descent: it was faster than the distance allows"

    @property
    def message(self) -> str:
        """One sentence."""
        return f"Training is {self.value}."


@dataclass(frozen=True)
class TrainingClock:
    r"""What checkpoints of one training run say about it; all arrays ``(n_checkpoints - 1,)``.

    Attributes
    ----------
    lengths : ndarray
        Geodesic distances between successive checkpoints, in Frobenius norm of the layers; infinite
        between determinants of opposite signs.
    lower_bounds : ndarray
        ``d^2 / (E_k - E_{k+1})``: the least time of each segment. Infinite where the loss did not
        fall although X moved.
    ratios : ndarray
        Least time over time taken; NaN if the times or their unit are not known. Balanced gradient
        descent has at most one, up to its step size.
    least_time : float
        Lower bound of the whole time, the sum of those of the segments.
    verdict : Verdict
        The first objection to balanced plain gradient descent, or none. Where times are not known,
        it rests on the losses and the signs of det X alone.
    segment : int or None
        The first segment that it is about.
    moved : float
        How far the layers moved, beside their norm at the start: ``d(X_0, X_T) / |W_0|``, with
        ``|W_0|^2 = N sum s^(2/N)``. Small values are the lazy regime, large ones the rich. NaN at
        infinite depth.
    depth : float
        The depth whose metric measures.
    depth_misfits : dict
        For each depth in question, how far ``d^2 / (dt dE)`` is from one, or constant if the unit
        of time is not known: the median or standard deviation of its logarithm's size.
    """

    lengths: Array
    lower_bounds: Array
    ratios: Array
    least_time: float
    verdict: Verdict
    segment: int | None
    moved: float
    depth: float
    depth_misfits: dict[float, float] = field(repr=False)

    @property
    def fitted_depth(self) -> float | None:
        """The depth in question that fits best; None if none was asked about or none can be."""
        known = {depth: misfit for depth, misfit in self.depth_misfits.items() if misfit < np.inf}
        return min(known, key=lambda depth: known[depth]) if known else None

    def __str__(self) -> str:
        """Return a table of the segments, and what they say together."""
        where = "" if self.segment is None else f" (from checkpoint {self.segment} to the next)"
        rows = ["checkpoints    distance  least time    of time"]
        for k, numbers in enumerate(zip(self.lengths, self.lower_bounds, self.ratios, strict=True)):
            length, bound, ratio = numbers
            rows.append(f"{k:4} to {k + 1:4} {length:11.4g} {bound:11.4g} {ratio:10.3f}")
        if self.verdict is Verdict.CONSISTENT and np.isnan(self.ratios).any():
            where = ", as far as losses and signs of det X tell: times are not known"
        rows.append(f"{self.verdict.message[:-1]}{where}.")
        if not np.isnan(self.moved):
            rows.append(f"The layers moved {self.moved:.3g} times their norm at the start.")
        if self.fitted_depth is not None:
            rows.append(f"Depth that fits best: {self.fitted_depth:g}.")
        return "\n".join(rows)


def training_clock(
    points: ArrayLike,
    losses: ArrayLike,
    times: ArrayLike | None = None,
    *,
    depth: float,
    rank: int | None = None,
    depths: float | Sequence[float] = (),
    known_unit: bool = True,
    slack: float = 0.01,
) -> TrainingClock:
    r"""Return lower bounds of training times between checkpoints, and what they say of the run.

    Parameters
    ----------
    points : array-like, shape=[n_checkpoints, m, n]
        End-to-end matrices X of the checkpoints, in order.
    losses : array-like, shape=[n_checkpoints]
        Their losses E(X): what training descends, on all the data.
    times : array-like, shape=[n_checkpoints], optional
        Learning rate times steps. Without, nothing is compared with times, and depths are fitted
        as if checkpoints were evenly spaced.
    depth : float
        Number of layers N, any real number at least 1.
    rank : int, optional
        Rank of X, where a hidden layer is narrower than both ends. The full one by default.
    depths : float or sequence of float
        Depths to compare with the data: a distance for each, and each segment. The fit is sharp
        between some 10 and 80 % of the decrease of the loss, where training is nearly geodesic.
    known_unit : bool
        Whether the unit of the times is that of learning rate times steps. If not, as with steps
        of unknown size, ratios are not reported, and depths are fitted up to a factor.
    slack : float
        How far above one a ratio may be before the verdict objects: finite steps are faster than
        gradient flow by about the learning rate times the curvature of the loss.

    Raises
    ------
    InvalidPointError, ValueError
        If there are less than two checkpoints, shapes or numbers do not fit, times do not increase,
        or a matrix has another rank.

    Examples
    --------
    >>> import numpy as np
    >>> from dln_manifolds.dynamics import flow_of_point, training_clock
    >>> loss = lambda X: 0.5 * np.sum((X - np.diag([2.0, 1.0])) ** 2)
    >>> t = np.linspace(0, 1, 4)
    >>> flow = flow_of_point(0.1 * np.eye(2), 3, lambda X: X - np.diag([2.0, 1.0]), t, energy=loss)
    >>> clock = training_clock(flow.points, flow.energy, t, depth=3)
    >>> clock.verdict.name, bool(np.all(clock.ratios <= 1))
    ('CONSISTENT', True)
    """
    shape = as_array(points, "points").shape
    if len(shape) != 3 or shape[0] < 2:
        raise InvalidPointError(
            f"points has shape {shape}; two or more end-to-end matrices are needed, (k, m, n)."
        )
    slack = real("slack", slack, "finite and not negative")
    stratum = MatrixStratum.of(shape=shape[1:], rank=rank, depth=depth)
    matrices, frame, _ = checked_point(stratum, points, "points")
    if as_array(losses, "losses").shape != shape[:1]:
        raise ValueError(
            f"losses has shape {np.shape(losses)}; one for each of {shape[0]} points is needed."
        )
    energies, precision = as_matrices(losses, shape[:1], "losses")
    asked = depths if isinstance(depths, Iterable) and not isinstance(depths, str) else [depths]
    others = [MatrixStratum.of(shape=shape[1:], rank=rank, depth=other).depth for other in asked]
    clock = np.arange(float(shape[0])) if times is None else checked_times(times)
    if clock.shape != shape[:1]:
        raise ValueError(f"times has shape {clock.shape}; one for each of {shape[0]} points.")
    known_unit = known_unit and times is not None

    lengths = _lengths(stratum, matrices, frame)
    # What rounding may hide is added: bounds stay below the truth where the loss hardly falls.
    noise = 4 * np.finfo(precision).eps * np.abs(energies).max()
    lost, taken = noise - np.diff(energies), np.diff(clock)
    bounds = _least_times(lengths, lost)
    ratios = bounds / taken if known_unit else np.full(len(taken), np.nan)
    verdict, segment = _judged(lengths, lost, ratios, slack)
    first_to_last = np.array([0, -1])
    way = _lengths(stratum, matrices[first_to_last], frame.take(first_to_last))[0]
    # At infinite depth the layers have no norm, and distances are of another unit.
    start_norm = np.sqrt(stratum.depth * np.sum(frame.values[0] ** (2 / stratum.depth)))
    moved = way / start_norm if np.isfinite(stratum.depth) else np.nan
    misfits = {other: _misfit(matrices, rank, other, lost * taken, known_unit) for other in others}
    return TrainingClock(
        lengths,
        bounds,
        ratios,
        float(bounds.sum()),
        verdict,
        segment,
        float(moved),
        stratum.depth,
        misfits,
    )


def _lengths(stratum: MatrixStratum, points: Array, frame: Frame) -> Array:
    """Return distances between successive points; a pair not solved has its lower bound."""
    if stratum.depth == 1 and stratum.is_square:
        return np.linalg.norm(np.diff(points, axis=0), axis=(-2, -1))
    signs = component(frame)
    joined = np.flatnonzero(signs[1:] == signs[:-1])
    lengths = np.full(len(points) - 1, np.inf)
    if joined.size:
        first, last = (Points(points[which], frame.take(which)) for which in (joined, joined + 1))
        system = system_of_matrices(stratum.depth, stratum.shape, stratum.rank)
        solution = solve_log(system, first, last, tolerance=_TOLERANCE, record=True)
        lengths[joined] = np.where(solution.success, solution.length, solution.lower_bound)
    return lengths


def _least_times(lengths: Array, lost: Array) -> Array:
    """Return ``d^2 / (E_0 - E_1)``, zero where nothing moved."""
    with np.errstate(divide="ignore"):
        bounds = lengths**2 / np.maximum(lost, 0.0)
    return np.where(lengths == 0, 0.0, bounds)


def _judged(lengths: Array, lost: Array, ratios: Array, slack: float) -> tuple[Verdict, int | None]:
    """Return the first objection to balanced plain descent, and its first segment."""
    objections = {
        Verdict.CHANGED_SIGN: np.isinf(lengths),
        Verdict.CLIMBED: lost < 0,
        Verdict.TOO_FAST: ratios > 1 + slack,
    }
    for verdict, where in objections.items():
        if where.any():
            return verdict, int(np.argmax(where))
    return Verdict.CONSISTENT, None


def _misfit(
    points: Array, rank: int | None, depth: float, action: Array, known_unit: bool
) -> float:
    """Return how far ``d_N^2 / (dt dE)`` is from one, or from constant, over the segments."""
    stratum = MatrixStratum.of(shape=points.shape[1:], rank=rank, depth=depth)
    lengths = _lengths(stratum, points, stratum.frame(points))
    good = np.isfinite(lengths) & (lengths > 0) & (action > 0)
    if np.count_nonzero(good) < (1 if known_unit else 2):
        return np.inf
    logarithms = np.log(lengths[good] ** 2 / action[good])
    return float(np.median(np.abs(logarithms)) if known_unit else np.std(logarithms))
