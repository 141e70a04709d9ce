"""Logs that start from earlier ones: fewer Hessian products, the same results; anew on failure."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dln_manifolds import DLNObservableManifold
from dln_manifolds.geodesics import multilevel, polar_paths, root_paths
from dln_manifolds.geodesics.system import Status
from dln_manifolds.geometry.facing import AlignedPairs

DEPTHS = [1.5, 2, 4, 30, np.inf]


@pytest.fixture
def products(monkeypatch):
    """Count Hessian products, of each member."""
    counted = []
    for module in (polar_paths, root_paths):

        def product(self, direction, old=module.QuadraticModel.product):
            counted.append(len(direction))
            return old(self, direction)

        monkeypatch.setattr(module.QuadraticModel, "product", product)

    def spent(call):
        counted.clear()
        return call(), sum(counted)

    return spent


def drawn(n, depth, seed, eps, count=6):
    """Return a metric, pairs of different sizes, and pairs near these."""
    rng = np.random.default_rng(seed)
    first, last = rng.normal(size=(2, count, n, n))
    last *= np.geomspace(0.3, 3, count)[:, None, None]
    apart = np.linalg.slogdet(first)[0] != np.linalg.slogdet(last)[0]
    last[apart, 0] *= -1
    near = [x + eps * rng.normal(size=x.shape) for x in (first, last)]
    return DLNObservableManifold(n, depth).metric, (last, first), (near[1], near[0])


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("n", [2, 3, 6])
def test_near_pairs_cost_less(products, n, depth):
    metric, pairs, near = drawn(n, depth, 0, 1e-7)
    earlier = metric.solve_log(*pairs)
    cold, anew = products(lambda: metric.solve_log(*near))
    warm, fewer = products(lambda: metric.solve_log(*near, warm_start=earlier))
    assert warm.success.all()
    assert fewer < 0.7 * anew
    goal = 10 * metric.system.goal(metric.tolerance)
    assert_allclose(warm.length, cold.length, rtol=goal)
    size = np.abs(cold.initial_velocity).max(axis=(1, 2), keepdims=True)
    assert np.abs((warm.initial_velocity - cold.initial_velocity) / size).max() < 1e3 * goal
    middle = warm(0.5)
    assert_allclose(middle, cold(0.5), atol=1e-7 * np.abs(middle).max())


@pytest.mark.parametrize("depth", [4, 30])
def test_the_other_way_is_tried_as_before(depth):
    """Polar factors turn by nearly pi, and the way that was shorter before no longer is."""
    rng = np.random.default_rng(3)
    metric = DLNObservableManifold(3, depth).metric
    first, last = rng.normal(size=(2, 200, 3, 3))
    last[np.linalg.slogdet(first)[0] != np.linalg.slogdet(last)[0], 0] *= -1
    turns = [np.linalg.svd(x) for x in (first, last)]
    angle = np.trace(
        (turns[1][0] @ turns[1][2]) @ np.swapaxes(turns[0][0] @ turns[0][2], 1, 2), axis1=1, axis2=2
    )
    wide = angle < 1 + 2 * np.cos(2.7)
    first, last = first[wide], last[wide]
    assert len(first) > 5
    nudged = last + 1e-5 * rng.normal(size=last.shape)
    cold = metric.solve_log(nudged, first)
    warm = metric.solve_log(nudged, first, warm_start=metric.solve_log(last, first))
    assert_allclose(warm.length, cold.length, rtol=1e-10)


@pytest.mark.parametrize("depth", [2, 30])
def test_a_start_that_bends_too_much_is_not_taken(monkeypatch, depth):
    metric, pairs, near = drawn(3, depth, 1, 1e-7)
    earlier, cold = metric.solve_log(*pairs), metric.solve_log(*near)
    resumed = AlignedPairs.resumed

    def astray(self, old, rows):
        found, frame, half, stretch = resumed(self, old, rows)
        bent = np.linspace(1, -40, stretch.shape[1])[:, None, None] * stretch[:, ::-1]
        return found, frame, half, bent

    monkeypatch.setattr(AlignedPairs, "resumed", astray)
    warm = metric.solve_log(*near, warm_start=earlier)
    assert (warm.initial_velocity == cold.initial_velocity).all()


@pytest.mark.parametrize("depth", [2, 30])
def test_a_start_that_fails_is_forgotten(monkeypatch, depth):
    metric, pairs, near = drawn(3, depth, 1, 1e-7)
    earlier, cold = metric.solve_log(*pairs), metric.solve_log(*near)
    descend, asked = multilevel._Levels.descend, []

    def failing(self, pending, guess, levels=None):
        asked.append((levels, len(pending)))
        if levels is None:
            return descend(self, pending, guess)
        best = self.best
        best.residual[pending], best.crossing[pending] = 1e-3, 0.5
        best.status[pending[::2]] = Status.CROSSED
        return None

    monkeypatch.setattr(multilevel._Levels, "descend", failing)
    warm = metric.solve_log(*near, warm_start=earlier)
    assert asked[0][0] is not None
    assert asked[0][1] == len(pairs[0])
    assert_allclose(warm.length, cold.length, rtol=1e-10)
    assert warm.success.all()


@pytest.mark.parametrize("depth", DEPTHS)
def test_pairs_far_from_the_earlier_ones_start_anew(products, depth):
    metric, pairs, far = drawn(3, depth, 2, 1e-2)
    earlier = metric.solve_log(*pairs)
    cold, anew = products(lambda: metric.solve_log(*far))
    warm, same = products(lambda: metric.solve_log(*far, warm_start=earlier))
    assert same == anew
    assert (warm.initial_velocity == cold.initial_velocity).all()


def test_members_without_an_earlier_geodesic_start_anew():
    metric, pairs, near = drawn(3, 4, 4, 1e-7)
    earlier = metric.solve_log(*pairs)
    earlier.status[:2] = Status.STALLED
    warm = metric.solve_log(*near, warm_start=earlier)
    assert_allclose(warm.length, metric.solve_log(*near).length, rtol=1e-10)
    for trivial in (pairs[0][:0], pairs[0][0]):
        alone = metric.solve_log(trivial, trivial)
        assert (
            metric.solve_log(trivial, trivial, warm_start=alone).length.shape
            == (trivial.shape[:-2])
        )


@pytest.mark.parametrize(
    "space",
    [
        DLNObservableManifold(3, 1),
        DLNObservableManifold(shape=(4, 3), depth=3),
        DLNObservableManifold(shape=(4, 3), rank=2, depth=4),
    ],
)
def test_other_kinds_of_matrices_start_anew(space):
    rng = np.random.default_rng(5)
    point, base = space.random_point(2)
    if space.shape == (3, 3):
        point = base + 0.1 * rng.normal(size=(3, 3))
    cold = space.metric.solve_log(point, base)
    warm = space.metric.solve_log(point, base, warm_start=cold)
    assert_allclose(warm.initial_velocity, cold.initial_velocity, rtol=1e-10, atol=1e-12)


def test_wrong_starts_are_refused():
    metric, pairs, _ = drawn(3, 4, 6, 0)
    solution = metric.solve_log(*pairs)
    with pytest.raises(TypeError, match="warm_start must be a solution"):
        metric.solve_log(*pairs, warm_start=solution.initial_velocity)
    with pytest.raises(ValueError, match="of this metric"):
        DLNObservableManifold(3, 5).metric.solve_log(*pairs, warm_start=solution)
    flown = metric.solve_exp(solution.initial_velocity, pairs[1])
    with pytest.raises(ValueError, match="of this metric"):
        metric.solve_log(*pairs, warm_start=flown)
    with pytest.raises(ValueError, match="batch shape"):
        metric.solve_log(pairs[0][:3], pairs[1][:3], warm_start=solution)
