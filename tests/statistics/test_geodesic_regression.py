"""Geodesic regression against closed forms, differences of the loss and geomstats."""

import math

import joblib
import numpy as np
import pytest
from geomstats.learning.geodesic_regression import GeodesicRegression as PeerRegression
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from dln_manifolds import BalancedManifold, DLNObservableManifold
from dln_manifolds.errors import (
    ConvergenceError,
    DisconnectedPointsError,
    GeodesicWarning,
    IncompleteGeodesicError,
    InvalidPointError,
)
from dln_manifolds.geodesics import Points
from dln_manifolds.statistics import GeodesicRegression, geodesic_fit, passes

TIMES = np.array([-1.0, -0.3, 0.1, 0.4, 2.0])

SPACES = [
    DLNObservableManifold(n=3, depth=1),
    DLNObservableManifold(n=3, depth=2),
    DLNObservableManifold(n=2, depth=4),
    DLNObservableManifold(n=2, depth=math.inf),
    DLNObservableManifold(shape=(3, 2), rank=1, depth=3),
    DLNObservableManifold(shape=(3, 2), depth=3),
    BalancedManifold(n=2, depth=3),
    BalancedManifold(widths=(3, 2, 2), rank=1),
]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def geodesic(rng, space, speed=0.25):
    """A point and a velocity there."""
    point = space.random_point(bound=0.4, rng=rng)
    return point, speed * space.metric.random_unit_tangent_vec(point, rng=rng)


def noisy(rng, space, noise=0.1, times=TIMES):
    """Targets near a geodesic."""
    point, velocity = geodesic(rng, space)
    exact = space.metric.exp(np.multiply.outer(times, velocity), point)
    moved = space.random_tangent_vec(exact, rng=rng)
    return space.metric.exp(noise / math.sqrt(space.dim) * moved, exact)


def loss(space, X, y, weights, intercept, coef):
    """Half the mean squared distance to ``exp(X . coef)``, from cold logarithms."""
    predicted = space.metric.exp(np.tensordot(X, coef, 1), intercept)
    return 0.5 * float(weights @ space.metric.dist(predicted, y) ** 2)


@pytest.mark.parametrize("space", SPACES, ids=repr)
def test_points_on_a_geodesic_give_it_back(space, rng):
    metric, (point, velocity) = space.metric, geodesic(rng, space)
    targets = metric.exp(np.multiply.outer(TIMES, velocity), point)
    found = GeodesicRegression(space).fit(TIMES, targets)
    shift = TIMES.mean() * velocity
    size = np.linalg.norm(point)
    np.testing.assert_allclose(found.intercept_, metric.exp(shift, point), atol=1e-9 * size)
    along = metric.parallel_transport(velocity, point, direction=shift)
    np.testing.assert_allclose(found.coef_, along, rtol=0, atol=1e-9 * np.linalg.norm(velocity))
    assert found.converged_
    assert math.sqrt(found.variance_) < 1e-10
    np.testing.assert_allclose(found.predict(0.0), point, atol=1e-9 * size)


