"""What estimators of a center of samples share: where they start, and the steps to it."""

import abc
import copy
import warnings
from collections.abc import Callable

import numpy as np

from dln_manifolds.checks import At
from dln_manifolds.errors import GeodesicWarning
from dln_manifolds.geodesics import GeodesicSolution, Points
from dln_manifolds.geometry.stratum import component
from dln_manifolds.numerics.arguments import whole
from dln_manifolds.numerics.arrays import Array, ArrayLike
from dln_manifolds.numerics.matrices import size_of
from dln_manifolds.numerics.progress import Progress, told
from dln_manifolds.statistics.estimator import Estimator, Samples, checked_start, connected
from dln_manifolds.statistics.passes import (
    FAILED,
    Pair,
    Space,
    State,
    direction,
    evaluated,
    goal_of,
)

_MEMORY, _MAX_HALVINGS = 10, 8


class CenterEstimator(Estimator, abc.ABC):
    """A point near all samples, as an estimator in the manner of scikit-learn.

    It makes ``sum_k w_k d_k^p`` least for a ``power`` p.
    """

    power = 2

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
        n_init: int = 1,
    ) -> None:
        self.estimate_: Array
        self.gradient_norm_: float
        self.n_iter_: int
        self._advance: Callable[[int], None]
        self._shown: int
        self.space, self.tolerance, self.max_iter = space, tolerance, max_iter
        self.init_point, self.warm_start = init_point, warm_start
        self.n_jobs, self.progress, self.n_init = n_jobs, progress, n_init
        self._check_arguments()

    def _checked(
        self, X: ArrayLike, y: object, sample_weight: ArrayLike | None
    ) -> tuple[At, Points, Array]:
        """Check the arguments of `fit`; return also samples with weights that add up to one."""
        self._check_arguments()
        whole("n_init", self.n_init)
        if y is not None and sample_weight is None:
            raise ValueError(
                "y has no use here. Weights go by name: fit(X, sample_weight=weights)."
            )
        stratum = self.space.stratum
        at, _, samples, weights = Samples.checked(stratum, X, sample_weight, "X", "center")
        if self.init_point is not None:
            checked_start(stratum, self.init_point, "init_point", samples)
        return at, samples, weights

    def _keep(self, samples: Points) -> None:
        """Keep what was fitted, and on which space."""
        self.space_, self._fitted = copy.deepcopy(self.space), samples.value
        self._found: GeodesicSolution | None = None

    @property
    def solution_(self) -> GeodesicSolution:
        """Geodesics from the mean to the samples of weight not zero; solved when asked for."""
        if self._found is None:
            self._found = self.space_.metric.solve_log(self._fitted, self.estimate_)
        return self._found

    @property
    def _given(self) -> bool:
        """Whether the first point is not of our own choice."""
        return self.init_point is not None or self._resumes

    @abc.abstractmethod
    def _reached(self, point: Array, samples: Points, weights: Array) -> State:
        """Return what is found from a first point."""

    def _best(self, samples: Points, weights: Array) -> State:
        """Return the best of what is found from the first point and from some of the samples."""
        drawn = np.random.default_rng(0).permutation(len(weights))[: self.n_init - 1]
        starts = [self._start(samples, weights), *samples.value[drawn]]
        found, failure = list[tuple[float, int, State]](), None
        with told(self.progress, len(starts) * self.max_iter) as self._advance:
            for point in starts:
                self.n_iter_, self._shown = 0, 0
                try:
                    state = self._reached(point, samples, weights)
                except FAILED as error:
                    failure = failure or error
                else:
                    found.append((state.variance, self.n_iter_, state))
        del self._advance  # estimators are pickled
        if failure is not None and not found:
            raise failure
        _, self.n_iter_, best = min(found, key=lambda each: each[0])
        return best

    def _told(self, steps: int) -> None:
        done = self.n_iter_ + steps
        self._advance(done - self._shown)
        self._shown = done

    def _judge(self, goal: float, what: str, stacklevel: int = 4) -> None:
        """Warn if the gradient is not as short as was asked for."""
        if not self.gradient_norm_ <= goal:
            warnings.warn(
                f"The mean of {what} has length {self.gradient_norm_:.2g} after {self.n_iter_} "
                f"steps, more than {goal:.2g}. Raise max_iter, or start elsewhere by init_point.",
                GeodesicWarning,
                stacklevel=stacklevel,
            )

    def _start(self, points: Points, weights: Array) -> Array:
        """Return a first point: the mean of the entries, or else the sample nearest to it."""
        samples, stratum = points.value, self.space.stratum
        if self._resumes:
            last = np.asarray(self.estimate_, dtype=np.float64)
            if connected(stratum.frame(last), points):
                return last
        if self.init_point is not None:
            return At(stratum, self.init_point, "init_point").point
        if len(samples) == 1:
            return np.asarray(samples[0])
        mean = np.tensordot(weights, samples, 1)
        nearest: Array = samples[size_of(samples - mean).argmin()]
        near, frame = stratum.frame(nearest), None
        if not near.layered:
            mean = np.asarray(self.space.projection(mean))
            frame = stratum.frame(mean)
        usable = frame is not None and (component(frame) == component(near)).all()
        if usable and frame is not None:
            usable = bool(frame.values[-1] > 0.1 * near.values[-1])
        return mean if usable else nearest

    def _at(self, point: Array, samples: Points, weights: Array, tolerance: float) -> State:
        """Solve for the geodesics from a point."""
        return evaluated(
            self.space, point, samples, weights, tolerance, self.n_jobs, power=self.power
        )

    def _descend(
        self,
        state: State,
        samples: Points,
        weights: Array,
        memory: list[Pair],
        tolerance: float,
        goal: float,
    ) -> State:
        """Take steps from a point until the gradient is short."""
        while state.norm > goal_of(state, goal, self.power) and self.n_iter_ < self.max_iter:
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
        metric, stratum = self.space.metric, self.space.stratum
        step = direction(self.space, state.point, state.step, memory, state.pace)
        for _ in range(_MAX_HALVINGS):
            try:
                point = metric.exp(step, state.point)
                after = self._at(point, samples, weights, tolerance)
            except FAILED:
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
