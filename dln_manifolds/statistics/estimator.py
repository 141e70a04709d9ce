"""What estimators share: parameters by name, and checks of samples and weights."""

import copy
import inspect
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Self

import numpy as np

from dln_manifolds.checks import At, as_array
from dln_manifolds.errors import DisconnectedPointsError, InvalidPointError, NotFittedError
from dln_manifolds.geodesics import Points
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.stratum import Stratum, component
from dln_manifolds.numerics.arguments import real, whole
from dln_manifolds.numerics.arrays import Array, ArrayLike
from dln_manifolds.numerics.matrices import size_of
from dln_manifolds.statistics.passes import Space
from dln_manifolds.statistics.workers import check_workers

# Sizes of layers between which distances have squares, of points as close as doubles tell apart.
_LEAST, _MOST = 1e-140, 1e150


class Estimator:
    """An estimator whose arguments are parameters, as scikit-learn has them.

    What it found belongs to ``space_``, a copy of the space when it was fitted: changes of the
    space show in the next fit.
    """

    space: Space
    space_: Space
    warm_start: bool
    tolerance: float
    max_iter: int
    n_jobs: int

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

    if not TYPE_CHECKING:  # otherwise every name would do

        def __getattr__(self, name: str) -> NoReturn:
            """Say of what `fit` finds that it is not there yet."""
            kind = type(self).__name__
            if name.endswith("_") and not name.startswith("_") and "space_" not in vars(self):
                raise NotFittedError(f"This {kind} is not fitted yet: call fit first, for {name}.")
            raise AttributeError(f"{kind!r} object has no attribute {name!r}")

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """Return the parameters by name, ``deep`` also those of the space, as ``space__depth``."""
        found = {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        if deep and hasattr(self.space, "get_params"):
            found |= {f"space__{name}": value for name, value in self.space.get_params().items()}
        return found

    def set_params(self, **params: object) -> Self:
        """Set parameters by name; for those of the space it gets a new one."""
        known, of_space = self.get_params(), dict[str, object]()
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"{name} is no parameter; there are {', '.join(known)}.")
            if name.startswith("space__"):
                of_space[name.removeprefix("space__")] = value
            else:
                setattr(self, name, value)
        if of_space:
            self.space = copy.deepcopy(self.space).set_params(**of_space)  # type: ignore[attr-defined]
        return self

    def __sklearn_tags__(self) -> object:
        """Return what scikit-learn asks of an estimator: only then is it imported."""
        from sklearn.base import BaseEstimator

        return BaseEstimator().__sklearn_tags__()

    @property
    def _resumes(self) -> bool:
        """Whether the next fit may start from the last one, on the same space."""
        fitted = "space_" in vars(self)
        return self.warm_start and fitted and repr(self.space_) == repr(self.space)

    def _check_arguments(self) -> None:
        name = type(self).__name__
        if not isinstance(getattr(self.space, "stratum", None), Stratum):
            raise TypeError(
                f"space is {self.space!r}; give a DLNObservableManifold or BalancedManifold, as in "
                f"{name}(DLNObservableManifold(n=3, depth=4))."
            )
        if not hasattr(self.space, "metric"):
            raise ValueError(f"space has no metric; {name} needs one: space.equip_with_metric().")
        real("tolerance", self.tolerance, "positive and finite")
        whole("max_iter", self.max_iter, 0)
        check_workers(self.n_jobs)


class Samples(NamedTuple):
    """Points of positive weight, by their ``rows`` among all; weights have the sum one."""

    at: At
    rows: Array
    points: Points
    weights: Array

    @classmethod
    def checked(
        cls, stratum: Stratum, points: ArrayLike, weights: ArrayLike | None, name: str, lost: str
    ) -> Self:
        """Check points along one axis, of one component: else there is none of what is ``lost``."""
        given = as_array(points, name)
        if given.ndim and len(given) == 0:
            raise InvalidPointError(f"{name} is empty; one sample at least is needed.")
        at = At(stratum, points, name)
        if len(at.batch) != 1:
            raise InvalidPointError(
                f"{name} has shape {at.point.shape}; one axis of samples is needed before the last "
                f"{len(stratum.point_shape)}."
            )
        shares = _checked_weights(weights, len(given))
        rows = np.flatnonzero(shares)
        samples = Points(at.point, at.frame).take(rows)
        _check_sizes(samples.frame, name)
        signs = component(samples.frame)
        apart = np.argwhere(signs != signs[:1])
        if apart.size:
            raise DisconnectedPointsError(
                f"{name}: number {int(rows[apart[0][0]])} lies in another component than number "
                f"{int(rows[0])}: the signs of det differ, and no {lost} exists."
            )
        return cls(at, rows, samples, shares[rows] / shares[rows].sum())


def _check_sizes(frame: Frame, name: str) -> None:
    """Refuse points between which squared distances are no doubles."""
    sizes = size_of(frame.roots)
    wrong = np.flatnonzero(~((sizes >= _LEAST) & (sizes <= _MOST)))
    if wrong.size:
        raise InvalidPointError(
            f"{name}: the layers of number {int(wrong[0])} are of size {sizes[wrong[0]]:.3g}, and "
            f"squares of distances leave the range of doubles. Fit {name} / c for a number c near "
            f"the largest entry, and multiply what is found by c."
        )


def connected(frame: Frame, samples: Points) -> bool:
    """Whether a point lies in the component of the samples."""
    return bool((component(frame) == component(samples.frame)[0]).all())


def checked_start(stratum: Stratum, point: ArrayLike, name: str, samples: Points) -> Array:
    """Return a point to start from, if it lies in the component of the samples."""
    given = At(stratum, point, name)
    if given.batch:
        raise InvalidPointError(f"{name} has shape {given.point.shape}: give one point.")
    if not connected(given.frame, samples):
        raise DisconnectedPointsError(
            f"{name} lies in another component than the samples: the signs of det differ. Give one "
            f"of the samples, or none."
        )
    return given.point


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