@pytest.mark.parametrize("space", [SPACES[2], SPACES[4], SPACES[6]], ids=repr)
def test_gradient_is_that_of_the_loss(space, rng):
    """By central differences, at a fit that is not the best, with two covariates."""
    metric, k = space.metric, 2
    X, weights = rng.normal(size=(4, k)), np.array([0.1, 0.2, 0.3, 0.4])
    y = noisy(rng, space, times=X[:, 0])
    point = y[0]
    coef = 0.2 * metric.random_unit_tangent_vec(point, k, rng=rng)
    frame = space.stratum.frame(y)
    problem = geodesic_fit.Problem(space, Points(y, frame), X, weights, 1)
    fit = problem.graded(problem.evaluated(point, coef), metric.tolerance)
    np.testing.assert_allclose(fit.variance, 2 * loss(space, X, y, weights, point, coef), rtol=1e-9)
    step = space.random_tangent_vec(np.broadcast_to(point, (1 + k, *point.shape)), rng=rng)
    slopes, h = [], 1e-4
    for sign in (-h, h):
        moved, vectors = point, coef + sign * step[1:]
        vectors = metric.parallel_transport(vectors, point, direction=sign * step[0])
        moved = metric.exp(sign * step[0], point)
        slopes.append(loss(space, X, y, weights, moved, vectors))
    expected = (slopes[1] - slopes[0]) / (2 * h)
    found = -problem.product(fit.ascent, step, point)
    # Differences of second order, of losses with 11 digits.
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_flat_space_has_linear_regression(rng):
    space = DLNObservableManifold(shape=(2, 2), depth=1)
    X, weights = rng.normal([5.0, -3.0], size=(9, 2)), rng.uniform(size=9)
    y = 10 * np.eye(2) + np.tensordot(X, rng.normal(size=(2, 2, 2)), 1)
    y += 0.3 * rng.normal(size=y.shape)
    found = GeodesicRegression(space).fit(X, y, sample_weight=weights)
    root = np.sqrt(weights)[:, None]
    columns = root * np.column_stack([np.ones(9), X])
    expected, *_ = np.linalg.lstsq(columns, root * y.reshape(9, 4), rcond=None)
    np.testing.assert_allclose(found.coef_, expected[1:].reshape(2, 2, 2), atol=1e-12)
    np.testing.assert_allclose(found.predict([0.0, 0.0]).ravel(), expected[0], atol=1e-11)
    np.testing.assert_allclose(found.mean_, weights @ X / weights.sum(), rtol=1e-14)


@pytest.mark.parametrize("depth", [2, 3.5])
def test_one_by_one_matrices_have_lines_of_roots(depth, rng):
    """Distances are ``sqrt(N) |x^(1/N) - y^(1/N)|`` there."""
    times = np.linspace(0, 1, 8)
    roots = 1 + times + 0.1 * rng.normal(size=8)
    found = GeodesicRegression(DLNObservableManifold(n=1, depth=depth)).fit(
        times, (roots**depth).reshape(-1, 1, 1)
    )
    slope, start = np.polyfit(times, roots, 1)
    expected = (start + slope * times) ** depth
    np.testing.assert_allclose(found.predict(times).ravel(), expected, rtol=1e-10)
    residual = np.sum((roots - start - slope * times) ** 2)
    total = np.sum((roots - roots.mean()) ** 2)
    score = found.score(times, (roots**depth).reshape(-1, 1, 1))
    np.testing.assert_allclose(score, 1 - residual / total, rtol=1e-9)


@pytest.mark.parametrize("space", [SPACES[2], SPACES[4], SPACES[6]], ids=repr)
def test_the_gradient_vanishes_and_the_loss_is_least(space, rng):
    metric, y = space.metric, noisy(rng, space)
    weights = np.array([1.0, 2.0, 0.0, 1.0, 0.5])
    found = GeodesicRegression(space).fit(TIMES, y, sample_weight=weights)
    weights /= weights.sum()
    assert found.gradient_norm_ < 1e-9 * math.sqrt(found.variance_)
    assert space.belongs(found.intercept_)
    X, spread = (TIMES - found.mean_)[:, None], math.sqrt(weights @ (TIMES - found.mean_) ** 2)
    least = loss(space, X, y, weights, found.intercept_, found.coef_[None])
    np.testing.assert_allclose(found.variance_, 2 * least, rtol=1e-8)
    step = space.random_tangent_vec(np.stack([found.intercept_] * 2), rng=rng)
    step /= metric.norm(step, found.intercept_).reshape(-1, *(1,) * (step.ndim - 1))
    losses, h = [], 1e-3
    for sign in (-h, h):
        coef = found.coef_ + sign / spread * step[1]
        coef = metric.parallel_transport(coef, found.intercept_, direction=sign * step[0])
        moved = metric.exp(sign * step[0], found.intercept_)
        losses.append(loss(space, X, y, weights, moved, coef[None]))
    assert min(losses) > least
    # The slope of differences is zero to their third order, the bend about two: in flat space one
    # for each unit vector.
    assert abs(losses[1] - losses[0]) / (2 * h) < 1e-5
    assert 0.5 < (losses[0] + losses[1] - 2 * least) / h**2 < 4


