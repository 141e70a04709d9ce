"""Newton's method on a mean and all paths: derivatives by differences, means by cold logarithms."""

import numpy as np
import pytest

from dln_manifolds import DLNObservableManifold
from dln_manifolds.geodesics import Points
from dln_manifolds.geometry.facing import AlignedPairs
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.statistics import FrechetMean, frechet_mean, joint


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
    problem, _ = joint._posed(polar.copy(), polar, frame.compose(frame.roots), frame, weights)
    begun = joint._begun(problem)
    at, direction = ([0.02 * rng.normal(size=x.shape) for x in begun.unknowns] for _ in range(2))
    here = begun.moved(at, 1.0)
    ahead, behind = (here.moved(direction, h) for h in (1e-4, -1e-4))
    slope = joint._dot(here.gradient, direction)
    np.testing.assert_allclose((ahead.value - behind.value) / 2e-4, slope, rtol=1e-6)
    for image, one, other in zip(
        here.hessian()(direction), ahead.gradient, behind.gradient, strict=True
    ):
        np.testing.assert_allclose(image, (one - other) / 2e-4, atol=1e-6 * np.abs(image).max())


@pytest.mark.parametrize(("n", "depth", "share"), [(3, 4, 0.05), (3, 4, 0.3), (2, 2, 0.3)])
@pytest.mark.parametrize("scale", [1.0, 1e-30])
def test_one_pass_confirms(rng, monkeypatch, n, depth, share, scale):
    space = DLNObservableManifold(n=n, depth=depth)
    points = scale * ball(rng, space, 10, share)
    weights = rng.uniform(0.5, 1.5, size=len(points))
    passes = []

    def counted(*args):
        passes.append(args)
        return evaluated(*args)

    evaluated = frechet_mean.evaluated
    monkeypatch.setattr(frechet_mean, "evaluated", counted)
    found = FrechetMean(space).fit(points, sample_weight=weights)
    assert len(passes) == 1
    logs = space.metric.log(points, found.estimate_)
    gradient = np.tensordot(weights / weights.sum(), logs, 1)
    size = np.sqrt(found.variance_)
    assert space.metric.norm(gradient, found.estimate_) <= 1e-11 * size


def test_paths_may_turn_the_other_way(rng, monkeypatch):
    """Some of these are nearer by the rotation that is longer; energies are those of logs."""
    space = DLNObservableManifold(n=3, depth=3)
    points = rng.normal(size=(150, 3, 3))
    points[np.linalg.det(points) < 0, 0] *= -1
    frame, mean = space.stratum.frame(points), space.stratum.frame(points[0])
    posed = mean.compose(mean.roots), mean.polar, frame.compose(frame.roots), frame
    problem, energies = joint._posed(*posed, np.full(len(points), 1.0))
    rivals = np.isfinite(energies)
    expected = space.metric.squared_dist(points[rivals], points[0]) * space.depth / 2
    np.testing.assert_allclose(energies[rivals], expected, rtol=1e-2)
    monkeypatch.setattr(AlignedPairs, "rivals", lambda pairs: [])
    plain, _ = joint._posed(*posed, np.full(len(points), 1.0))
    turned = np.abs(problem.facing.left - plain.facing.left).max(axis=(1, 2)) > 1e-3
    assert 0 < turned.sum() < rivals.sum()


def test_left_to_others(rng):
    for space in (
        DLNObservableManifold(n=2, depth=np.inf),
        DLNObservableManifold(n=3, depth=3, rank=2),
    ):
        points = space.random_point(3)
        samples = Points(points, space.stratum.frame(points))
        assert joint.joint_mean(points[0], samples, np.full(3, 1 / 3), 9, lambda n: None) is None
