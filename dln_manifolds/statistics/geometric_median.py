"""Geometric medians of points, as an estimator in the manner of scikit-learn."""

from typing import Self

import numpy as np

from dln_manifolds.geodesics import Points
from dln_manifolds.numerics.arrays import Array, ArrayLike
from dln_manifolds.statistics.center import CenterEstimator
from dln_manifolds.statistics.passes import Pair, State, goal_of, reach

# Distance from a sample, relative to the mean of all, at which it is asked whether it is a median.
_NEAR = 0.2


class GeometricMedian(CenterEstimator):
    r"""Weighted geometric median: a point for which ``sum_k w_k d(X, Y_k)`` is least.

    There ``sum_k w_k log_X(Y_k) / d_k = 0``, or X is a sample and the length of that sum over the
    others is at most its weight. Few samples that lie far away hardly move it. By Weiszfeld's steps
    (Fletcher, Venkatasubramanian and Joshi 2009), as the first Hessian of a limited-memory
    quasi-Newton method; samples that come near are tried by the condition above (Vardi and Zhang
    2000).

    Parameters
    ----------
    space : DLNObservableManifold or BalancedManifold
        The manifold, with its metric.
    tolerance : float
        Length of the weighted mean of the unit vectors towards the samples, at the answer.
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
        Number of starts: the first, and samples, as for :class:`FrechetMean`.

    Raises
    ------
    TypeError, ValueError
        For a space that is none of these, or has no metric.

    Attributes
    ----------
    estimate_ : ndarray, shape=[*point_shape]
        The median.
    mean_distance_ : float
        Weighted mean of the distances to it, in Frobenius norm of the layers.
    gradient_norm_ : float
        Length of the weighted mean of unit vectors at it, less the weight of samples that are it.
    n_iter_ : int
        Steps taken.
    local_ : bool
        Whether other medians may exist, as for :class:`FrechetMean`.

    Examples
    --------
    >>> import numpy as np
    >>> from dln_manifolds import DLNObservableManifold
    >>> from dln_manifolds.statistics import GeometricMedian
    >>> space = DLNObservableManifold(n=2, depth=2)
    >>> samples = [np.eye(2), 4 * np.eye(2), 100 * np.eye(2)]
    >>> GeometricMedian(space).fit(samples).estimate_
    array([[4., 0.],
           [0., 4.]])
    """

    power = 1

    def fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Find the median of points, ``shape=[n_samples, *point_shape]``.

        Arguments, errors and warnings are those of :meth:`FrechetMean.fit`.
        """
        at, samples, weights = self._checked(X, y, sample_weight)
        state = self._best(samples, weights)
        weight = float(weights[state.lengths == 0].sum())  # of a sample that is the median
        self.estimate_, self.mean_distance_ = at.cast(state.point), state.variance
        self.gradient_norm_ = max(state.norm - weight, 0.0)
        self.local_ = state.farthest > reach(state.frame)
        self._judge(goal_of(state, self.tolerance, self.power), "unit vectors", stacklevel=3)
        self._keep(samples)
        return self

    def _reached(self, point: Array, samples: Points, weights: Array) -> State:
        """Return a median."""
        memory: list[Pair] = []
        fine, tried = self.space.metric.tolerance, np.zeros(len(weights), dtype=bool)
        state = self._at(point, samples, weights, fine)
        while self.n_iter_ < self.max_iter:
            nearest = int(np.where(tried, np.inf, state.lengths).argmin())
            if not tried[nearest] and state.lengths[nearest] <= _NEAR * state.variance:
                tried[nearest] = True
                there = self._at(samples.value[nearest], samples, weights, fine)
                weight = float(weights[there.lengths == 0].sum())
                if there.norm <= weight:
                    return there
                if there.variance <= state.variance:
                    # as far as the weight of the sample allows
                    step = (1 - weight / there.norm) * there.pace * there.step
                    point = self.space.metric.exp(step, there.point)
                    state = self._at(point, samples, weights, fine)
                    memory.clear()
            if state.norm <= goal_of(state, self.tolerance, self.power):
                break
            self.n_iter_ += 1
            after = self._moved(state, samples, weights, memory, fine)
            self._told(0)
            if after is None and not memory:
                break
            if after is None:
                memory.clear()
            else:
                state = after
        return state