@pytest.mark.slow
def test_no_worse_than_geomstats(rng):
    space = DLNObservableManifold(n=2, depth=3)
    y = noisy(rng, space, noise=0.3)
    found = GeodesicRegression(space).fit(TIMES, y)
    for start in ("frechet", np.stack([found.intercept_, found.coef_])):
        peer = PeerRegression(space, initialization=start).fit(TIMES, y)
        reached = np.mean(space.metric.dist(peer.predict(TIMES), y) ** 2)
        assert found.variance_ <= reached * (1 + 1e-10)
        # Nor far from it.
        np.testing.assert_allclose(reached, found.variance_, rtol=1e-3)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_scales_do_not_matter(scale, rng):
    space = DLNObservableManifold(n=2, depth=3)
    y = noisy(rng, space)
    plain, model = (GeodesicRegression(space, tolerance=1e-8) for _ in range(2))
    plain.fit(TIMES, y)
    model.fit(scale * (TIMES + 3), scale * y)
    np.testing.assert_allclose(model.intercept_ / scale, plain.intercept_, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-7, atol=1e-8)


def test_warm_starts_parameters_and_progress(rng):
    space = DLNObservableManifold(n=2, depth=3)
    y, told = noisy(rng, space), []
    model = GeodesicRegression(
        space, tolerance=1e-8, progress=lambda done, of: told.append((done, of))
    )
    cold = model.fit(TIMES, y).n_iter_
    assert cold >= 2
    assert told == [(k, 100) for k in range(cold + 1)]
    assert model.set_params(warm_start=True, progress=False) is model
    assert model.fit(TIMES, y).n_iter_ <= 1
    # Of other samples: at another mean of covariates.
    assert model.fit(TIMES[:4], y[:4]).n_iter_ <= cold
    other = GeodesicRegression(space, tolerance=1e-8, init_point=y[0]).fit(TIMES[:4], y[:4])
    np.testing.assert_allclose(other.coef_, model.coef_, rtol=1e-7, atol=1e-8)
    with pytest.raises(ValueError, match="last fit had 1 covariates, X has 2"):
        model.fit(np.column_stack([TIMES, TIMES**2]), y)
    # Where det has the other sign the last fit is no start.
    turned = np.diag([1.0, -1.0]) @ y
    anew = GeodesicRegression(space, tolerance=1e-8).fit(TIMES, turned)
    np.testing.assert_allclose(model.fit(TIMES, turned).coef_, anew.coef_, rtol=1e-7, atol=1e-8)
    with pytest.raises(ValueError, match="speed is no parameter"):
        model.set_params(speed=1)


def test_an_estimator_of_scikit_learn(rng):
    space = DLNObservableManifold(n=2, depth=3)
    y = noisy(rng, space, times=np.linspace(0, 2, 6), noise=0.02)
    model = clone(GeodesicRegression(space, tolerance=1e-6))
    assert model.tolerance == 1e-6
    assert model.space is not space
    scores = cross_val_score(model, np.linspace(0, 2, 6)[:, None], y, cv=2)
    assert scores.shape == (2,)
    assert np.isfinite(scores).all()


def test_one_feature_is_one_covariate(rng):
    space = DLNObservableManifold(n=2, depth=3)
    y = noisy(rng, space)
    plain = GeodesicRegression(space, tolerance=1e-3).fit(TIMES, y)
    column = GeodesicRegression(space, tolerance=1e-3).fit(TIMES[:, None], y)
    assert column.coef_.shape == (1, 2, 2)
    np.testing.assert_array_equal(column.coef_[0], plain.coef_)
    np.testing.assert_allclose(column.predict(TIMES[:, None]), plain.predict(TIMES), rtol=1e-14)


