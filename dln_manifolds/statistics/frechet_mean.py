"""Fréchet means of points, as an estimator in the manner of scikit-learn."""

import inspect
import warnings
from typing import Self

import numpy as np

from dln_manifolds.checks import At, as_array
from dln_manifolds.errors import (
    ConvergenceError,
    DisconnectedPointsError,
    GeodesicWarning,
    IncompleteGeodesicError,
    InvalidPointError,
)
from dln_manifolds.geodesics import GeodesicSolution, Points
from dln_manifolds.geometry.stratum import component
from dln_manifolds.numerics.arrays import Array, ArrayLike
from dln_manifolds.numerics.progress import Progress, told
from dln_manifolds.statistics.joint_mean import joint_mean
from dln_manifolds.statistics.passes import (
    ROUNDING,
    Pair,
    Space,
    State,
    confirmed,
    direction,
    evaluated,
    goal_of,
    reach,
    size_at,
)
from dln_manifolds.statistics.whitened import common_polar_factor, whitened_mean

# Samples of which a part comes first, and how many these are.
_MANY, _PART = 4000, 1000
# Tolerance of logarithms, and the gradient relative to the distances, before the last steps.
_ROUGH, _ROUGH_GOAL = 1e-6, 1e-4
_MEMORY, _MAX_HALVINGS = 10, 8


