"""What estimators of a center of samples share: parameters, checks of samples, steps to it."""

import inspect
import warnings
from collections.abc import Callable
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
from dln_manifolds.geometry.stratum import Stratum, component
from dln_manifolds.numerics.arrays import Array, ArrayLike
from dln_manifolds.numerics.progress import Progress
from dln_manifolds.statistics.passes import Pair, Space, State, direction, evaluated, goal_of

_MEMORY, _MAX_HALVINGS = 10, 8


class Estimator:
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
    ) -> None:
        self.estimate_: Array
        self.gradient_norm_: float
        self.n_iter_: int
        self._advance: Callable[[int], None]
        self._shown: int
        self.space, self.tolerance, self.max_iter = space, tolerance, max_iter
        self.init_point, self.warm_start = init_point, warm_start
        self.n_jobs, self.progress = n_jobs, progress
        self._require_space()

    def __repr__(self) -> str:
        """Return the call with the arguments that are not their defaults."""
        given = [repr(self.space)]
        for name, parameter in inspect.signature(type(self)).parameters.items():
            value = getattr(self, name)
            if isinstance(value, np.ndarray | list | tuple):
                given.append(f"{name}=<array {np.shape(value)}>")
            elif name != "space" and value != parameter.default:
                given.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(given)})"

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

    def _require_space(self) -> None:
        name = type(self).__name__
        if not isinstance(getattr(self.space, "stratum", None), Stratum):
            raise TypeError(
                f"space is {self.space!r}; give a DLNObservableManifold or BalancedManifold, as in "
                f"{name}(DLNObservableManifold(n=3, depth=4))."
            )
        if not hasattr(self.space, "metric"):
            raise ValueError(f"space has no metric; {name} needs one: space.equip_with_metric().")

    def _checked(
        self, X: ArrayLike, y: object, sample_weight: ArrayLike | None
    ) -> tuple[At, Points, Array]:
        """Check the arguments of `fit`; return also samples with weights that add up to one."""
        self._require_space()
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
                f"{int(rows[0])}: the signs of det differ, and nothing lies between them."
            )
        if self.init_point is not None:
            given = At(self.space.stratum, self.init_point, "init_point")
            if (component(given.frame) != signs[0]).any():
                raise DisconnectedPointsError(
                    "init_point lies in another component than the samples: the signs of det "
                    "differ. Give one of the samples, or none."
                )
        self._fitted = samples.value
        self._found: GeodesicSolution | None = None
        return at, samples, weights

    def _samples(self, points: ArrayLike) -> At:
        given = as_array(points, "X")
        if given.ndim and len(given) == 0:
            raise InvalidPointError("X is empty; one sample at least is needed.")
        at = At(self.space.stratum, points, "X")
        if len(at.batch) != 1:
            raise InvalidPointError(
                f"X has shape {at.point.shape}; one axis of samples is needed before the last "
                f"{len(self.space.stratum.point_shape)}."
            )
        return at

    @property
    def solution_(self) -> GeodesicSolution:
        """Geodesics from the mean to the samples of weight not zero; solved when asked for."""
        if self._found is None:
            self._found = self.space.metric.solve_log(self._fitted, self.estimate_)
        return self._found

    @property
    def _given(self) -> bool:
        """Whether the first point is not of our own choice."""
        return self.init_point is not None or (self.warm_start and hasattr(self, "estimate_"))

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
        step = direction(self.space, state, memory)
        for _ in range(_MAX_HALVINGS):
            try:
                point = metric.exp(step, state.point)
                after = self._at(point, samples, weights, tolerance)
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