def test_blocks_and_workers_change_nothing(rng, monkeypatch):
    space = DLNObservableManifold(n=2, depth=3)
    times = np.linspace(-1, 1, 40)
    y = noisy(rng, space, times=times)
    whole = GeodesicRegression(space, tolerance=1e-6).fit(times, y)
    monkeypatch.setattr(passes, "_BLOCK", 100)
    with joblib.parallel_config(backend="threading"):
        parts = GeodesicRegression(space, tolerance=1e-6, n_jobs=2).fit(times, y)
    np.testing.assert_allclose(parts.intercept_, whole.intercept_, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(parts.coef_, whole.coef_, rtol=1e-9, atol=1e-10)


def test_single_precision_comes_back(rng):
    space = DLNObservableManifold(n=2, depth=3)
    y = noisy(rng, space).astype(np.float32)
    before = y.copy()
    found = GeodesicRegression(space, tolerance=1e-5).fit(TIMES, y)
    assert found.intercept_.dtype == found.coef_.dtype == np.float32
    np.testing.assert_array_equal(y, before)


def test_far_targets_make_a_local_fit():
    space = DLNObservableManifold(n=2, depth=3)
    angles = np.array([0.0, 2.0, 0.0, 2.0])
    turns = np.array([[[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]] for a in angles])
    times = np.array([0.0, 0.0, 1.0, 1.0])
    assert GeodesicRegression(space).fit(times, turns).local_
    assert not GeodesicRegression(space).fit([0.0, 1.0], [np.eye(2), 1.1 * np.eye(2)]).local_


def test_equal_targets_have_no_velocity():
    space = DLNObservableManifold(n=2, depth=3)
    found = GeodesicRegression(space).fit([0.0, 1.0, 2.0], [np.diag([1.0, 2.0])] * 3)
    np.testing.assert_allclose(found.coef_, 0, atol=1e-14)
    assert found.score([0.0, 1.0, 2.0], [np.diag([1.0, 2.0])] * 3) == 0


@pytest.mark.parametrize("mode", ["raise", "warn", "nan"])
def test_too_few_steps_are_told(mode, rng):
    space = DLNObservableManifold(n=2, depth=3)
    y = noisy(rng, space)
    space.metric.on_failure = mode
    model = GeodesicRegression(space, tolerance=1e-6, max_iter=1)
    if mode == "raise":
        with pytest.raises(ConvergenceError, match="Raise max_iter"):
            model.fit(TIMES, y)
        assert not hasattr(model, "coef_")
        return
    if mode == "warn":
        with pytest.warns(GeodesicWarning, match="Raise max_iter"):
            model.fit(TIMES, y)
    else:
        model.fit(TIMES, y)
    assert not model.converged_
    assert np.isfinite(model.coef_).all() == (mode == "warn")
    # What is NaN is no start.
    assert model.set_params(warm_start=True, max_iter=100).fit(TIMES, y).converged_


@pytest.mark.parametrize("mode", ["raise", "nan"])
def test_targets_without_a_geodesic(mode):
    """At depth 1 the straight line from I to a half turn meets a singular matrix."""
    space = DLNObservableManifold(n=2, depth=1)
    space.metric.on_failure = mode
    model = GeodesicRegression(space, init_point=np.eye(2))
    targets = [np.eye(2), -np.eye(2), 2 * np.eye(2)]
    if mode == "raise":
        with pytest.raises(IncompleteGeodesicError):
            model.fit([0, 1, 2], targets)
        return
    model.fit([0, 1, 2], targets)
    assert np.isnan(model.coef_).all()
    assert np.isnan(model.variance_)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.0, 0.0], "zero throughout"),
        ([1.0, np.nan], r"sample_weight\[1\] is nan"),
        ([1.0, -1.0], "finite and >= 0"),
        ([1.0], "shape"),
        ([1.0, 0.0], "X is constant: covariate 0 is 3 "),
    ],
)
def test_bad_weights(weights, message):
    points = np.stack([np.eye(2), 2 * np.eye(2)])
    with pytest.raises(ValueError, match=message):
        GeodesicRegression(DLNObservableManifold(n=2, depth=3)).fit([3, 4], points, weights)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([1.0, 1.0, 1.0], "X is constant"),
        ([1.0, np.nan, 2.0], r"X is not finite: nan at \[1\]"),
        ([1.0, 2.0], r"X has shape \(2,\); covariates have the shape \(3,\)"),
        (1.0, "X has shape"),
        ([[1.0, 2.0], [2.0, 4.0], [5.0, 10.0]], "depend on each other linearly"),
        (np.random.default_rng(0).normal(size=(3, 3)), "or too few samples"),
        (np.empty((3, 0)), "X has shape"),
    ],
)
def test_bad_covariates(X, message):
    points = np.array([1.0, 2.0, 3.0])[:, None, None] * np.eye(2)
    with pytest.raises(ValueError, match=message):
        GeodesicRegression(DLNObservableManifold(n=2, depth=3)).fit(X, points)


