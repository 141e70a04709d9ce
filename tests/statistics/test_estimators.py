"""What estimators share: the space of a fit, what is there before it, and several starts."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError as TheirError
from sklearn.utils.validation import check_is_fitted

from dln_manifolds import (
    DLNError,
    DLNObservableManifold,
    InvalidPointError,
    NotFittedError,
)
from dln_manifolds.statistics import FrechetMean, GeodesicRegression, GeometricMedian

POINTS = np.array([1.0, 2.0, 4.0])[:, None, None] * np.eye(2) + 0.1 * np.arange(4).reshape(2, 2)


def fitted(kind, space):
    if kind is GeodesicRegression:
        return kind(space).fit([0.0, 1.0, 2.0], POINTS)
    return kind(space).fit(POINTS)


@pytest.mark.parametrize("kind", [FrechetMean, GeometricMedian])
def test_a_center_keeps_the_space_that_it_was_fitted_on(kind):
    space = DLNObservableManifold(n=2, depth=3)
    model, other = (fitted(kind, space) for _ in range(2))
    expected = other.solution_.length
    space.set_params(depth=7)
    space.metric.on_failure = "nan"
    np.testing.assert_array_equal(model.solution_.length, expected)
    assert model.space_.depth == 3
    assert model.space_.metric.on_failure == "raise"
    # The next fit is on the space as it is now.
    assert fitted(kind, space).solution_.depth == 7


def test_a_regression_keeps_the_space_that_it_was_fitted_on():
    space = DLNObservableManifold(n=2, depth=3)
    model = fitted(GeodesicRegression, space)
    expected = model.predict([5.0]), model.score([0.0, 1.0, 2.0], POINTS)
    space.set_params(depth=7)
    for same in (model, pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(same.predict([5.0]), expected[0])
        assert same.score([0.0, 1.0, 2.0], POINTS) == expected[1]
    model.set_params(space__depth=5)
    np.testing.assert_array_equal(model.predict([5.0]), expected[0])


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (FrechetMean, "estimate_"),
        (FrechetMean, "solution_"),
        (GeometricMedian, "mean_distance_"),
        (GeodesicRegression, "coef_"),
    ],
)
def test_what_fit_finds_is_named_before(kind, name):
    model = kind(DLNObservableManifold(n=2, depth=3))
    with pytest.raises(
        NotFittedError, match=rf"This {kind.__name__} .* call fit first, for {name}"
    ):
        getattr(model, name)
    assert not hasattr(model, name)
    assert issubclass(NotFittedError, DLNError)
    # As scikit-learn's own.
    assert set(TheirError.__mro__[1:-3]) <= set(NotFittedError.__mro__)
    with pytest.raises(TheirError):
        check_is_fitted(model)
    check_is_fitted(fitted(kind, DLNObservableManifold(n=2, depth=3)))


def test_names_that_no_fit_finds_are_plain_errors():
    model = FrechetMean(DLNObservableManifold(n=2, depth=3))
    for wrong in (model, fitted(FrechetMean, model.space)):
        with pytest.raises(AttributeError, match="has no attribute 'fitt'") as caught:
            _ = wrong.fitt
        assert not isinstance(caught.value, NotFittedError)
    with pytest.raises(AttributeError, match="has no attribute 'mean_'") as caught:
        _ = fitted(FrechetMean, model.space).mean_
    assert not isinstance(caught.value, NotFittedError)


def test_a_fit_that_fails_leaves_the_last_one():
    space = DLNObservableManifold(n=2, depth=3)
    model = fitted(FrechetMean, space)
    kept = model.estimate_, model.solution_
    with pytest.raises(ValueError, match="X has shape"):
        model.fit(np.ones((2, 3, 3)))
    assert model.estimate_ is kept[0]
    assert model.solution_ is kept[1]


def test_a_score_of_one_sample_is_not_defined():
    model = fitted(GeodesicRegression, DLNObservableManifold(n=2, depth=3))
    with pytest.warns(UserWarning, match="R\\^2 of one sample"):
        assert np.isnan(model.score([0.0], POINTS[:1]))
    with pytest.warns(UserWarning, match="R\\^2 of one sample"):
        assert np.isnan(model.score([0.0, 1.0], POINTS[:2], sample_weight=[1.0, 0.0]))


@pytest.mark.parametrize("depth", [1, 1.5, 2, 3, 8, np.inf])
@pytest.mark.parametrize("power", [-900, -600, 600, 900])
def test_points_of_any_size_or_an_error(depth, power):
    # Warnings are errors: no square of NumPy overflows on the way.
    space = DLNObservableManifold(n=3, depth=depth)
    rng = np.random.default_rng(0)
    points = np.eye(3) + 0.2 * rng.normal(size=(4, 3, 3))
    for kind in (FrechetMean, GeometricMedian):
        if abs(power) / depth > 450:
            with pytest.raises(InvalidPointError, match=r"range of doubles\. Fit X / c"):
                kind(space).fit(np.ldexp(points, power))
            continue
        model, expected = kind(space).fit(np.ldexp(points, power)), kind(space).fit(points)
        found = np.ldexp(model.estimate_, -power)
        np.testing.assert_allclose(found, expected.estimate_, rtol=0, atol=1e-8)


def turned(angles, sizes):
    cos, sin = np.cos(angles), np.sin(angles)
    return np.array([[cos, -sin], [sin, cos]]).transpose(2, 0, 1) * sizes[:, None, :]


@pytest.mark.parametrize("seed", [4, 13])
def test_more_starts_find_better_means(seed):
    # Rotations all around: many means, all of them local.
    rng = np.random.default_rng(seed)
    sizes = np.exp(0.3 * rng.normal(size=(6, 2)))
    points = turned(rng.uniform(-np.pi, np.pi, size=6), sizes)
    space = DLNObservableManifold(n=2, depth=3)
    models = [FrechetMean(space, n_init=n).fit(points) for n in (1, 7)]
    least = [model.variance_ for model in models]
    assert least[1] < 0.999 * least[0]
    for model in models:
        squares = space.metric.dist(model.estimate_, points) ** 2
        assert model.variance_ == pytest.approx(squares.mean(), rel=1e-9)
    # Each start by itself, given by hand: none is better.
    alone = []
    for start in points:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            alone.append(FrechetMean(space, init_point=start).fit(points).variance_)
    assert least[1] == pytest.approx(min(alone), rel=1e-8)


def test_starts_are_counted():
    with pytest.raises(ValueError, match="n_init must be at least 1"):
        FrechetMean(DLNObservableManifold(n=2, depth=3), n_init=0).fit(POINTS)
    told = []
    model = FrechetMean(
        DLNObservableManifold(n=2, depth=3), n_init=3, progress=lambda *step: told.append(step)
    )
    assert model.fit(POINTS).get_params()["n_init"] == 3
    assert {total for _, total in told} == {300}


@pytest.mark.parametrize("kind", [FrechetMean, GeometricMedian, GeodesicRegression])
def test_what_is_no_start_any_more_is_left(kind):
    """Points of another space, or of the other sign of det, begin anew; they need not be told."""
    regression = kind is GeodesicRegression
    points = np.stack([np.eye(3), np.diag([1.0, 2.0, 3.0]), 2 * np.eye(3)])
    small, turned = points[:, :2, :2], points @ np.diag([1.0, 1.0, -1.0])

    def fit(model, y):
        return model.fit(np.arange(3.0), y) if regression else model.fit(y)

    for space, y in ((DLNObservableManifold(2, 3), small), (DLNObservableManifold(3, 3), turned)):
        model = fit(kind(DLNObservableManifold(3, 3), warm_start=True), points)
        model.space = space
        again, anew = fit(model, y), fit(kind(space), y)
        name = "coef_" if regression else "estimate_"
        np.testing.assert_allclose(getattr(again, name), getattr(anew, name), atol=1e-9)
