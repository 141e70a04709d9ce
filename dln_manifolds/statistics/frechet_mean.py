"""Fréchet means of points, as an estimator in the manner of scikit-learn."""

from typing import Self

import numpy as np

from dln_manifolds.geodesics import Points
from dln_manifolds.numerics.arrays import Array, ArrayLike
from dln_manifolds.statistics.center import CenterEstimator
from dln_manifolds.statistics.joint_mean import joint_mean
from dln_manifolds.statistics.passes import (
    FAILED,
    ROUNDING,
    Pair,
    State,
    confirmed,
    goal_of,
    reach,
    size_at,
)
from dln_manifolds.statistics.whitened import common_polar_factor, whitened_mean

# Samples of which a part comes first, and how many these are.
_MANY, _PART = 4000, 1000
# Tolerance of logarithms, and the gradient relative to the distances, before the last steps.
_ROUGH, _ROUGH_GOAL = 1e-6, 1e-4


class FrechetMean(CenterEstimator):
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
        Whether `fit` starts from the last estimate, if that is of the same space and component.
    n_jobs : int
        Workers of joblib for the passes over the samples, -1 for all processors.
    progress : bool or callable
        True for a bar, or a function of the number of steps done and of the most there may be.
    n_init : int
        Number of starts, for samples far apart: the first, and samples drawn at random, always the
        same ones. The result of least variance is kept, which is still a local one.

    Raises
    ------
    TypeError, ValueError
        For a space that is none of these, or has no metric.

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
        Whether there may be other means, so that it is worth to start elsewhere too: a sample is so
        far away that the shortest way to it may be another one from elsewhere. By a rule of thumb,
        0.3 of the size of the layers at moderate depth: false is no proof that there is one only.

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

    def fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Find the mean of points, ``shape=[n_samples, *point_shape]``.

        Weights are not negative, and those of samples with weight zero leave them out; ``y`` is
        there for scikit-learn.

        Raises
        ------
        InvalidPointError, DisconnectedPointsError
            For samples that are none or no points, or lie in different components.
        ValueError
            For weights that are negative, not finite, all zero or too few, and ``n_jobs=0``.
        ConvergenceError, IncompleteGeodesicError
            If a geodesic from the first point to a sample is not found, from any start.

        Warns
        -----
        GeodesicWarning
            If the tolerance is not reached.
        """
        at, samples, weights = self._checked(X, y, sample_weight)
        if not self._fit_whitened(samples, weights):
            state = self._best(samples, weights)
            self.estimate_, self.variance_ = state.point, state.variance
            self.gradient_norm_ = state.norm
            self.local_ = state.farthest > reach(state.frame)
            self._judge(goal_of(state, self.tolerance), "logs", stacklevel=3)
        self.estimate_ = at.cast(self.estimate_)
        self._keep(samples)
        return self

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
        self._judge(self.tolerance * float(np.sqrt(found.variance)) + rounding, "logs")
        return True

    def _reached(self, point: Array, samples: Points, weights: Array) -> State:
        """Fit by passes over the samples."""
        memory: list[Pair] = []
        if len(weights) > _MANY:
            rows = np.random.default_rng(0).choice(len(weights), _PART, replace=False)
            rows.sort()
            share = weights[rows] / weights[rows].sum()
            point = self._approached(point, samples.take(rows), share, memory, _ROUGH)
        state = self._jointly(point, samples, weights, memory)
        if state is None:
            if len(weights) > 1 and not samples.frame.layered:
                point = self._approached(point, samples, weights, memory, _ROUGH_GOAL)
            fine = self.space.metric.tolerance
            state = self._at(point, samples, weights, fine)
            state = self._descend(state, samples, weights, memory, fine, self.tolerance)
        return state

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
        except FAILED:
            memory.clear()
            self.n_iter_ = before
            return None

    def _is_near(self, point: Array, samples: Points, weights: Array) -> bool:
        """Whether rough logarithms at a point are such as not to need Newton's method."""
        try:
            state = self._at(point, samples, weights, _ROUGH)
        except FAILED:
            return False
        return state.norm <= goal_of(state, _ROUGH_GOAL)

    def _approached(
        self, point: Array, samples: Points, weights: Array, memory: list[Pair], goal: float
    ) -> Array:
        """Return a point nearer the mean by rough logarithms, or the same where these fail."""
        try:
            state = self._at(point, samples, weights, _ROUGH)
            return self._descend(state, samples, weights, memory, _ROUGH, goal).point
        except FAILED:
            return point  # the full tolerance decides