def test_bad_targets_and_predictions():
    space = DLNObservableManifold(n=2, depth=3)
    model = GeodesicRegression(space)
    with pytest.raises(AttributeError, match="call fit first"):
        model.predict([0.0])
    with pytest.raises(InvalidPointError, match="y is empty"):
        model.fit([], np.empty((0, 2, 2)))
    with pytest.raises(InvalidPointError, match="one axis of samples"):
        model.fit([1.0, 2.0], np.eye(2))
    with pytest.raises(ValueError, match="X is constant"):
        model.fit([1.0], np.eye(2)[None])
    with pytest.raises(InvalidPointError, match="y has shape"):
        model.fit([1.0, 2.0], np.ones((2, 3, 3)))
    apart = [np.eye(2), np.diag([1.0, -1.0]), 2 * np.eye(2)]
    with pytest.raises(DisconnectedPointsError, match="y: number 1 lies in another component"):
        model.fit([0, 1, 2], apart)
    with pytest.raises(ValueError, match="n_jobs is 0"):
        GeodesicRegression(space, n_jobs=0).fit([0, 1], np.stack([np.eye(2)] * 2))
    model.set_params(init_point=np.diag([1.0, -1.0]))
    with pytest.raises(DisconnectedPointsError, match="init_point lies in another component"):
        model.fit([0, 1], apart[::2])
    with pytest.raises(InvalidPointError, match="give one point"):
        model.set_params(init_point=apart[::2]).fit([0, 1], apart[::2])
    # of weight zero, it does not matter
    model.set_params(init_point=None).fit([0, 1, 2], apart, sample_weight=[1, 0, 1])
    assert model.score([0, 1, 2], apart, sample_weight=[1, 0, 1]) > 0.99
    with pytest.raises(ValueError, match="X has shape"):
        model.predict([[1.0, 2.0]])


def test_parameters_of_the_space_are_varied():
    space = DLNObservableManifold(n=2, depth=3)
    model = GeodesicRegression(space)
    assert model.get_params()["space__depth"] == 3
    assert model.set_params(space__depth=5, tolerance=1e-9).space.depth == 5
    assert space.depth == 3  # as it was for whoever else holds it
    with pytest.raises(ValueError, match="space__width is no parameter"):
        model.set_params(space__width=5)


@pytest.mark.parametrize(
    ("X", "match"),
    [
        (None, "X is None"),
        (1j, "complex"),
        ("a", "<U1"),
        (np.nan, r"nan at \[\]"),
        ([[1.0]], "one sample"),
    ],
)
def test_predictions_ask_for_covariates(X, match):
    points = np.array([1.0, 4.0, 9.0])[:, None, None] * np.eye(2)
    model = GeodesicRegression(DLNObservableManifold(n=2, depth=2)).fit([0.0, 1.0, 2.0], points)
    with pytest.raises(ValueError, match=match):
        model.predict(X)


def test_scores_ask_for_as_many_covariates_as_targets():
    points = np.array([1.0, 4.0, 9.0])[:, None, None] * np.eye(2)
    model = GeodesicRegression(DLNObservableManifold(n=2, depth=2)).fit([0.0, 1.0, 2.0], points)
    for X in ([0.0, 1.0], [0.0, 1.0, 2.0, 3.0], 1.0):
        with pytest.raises(ValueError, match="as y has 3 samples"):
            model.score(X, points)
