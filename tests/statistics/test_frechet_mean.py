"""Fréchet means against closed forms, cold logarithms and other algorithms."""

import math

import joblib
import numpy as np
import pytest

from dln_manifolds import BalancedManifold, DLNObservableManifold
from dln_manifolds.errors import DisconnectedPointsError, GeodesicWarning, InvalidPointError
from dln_manifolds.statistics import FrechetMean, frechet_mean, passes


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def gradient_norm(space, points, weights, mean):
    """Length of the mean of cold logarithms."""
    logs = space.metric.log(points, mean)
    return float(space.metric.norm(np.tensordot(weights, logs, 1), mean))


def near(rng, space, n_points, spread=0.2):
    """Points around a random one."""
    center = space.random_point()
    vectors = space.random_tangent_vec(np.broadcast_to(center, (n_points, *center.shape)))
    vectors = vectors / space.metric.norm(vectors, center).reshape(-1, *(1,) * center.ndim)
    return space.metric.exp(spread * vectors, center)


SPACES = [
    DLNObservableManifold(n=3, depth=1),
    DLNObservableManifold(n=3, depth=2),
    DLNObservableManifold(n=3, depth=4),
    DLNObservableManifold(n=2, depth=math.inf),
    DLNObservableManifold(shape=(4, 3), rank=2, depth=3),
    BalancedManifold(n=2, depth=3),
]


@pytest.mark.parametrize("space", SPACES, ids=repr)
def test_mean_of_logs_is_zero(space, rng):
    points, weights = near(rng, space, 5), np.array([1.0, 2.0, 0.0, 1.0, 0.5])
    found = FrechetMean(space).fit(points, sample_weight=weights)
    size = math.sqrt(found.variance_)
    assert space.belongs(found.estimate_)
    weights /= weights.sum()
    assert gradient_norm(space, points, weights, found.estimate_) < 3e-11 * size + 1e-13
    squares = space.metric.dist(points, found.estimate_) ** 2
    np.testing.assert_allclose(found.variance_, weights @ squares, rtol=1e-9)
    assert len(found.solution_.length) == 4


def reference_bures(points, n_steps=200):
    """Fixed-point iteration of Alvarez-Esteban et al. (2016)."""
    mean = points.mean(axis=0)
    for _ in range(n_steps):
        values, vectors = np.linalg.eigh(mean)
        half, inverse = ((vectors * values**p) @ vectors.T for p in (0.5, -0.5))
        q, turns = np.linalg.eigh(half @ points @ half)
        root = (turns * np.sqrt(q)[:, None, :]) @ np.swapaxes(turns, 1, 2)
        middle = root.mean(axis=0)
        mean = inverse @ middle @ middle @ inverse
    return mean


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e100])
def test_positive_matrices_at_depth_two(rng, scale):
    factors = rng.normal(size=(20, 4, 6))
    points = factors @ np.swapaxes(factors, 1, 2)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    space = DLNObservableManifold(n=4, depth=2)
    expected = reference_bures(points)
    plain = FrechetMean(space).fit(scale * points)
    np.testing.assert_allclose(plain.estimate_ / scale, expected, rtol=1e-11, atol=1e-11)
    assert plain.n_iter_ <= 6
    assert not plain.local_
    assert plain.gradient_norm_ <= 1e-11 * math.sqrt(plain.variance_)
    turned = FrechetMean(space).fit(scale * points @ turn)
    np.testing.assert_allclose(turned.estimate_ / scale, expected @ turn, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_scale_does_not_matter(rng, scale):
    space = DLNObservableManifold(n=3, depth=3)
    points = near(rng, space, 4)
    plain, scaled = FrechetMean(space).fit(points), FrechetMean(space).fit(scale * points)
    np.testing.assert_allclose(scaled.estimate_ / scale, plain.estimate_, rtol=1e-9, atol=1e-9)


def test_two_points_have_the_midpoint(rng):
    space = DLNObservableManifold(n=3, depth=4)
    points = near(rng, space, 2)
    middle = space.metric.geodesic(points[0], end_point=points[1])(0.5)[0]
    found = FrechetMean(space).fit(points)
    np.testing.assert_allclose(found.estimate_, middle, rtol=1e-9, atol=1e-10)


def test_one_sample_is_its_mean(rng):
    space = DLNObservableManifold(n=3, depth=4)
    point = space.random_point()
    found = FrechetMean(space).fit(point[None])
    np.testing.assert_allclose(found.estimate_, point, rtol=1e-14)
    assert found.variance_ == found.gradient_norm_ == found.n_iter_ == 0


def test_many_samples_come_in_blocks(rng, monkeypatch):
    monkeypatch.setattr(frechet_mean, "_MANY", 200)
    monkeypatch.setattr(frechet_mean, "_PART", 100)
    monkeypatch.setattr(passes, "_BLOCK", 400)
    space = DLNObservableManifold(n=2, depth=3)
    points = np.eye(2) + 0.1 * rng.normal(size=(250, 2, 2))
    found = FrechetMean(space).fit(points)
    weights = np.full(len(points), 1 / len(points))
    size = math.sqrt(found.variance_)
    assert gradient_norm(space, points, weights, found.estimate_) < 1e-10 * size


def test_workers_change_nothing(rng):
    space = DLNObservableManifold(n=2, depth=3)
    points = near(rng, space, 70)
    with joblib.parallel_config(backend="threading"):
        one, two = (FrechetMean(space, n_jobs=jobs).fit(points).estimate_ for jobs in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_far_samples_make_a_local_mean(rng):
    space = DLNObservableManifold(n=2, depth=3)
    angles = np.array([0.0, 2.0])
    turns = np.array([[[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]] for a in angles])
    assert FrechetMean(space).fit(turns).local_
    assert not FrechetMean(space).fit(np.eye(2) * np.array([1, 1.1])[:, None, None]).local_


def test_starts_and_parameters(rng):
    space = DLNObservableManifold(n=2, depth=3)
    points = near(rng, space, 4)
    told = []
    estimator = FrechetMean(space, progress=lambda done, of: told.append((done, of)))
    mean = estimator.fit(points).estimate_
    assert told[-1] == (estimator.n_iter_, 100)
    assert estimator.set_params(warm_start=True) is estimator
    assert estimator.fit(points).n_iter_ <= 1
    again = FrechetMean(
        **{**estimator.get_params(deep=False), "init_point": mean, "warm_start": False}
    )
    assert again.fit(points).n_iter_ <= 1
    with pytest.raises(ValueError, match="speed is no parameter"):
        estimator.set_params(speed=1)


def test_layers_start_where_they_are_told():
    space = BalancedManifold(n=2, depth=2)
    point = space.random_point()
    found = FrechetMean(space, init_point=point).fit([point, 4 * point])
    np.testing.assert_allclose(found.estimate_, 2.5 * point, rtol=1e-10)
    turned = np.stack([point[0], np.diag([1.0, -1.0]) @ point[1]])
    with pytest.raises(DisconnectedPointsError, match="init_point lies in another component"):
        FrechetMean(space, init_point=turned).fit([point, 4 * point])


def test_single_precision_comes_back(rng):
    space = DLNObservableManifold(n=2, depth=3)
    points = near(rng, space, 3).astype(np.float32)
    before = points.copy()
    assert FrechetMean(space).fit(points).estimate_.dtype == np.float32
    np.testing.assert_array_equal(points, before)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.0, 0.0], "zero throughout"),
        ([1.0, np.nan], r"sample_weight\[1\] is nan"),
        ([1.0, -1.0], "finite and >= 0"),
        ([1.0, np.inf], "finite and >= 0"),
        ([1.0], "shape"),
    ],
)
def test_bad_weights(weights, message):
    points = np.stack([np.eye(2), 2 * np.eye(2)])
    with pytest.raises(ValueError, match=message):
        FrechetMean(DLNObservableManifold(n=2, depth=3)).fit(points, sample_weight=weights)


