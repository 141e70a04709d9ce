"""Newton's method on a mean and all paths: derivatives by differences, means by cold logarithms."""

import numpy as np
import pytest

from dln_manifolds import DLNObservableManifold
from dln_manifolds.geodesics import Points
from dln_manifolds.geometry.facing import AlignedPairs
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.statistics import FrechetMean, center, confirmed, joint, joint_mean, passes


@pytest.fixture
def rng():
    return np.random.default_rng(18)


def ball(rng, space, n_points, share):
    """Return points at a share of the size of the layers around a random one."""
    center = space.random_point()
    size = np.sqrt(space.depth * np.sum(space.stratum.frame(center).roots ** 2))
    vectors = rng.normal(size=(n_points, *center.shape))
    vectors *= (share * size / space.metric.norm(vectors, center))[:, None, None]
    return space.metric.exp(vectors, center)


def test_derivatives_by_differences(rng):
    points, depth = np.eye(3) + 0.3 * rng.normal(size=(4, 3, 3)), 3
    frame = Frame.of_point(points, depth)
    polar = frame.polar[0]
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    problem, _ = joint_mean._posed(polar.copy(), polar, frame, weights)
    begun = joint.begun(problem)
    at, direction = ([0.02 * rng.normal(size=x.shape) for x in begun.unknowns] for _ in range(2))
    here = begun.moved(at, 1.0)
    ahead, behind = (here.moved(direction, h) for h in (1e-4, -1e-4))
    slope = joint._dot(here.gradient, direction)
    np.testing.assert_allclose((ahead.value - behind.value) / 2e-4, slope, rtol=1e-6)
    for image, one, other in zip(
        here.hessian()(direction), ahead.gradient, behind.gradient, strict=True
    ):
        np.testing.assert_allclose(image, (one - other) / 2e-4, atol=1e-6 * np.abs(image).max())


@pytest.fixture
def solved(monkeypatch):
    """How many logarithms were solved, pass by pass."""
    counts, evaluated = [], passes.evaluated

    def counted(space, point, samples, *others):
        counts.append(len(samples.value))
        return evaluated(space, point, samples, *others)

    for module in (center, passes):
        monkeypatch.setattr(module, "evaluated", counted)
    return counts


def gaussian(rng, n_points):
    points = rng.normal(size=(n_points, 3, 3))
    points[np.linalg.det(points) < 0, 0] *= -1
    return points


@pytest.mark.parametrize(("n", "depth", "share"), [(3, 4, 0.05), (3, 4, 0.3), (2, 2, 0.3)])
@pytest.mark.parametrize("scale", [1.0, 1e-30])
def test_flow_confirms(rng, solved, n, depth, share, scale):
    space = DLNObservableManifold(n=n, depth=depth)
    points = scale * ball(rng, space, 10, share)
    weights = rng.uniform(0.5, 1.5, size=len(points))
    found = FrechetMean(space).fit(points, sample_weight=weights)
    assert not solved
    logs = space.metric.log(points, found.estimate_)
    gradient = np.tensordot(weights / weights.sum(), logs, 1)
    size = np.sqrt(found.variance_)
    assert space.metric.norm(gradient, found.estimate_) <= 1e-11 * size
    lengths = space.metric.dist(points, found.estimate_)
    np.testing.assert_allclose(found.variance_, np.average(lengths**2, weights=weights), rtol=1e-10)


def test_momenta_are_those_of_logarithms(rng):
    space = DLNObservableManifold(n=3, depth=3)
    points = ball(rng, space, 6, 0.2)
    samples = Points(points, space.stratum.frame(points))
    weights = np.full(6, 1 / 6)
    found, _ = joint_mean.joint_mean(points[0], samples, weights, 50, lambda n: None, 1e-13)
    mean = found.frame.compose(found.frame.values)
    logs = space.metric.log(points, mean)
    assert (found.residual < 1e-11).all()
    np.testing.assert_allclose(
        confirmed.velocity_of(found.frame, found.momentum), logs, atol=1e-10 * np.abs(logs).max()
    )
    np.testing.assert_allclose(found.length, space.metric.dist(points, mean), rtol=1e-11)


def test_paths_may_turn_the_other_way(rng):
    """Some of these are nearer by the rotation that is longer; energies are those of logs."""
    space = DLNObservableManifold(n=3, depth=3)
    points = gaussian(rng, 150)
    frame, mean = space.stratum.frame(points), space.stratum.frame(points[0])
    problem, rivals = joint_mean._posed(
        mean.compose(mean.roots), mean.polar, frame, np.full(len(points), 1.0)
    )
    begun, rows, modes = joint.begun(problem), np.arange(150), np.zeros((150, 14, 3, 3))
    ends = joint.joined_ends(problem, rows, problem.facing, begun.mean)
    joint_mean._minimized(ends, modes, 1, 0.0, 1e-3, np.full(150, np.inf))
    plain = begun.switched(rows, problem.facing, modes)
    close = joint_mean._close(plain, rivals)
    won = close.energy < plain.energies[rivals.rows[close.place]]
    best, others = joint_mean._switched(plain, rivals, close.take(won))
    expected = space.metric.squared_dist(points, points[0]) * space.depth / 2
    np.testing.assert_allclose(best.energies, expected, rtol=1e-3, atol=1e-12)
    lost = plain.energies > (1 + 1e-3) * expected + 1e-12
    assert 0 < lost.sum() < len(rivals.rows)
    again = joint_mean._close(best, others)
    assert (again.energy > (1 - 1e-5) * best.energies[others.rows[again.place]]).all()


def test_longer_ways_that_make_a_better_mean(rng, monkeypatch):
    """Of means of far points, that for which some paths were traded is never worse."""
    space, better = DLNObservableManifold(n=3, depth=3), 0
    for _ in range(6):
        points = gaussian(rng, 12)
        monkeypatch.setattr(joint_mean, "_TRADED", np.inf)
        plain = FrechetMean(space).fit(points).variance_
        monkeypatch.undo()
        traded = FrechetMean(space).fit(points)
        assert traded.variance_ <= plain * (1 + 1e-9)
        better += traded.variance_ < plain * (1 - 1e-6)
        logs = space.metric.log(points, traded.estimate_)
        assert space.metric.norm(logs.mean(axis=0), traded.estimate_) <= 1e-10
    assert better


def test_paths_that_were_not_compared_are_solved(rng, solved, monkeypatch):
    space = DLNObservableManifold(n=3, depth=3)
    points = gaussian(rng, 40)
    expected = FrechetMean(space).fit(points).variance_
    monkeypatch.setattr(AlignedPairs, "rivals", lambda pairs, thorough=False: [])
    del solved[:]
    found = FrechetMean(space).fit(points)
    assert 0 < solved[0] < 40
    logs = space.metric.log(points, found.estimate_)
    assert space.metric.norm(logs.mean(axis=0), found.estimate_) <= 1e-10
    assert found.variance_ < 1.1 * expected


def test_left_to_others(rng):
    for space in (
        DLNObservableManifold(n=2, depth=np.inf),
        DLNObservableManifold(n=3, depth=3, rank=2),
    ):
        points = space.random_point(3)
        samples, weights = Points(points, space.stratum.frame(points)), np.full(3, 1 / 3)
        assert joint_mean.joint_mean(points[0], samples, weights, 9, lambda n: None, 1e-13) is None