class FrechetMean:
    r"""Weighted Fréchet mean: a point where ``sum_k w_k log_X(Y_k) = 0``.

    At N = 2 the mean of matrices with equal polar factors, positive definite ones among them, by
    Newton's method in whitened coordinates (see :mod:`dln_manifolds.statistics.whitened`). Others
    by a limited-memory quasi-Newton method on the mean of logarithms, solved in blocks; some
    hundreds of square matrices of full rank, of finite depth, come first by Newton's method on the
    mean and all paths together (:mod:`dln_manifolds.statistics.joint`), and the flow confirms what
    that has found, or else the logarithms. Of more than 4000 samples a random part comes first,
    whose Hessian is what the passes start with. All is free of the scale of the points.

    Parameters
    ----------
    space : DLNObservableManifold or BalancedManifold
        The manifold, with its metric.
    tolerance : float
        Length of the mean of logs at the answer, relative to the root mean square of distances.
    max_iter : int
        Largest number of steps.
    init_point : array-like or None
        Where to start; by default near the mean of the entries.
    warm_start : bool
        Whether `fit` starts from the last estimate.
    n_jobs : int
        Workers of joblib for the passes over the samples, -1 for all processors.
    progress : bool or callable
        True for a bar, or a function of the number of steps done and of `max_iter`.

    Attributes
    ----------
    estimate_ : ndarray, shape=[*point_shape]
        The mean.
    variance_ : float
        Weighted mean of squared distances to it.
    gradient_norm_ : float
        Length of the mean of logs at it.
    n_iter_ : int
        Steps taken.
    local_ : bool
        Whether a sample is so far from the mean that geodesics which wind otherwise may be shorter
        from elsewhere: other means may exist, and start points decide. By a rule of thumb, 0.3 of
        the size of the layers at moderate depth: false is no proof that there is one mean only.

    Examples
    --------
    >>> import numpy as np
    >>> from dln_manifolds import DLNObservableManifold
    >>> from dln_manifolds.statistics import FrechetMean
    >>> space = DLNObservableManifold(n=2, depth=2)
    >>> FrechetMean(space).fit([np.eye(2), 9 * np.eye(2)]).estimate_.round(12)
    array([[4., 0.],
           [0., 4.]])
    """

    def __init__(
        self,
        space: Space,
        *,
        tolerance: float = 1e-11,
        max_iter: int = 100,
        init_point: ArrayLike | None = None,
        warm_start: bool = False,
        n_jobs: int = 1,
        progress: Progress = False,
    ) -> None:
        self.estimate_: Array
        self.space, self.tolerance, self.max_iter = space, tolerance, max_iter
        self.init_point, self.warm_start = init_point, warm_start
        self.n_jobs, self.progress = n_jobs, progress

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """Return the parameters by name; ``deep`` is there for scikit-learn."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: object) -> Self:
        """Set parameters by name."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"{name} is no parameter; there are {', '.join(known)}.")
            setattr(self, name, value)
        return self

    def fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Find the mean of points, ``shape=[n_samples, *point_shape]``.

        Weights are not negative, and those of samples with weight zero leave them out; ``y`` is
        there for scikit-learn.

        Raises
        ------
        InvalidPointError, DisconnectedPointsError
            For samples that are none or no points, or lie in different components.
        ConvergenceError, IncompleteGeodesicError
            If a geodesic from the first point to a sample is not found.

        Warns
        -----
        GeodesicWarning
            If the tolerance is not reached.
        """
        if self.n_jobs == 0:
            raise ValueError("n_jobs is 0; give the number of workers, or -1 for all processors.")
        if y is not None and sample_weight is None:
            raise ValueError(
                "y has no use here. Weights go by name: fit(X, sample_weight=weights)."
            )
        at = self._samples(X)
        weights = _checked_weights(sample_weight, len(at.point))
        rows = np.flatnonzero(weights)
        samples = Points(at.point[rows], at.frame.take(rows))
        weights = weights[rows] / weights[rows].sum()
        signs = component(samples.frame)
        apart = np.argwhere(signs != signs[:1])
        if apart.size:
            raise DisconnectedPointsError(
                f"X: number {int(rows[apart[0][0]])} lies in another component than number "
                f"{int(rows[0])}: the signs of det differ, and no mean exists."
            )
        if self.init_point is not None:
            given = At(self.space.stratum, self.init_point, "init_point")
            if component(given.frame) != signs[0]:
                raise DisconnectedPointsError(
                    "init_point lies in another component than the samples: the signs of det "
                    "differ. Give one of the samples, or none."
                )
        self._fitted = samples.value
        self._found: GeodesicSolution | None = None
        if not self._fit_whitened(samples, weights):
            with told(self.progress, self.max_iter) as self._advance:
                self._fit_passes(samples, weights)
            del self._advance  # estimators are pickled
        self.estimate_ = at.cast(self.estimate_)
        return self

    @property
    def solution_(self) -> GeodesicSolution:
        """Geodesics from the mean to the samples of weight not zero; solved when asked for."""
        if self._found is None:
            self._found = self.space.metric.solve_log(self._fitted, self.estimate_)
        return self._found

    def _samples(self, points: ArrayLike) -> At:
        given = as_array(points, "X")
        if given.ndim and len(given) == 0:
            raise InvalidPointError("X is empty; a mean needs one sample at least.")
        at = At(self.space.stratum, points, "X")
        if len(at.batch) != 1:
            raise InvalidPointError(
                f"X has shape {at.point.shape}; one axis of samples is needed before the last "
                f"{len(self.space.stratum.point_shape)}."
            )
        return at

    def _fit_whitened(self, samples: Points, weights: Array) -> bool:
        """Fit matrices with equal polar factors at N = 2; return whether these are such."""
        frame = samples.frame
        if frame.layered or frame.depth != 2 or not self.space.stratum.is_square:
            return False
        factor = common_polar_factor(samples.value)
        if factor is None:
            return False
        # The rounding of roots is what can be reached.
        found = whitened_mean(samples.value, weights, factor, 1e-2 * self.tolerance, self.max_iter)
        self.estimate_, self.variance_, self.gradient_norm_ = found[:3]
        self.n_iter_, self.local_ = found.n_iter, False
        rounding = ROUNDING * size_at(self.space.stratum.frame(found.point))
        self._judge(self.tolerance * float(np.sqrt(found.variance)) + rounding)
        return True

    def _fit_passes(self, samples: Points, weights: Array) -> None:
        """Fit by passes over the samples."""
        memory: list[Pair] = []
        point, self.n_iter_, self._shown = self._start(samples.value, weights), 0, 0
        if len(weights) > _MANY:
            rows = np.random.default_rng(0).choice(len(weights), _PART, replace=False)
            rows.sort()
            part = Points(samples.value[rows], samples.frame.take(rows))
            share = weights[rows] / weights[rows].sum()
            point = self._approached(point, part, share, memory, _ROUGH)
        state = self._jointly(point, samples, weights, memory)
        if state is None:
            if len(weights) > 1 and not samples.frame.layered:
                point = self._approached(point, samples, weights, memory, _ROUGH_GOAL)
            fine = self.space.metric.tolerance
            state = evaluated(self.space, point, samples, weights, fine, self.n_jobs)
            state = self._descend(state, samples, weights, memory, fine, self.tolerance)
        self.estimate_, self.variance_ = state.point, state.variance
        self.gradient_norm_ = state.norm
        self.local_ = state.farthest > reach(state.frame)
        self._judge(goal_of(state, self.tolerance))

    def _jointly(
        self, point: Array, samples: Points, weights: Array, memory: list[Pair]
    ) -> State | None:
        """Start from the mean that Newton's method on all paths finds, or return None."""
        if self._given and self._is_near(point, samples, weights):
            return None
        fine = self.space.metric.tolerance
        found = joint_mean(point, samples, weights, self.max_iter, self._told, fine)
        if found is None:
            return None
        before, (left, steps) = self.n_iter_, found
        self.n_iter_ += steps
        try:
            state = confirmed(self.space, left, samples, weights, self.n_jobs)
            return self._descend(state, samples, weights, memory, fine, self.tolerance)
        except (ConvergenceError, IncompleteGeodesicError, DisconnectedPointsError):
            memory.clear()
            self.n_iter_ = before
            return None

    @property
    def _given(self) -> bool:
        """Whether the first point is not of our own choice."""
        return self.init_point is not None or (self.warm_start and hasattr(self, "estimate_"))

    def _is_near(self, point: Array, samples: Points, weights: Array) -> bool:
        """Whether rough logarithms at a point are such as not to need Newton's method."""
        try:
            state = evaluated(self.space, point, samples, weights, _ROUGH, self.n_jobs)
        except (ConvergenceError, IncompleteGeodesicError, DisconnectedPointsError):
            return False
        return state.norm <= goal_of(state, _ROUGH_GOAL)

    def _told(self, steps: int) -> None:
        done = self.n_iter_ + steps
        self._advance(done - self._shown)
        self._shown = done

    def _approached(
        self, point: Array, samples: Points, weights: Array, memory: list[Pair], goal: float
    ) -> Array:
        """Return a point nearer the mean by rough logarithms, or the same where these fail."""
        try:
            state = evaluated(self.space, point, samples, weights, _ROUGH, self.n_jobs)
            return self._descend(state, samples, weights, memory, _ROUGH, goal).point
        except (ConvergenceError, IncompleteGeodesicError):
            return point  # the full tolerance decides

    def _judge(self, goal: float) -> None:
        """Warn if the mean is not what was asked for."""
        if not self.gradient_norm_ <= goal:
            warnings.warn(
                f"The mean of logs has length {self.gradient_norm_:.2g} after {self.n_iter_} "
                f"steps, more than {goal:.2g}. Raise max_iter, or start elsewhere by init_point.",
                GeodesicWarning,
                stacklevel=4,
            )

    def _start(self, samples: Array, weights: Array) -> Array:
        """Return a first point: the mean of the entries, or else the sample nearest to it."""
        if self.warm_start and hasattr(self, "estimate_"):
            return np.asarray(self.estimate_, dtype=np.float64)
        if self.init_point is not None:
            return At(self.space.stratum, self.init_point, "init_point").point
        if len(samples) == 1:
            return samples[0]
        mean, stratum = np.tensordot(weights, samples, 1), self.space.stratum
        apart = np.sum((samples - mean).reshape(len(samples), -1) ** 2, axis=1)
        nearest: Array = samples[apart.argmin()]
        near, frame = stratum.frame(nearest), None
        if not near.layered:
            mean = np.asarray(self.space.projection(mean))
            frame = stratum.frame(mean)
        usable = frame is not None and (component(frame) == component(near)).all()
        if usable and frame is not None:
            usable = bool(frame.values[-1] > 0.1 * near.values[-1])
        return mean if usable else nearest

    def _descend(
        self,
        state: State,
        samples: Points,
        weights: Array,
        memory: list[Pair],
        tolerance: float,
        goal: float,
    ) -> State:
        """Take steps from a point until the mean of logs is short."""
        while state.norm > goal_of(state, goal) and self.n_iter_ < self.max_iter:
            self.n_iter_ += 1
            after = self._moved(state, samples, weights, memory, tolerance)
            self._told(0)
            if after is None:
                if not memory:
                    break
                memory.clear()
                continue
            state = after
        return state

    def _moved(
        self,
        state: State,
        samples: Points,
        weights: Array,
        memory: list[Pair],
        tolerance: float,
    ) -> State | None:
        """Return the next point, and keep what its step tells of the Hessian."""
        space, metric, stratum = self.space, self.space.metric, self.space.stratum
        step = direction(self.space, state, memory)
        for _ in range(_MAX_HALVINGS):
            try:
                point = metric.exp(step, state.point)
                after = evaluated(space, point, samples, weights, tolerance, self.n_jobs)
            except (IncompleteGeodesicError, ConvergenceError, DisconnectedPointsError):
                step = 0.5 * step
                continue
            if after.norm < state.norm or after.variance < (1 - 1e-10) * state.variance:
                moved = [stratum.tangent_part(after.frame, x) for x in (step, state.step)]
                pairs = [
                    Pair(*(stratum.tangent_part(after.frame, x) for x in pair)) for pair in memory
                ]
                pair = Pair(moved[0], moved[1] - after.step)
                if metric.inner_product(pair.step, pair.change, point) > 0:
                    pairs.append(pair)
                memory[:] = pairs[-_MEMORY:]
                return after
            step = 0.5 * step
        return None


def _checked_weights(weights: ArrayLike | None, n_samples: int) -> Array:
    if weights is None:
        return np.ones(n_samples)
    array = np.asarray(weights, dtype=np.float64)
    if array.shape != (n_samples,):
        raise ValueError(f"sample_weight has shape {array.shape}, not ({n_samples},).")
    wrong = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
    if wrong.size:
        raise ValueError(
            f"sample_weight[{wrong[0]}] is {array[wrong[0]]}; weights are finite and >= 0."
        )
    if not array.any():
        raise ValueError("sample_weight is zero throughout; one weight at least must be positive.")
    return array / array.max()