def test_bad_samples():
    estimator = FrechetMean(DLNObservableManifold(n=2, depth=3))
    with pytest.raises(InvalidPointError, match="X is empty"):
        estimator.fit(np.empty((0, 2, 2)))
    with pytest.raises(InvalidPointError, match="one axis of samples"):
        estimator.fit(np.eye(2))
    with pytest.raises(DisconnectedPointsError, match="number 1 lies in another component"):
        estimator.fit([np.eye(2), np.diag([1.0, -1.0])])
    # of weight zero, it does not matter
    points = [np.eye(2), np.diag([1.0, -1.0])]
    np.testing.assert_allclose(estimator.fit(points, sample_weight=[1, 0]).estimate_, np.eye(2))
    with pytest.raises(ValueError, match="n_jobs is 0"):
        estimator.set_params(n_jobs=0).fit(points)


def test_too_few_steps_are_told(rng):
    space = DLNObservableManifold(n=2, depth=3)
    points = near(rng, space, 3)
    with pytest.warns(GeodesicWarning, match="Raise max_iter"):
        FrechetMean(space, max_iter=1).fit(points)


def test_rough_steps_may_fail(rng, monkeypatch):
    space = DLNObservableManifold(n=3, depth=4)
    points = near(rng, space, 4)
    expected = FrechetMean(space).fit(points).estimate_
    # So loose that no logarithm is found.
    monkeypatch.setattr(frechet_mean, "_ROUGH", 1e-3)
    np.testing.assert_allclose(FrechetMean(space).fit(points).estimate_, expected, atol=1e-9)


def test_weights_by_place_and_starts_elsewhere_are_refused():
    space = DLNObservableManifold(2, 3)
    points = np.stack([np.eye(2), 2 * np.eye(2)])
    with pytest.raises(ValueError, match="Weights go by name"):
        FrechetMean(space).fit(points, [1.0, 2.0])
    with pytest.raises(DisconnectedPointsError, match="init_point lies in another component"):
        FrechetMean(space, init_point=np.diag([1.0, -1.0])).fit(points)
    with pytest.raises(InvalidPointError, match="not a rectangular array"):
        FrechetMean(space).fit([np.eye(2), np.eye(3)])


def test_space_that_is_none():
    with pytest.raises(TypeError, match=r"space is None; give a DLNObservableManifold or Balanced"):
        FrechetMean(None)
    with pytest.raises(TypeError, match="space is 3"):
        FrechetMean(DLNObservableManifold(2, 3)).set_params(space=3).fit([np.eye(2)])
    with pytest.raises(ValueError, match="space has no metric"):
        FrechetMean(DLNObservableManifold(2, 3, equip=False))


def test_repr_is_one_line():
    space = DLNObservableManifold(n=3, depth=4)
    assert repr(FrechetMean(space)) == f"FrechetMean({space!r})"
    changed = FrechetMean(space, n_jobs=2, init_point=np.eye(3))
    assert repr(changed) == f"FrechetMean({space!r}, init_point=<array (3, 3)>, n_jobs=2)"


def test_layers_start_in_their_component():
    space = BalancedManifold(n=2, depth=3)
    flip = np.diag([1.0, -1.0])
    layers = np.stack([np.eye(2)] * 3)
    other = np.stack([flip, flip, np.eye(2)])
    with pytest.raises(DisconnectedPointsError, match="init_point lies in another component"):
        FrechetMean(space, init_point=other).fit([layers, 2 * layers])
