"""Bounds of distances as methods of the metrics, and where a solver of pymanopt uses them."""

import warnings

import autograd
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pymanopt.optimizers import SteepestDescent, TrustRegions

from dln_manifolds import BalancedManifold, DLNObservableManifold, costs, pymanopt_problem
from dln_manifolds.costs import frechet


@pytest.mark.parametrize(("n", "depth"), [(2, 1), (2, 2), (3, 3), (4, 2), (2, 6)])
def test_distances_of_layers_lie_between(n, depth):
    space = BalancedManifold(n, depth)
    space.equip_with_metric(on_failure="nan")
    W, V = space.random_point(20), space.random_point(20)
    dist, (lower, upper) = space.metric.dist(W, V), space.metric.bounds(V, W)
    solved = np.isfinite(dist)
    assert solved.mean() >= 0.8
    assert (lower <= dist * (1 + 1e-12))[solved].all()
    assert (upper >= dist * (1 - 1e-12))[solved].all()
    assert (upper <= 1.3 * dist)[solved].all()
    chord = np.linalg.norm((W - V).reshape(20, -1), axis=1)
    below = DLNObservableManifold(n, depth).metric
    ends = [space.end_to_end(layers) for layers in (V, W)]
    expected = np.maximum(chord, below.bounds(*ends).lower)
    assert_allclose(lower, expected, rtol=1e-12)


@pytest.mark.parametrize("space", [DLNObservableManifold(3, 2.5), BalancedManifold(2, 3)], ids=str)
class TestBothMetrics:
    def test_batches_broadcast(self, space):
        W, V = space.random_point(3), space.random_point(4)
        bounds = space.metric.bounds(V, W[:, None])
        assert bounds.lower.shape == bounds.upper.shape == (3, 4)
        single = space.metric.bounds(V[1], W[2])
        assert_allclose(bounds.lower[2, 1], single.lower, rtol=1e-12)
        assert_allclose(bounds.upper[2, 1], single.upper, rtol=1e-6)
        assert single.lower.shape == ()

    def test_the_flattened_view_has_them(self, space):
        W, V = space.random_point(3), space.random_point(3)
        view = space.flattened()
        found = view.metric.bounds(view.flatten(V), view.flatten(W))
        assert_array_equal(found, space.metric.bounds(V, W))

    def test_single_precision_stays(self, space):
        W, V = (space.random_point(3).astype(np.float32) for _ in range(2))
        lower, upper = space.metric.bounds(V, W)
        assert lower.dtype == upper.dtype == np.float32
        assert (lower <= upper).all()

    def test_a_point_is_at_no_distance_from_itself(self, space):
        W = space.random_point(5)
        lower, upper = space.metric.bounds(W, W)
        assert_array_equal(lower, 0)
        assert (upper <= 1e-11).all()

    def test_components_are_infinitely_far_apart(self, space):
        W = space.random_point()
        V = W.copy()
        V[..., 0] *= -1
        V = space.projection(V)
        lower, upper = space.metric.bounds(V, W)
        assert np.isfinite(lower)
        assert upper == np.inf

    def test_derivatives_are_refused(self, space):
        W = space.random_point()
        with pytest.raises(NotImplementedError, match="differentiate dist"):
            autograd.grad(lambda V: space.metric.bounds(V, W).lower)(2 * W)


@pytest.fixture
def solved(monkeypatch):
    """The number of logarithms that a cost solves, counted."""
    counts = []
    plain = frechet.solve_log

    def counted(system, start, end, **options):
        counts.append(len(start.value))
        return plain(system, start, end, **options)

    monkeypatch.setattr(frechet, "solve_log", counted)
    return counts


class TestTrialsFarOut:
    """Step sizes of pymanopt begin at length one, wherever the data are."""

    @staticmethod
    def covariances(n, count):
        samples = np.random.default_rng(3).normal(size=(count, n, 200))
        return samples @ samples.swapaxes(-1, -2) / 200

    @pytest.mark.parametrize("optimizer", [SteepestDescent, TrustRegions])
    def test_data_in_small_units_have_their_mean_soon(self, solved, optimizer):
        C, scale = self.covariances(4, 6), 1e-10
        space = DLNObservableManifold(4, 2)
        problem = pymanopt_problem(space, costs.FrechetVariance(C * scale, 2))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            solver = optimizer(verbosity=0, max_iterations=30, min_gradient_norm=1e-10)
            result = solver.run(problem, initial_point=C[0] * scale)
        mean = space.metric.dist(result.point / scale, C)
        best = pymanopt_problem(space, costs.FrechetVariance(C, 2))
        expected = TrustRegions(verbosity=0).run(best, initial_point=C[0]).cost
        assert_allclose(np.mean(mean**2), expected, rtol=1e-3)
        assert len(solved) < 150

    def test_refused_trials_solve_nothing(self, solved):
        C = self.covariances(3, 5)
        cost = costs.FrechetVariance(C, 3)
        problem = pymanopt_problem(DLNObservableManifold(3, 3), cost)
        far, start = 1e20 * C[1], C[0]
        # Before a solver has accepted anything, all is worked out.
        exact = problem.cost(far)
        assert len(solved) == 1
        value = problem.cost(start)
        problem.euclidean_gradient(start)
        assert len(solved) == 2
        refused = problem.cost(1.5 * far)
        assert len(solved) == 2
        assert 1e3 * value < refused <= cost(1.5 * far)
        assert cost.lower_bound(far) <= exact
        # What is not far above has its value, and the cost itself has it everywhere.
        assert problem.cost(4 * start) == cost(4 * start)

    def test_a_run_may_start_far_out_after_another(self):
        C = self.covariances(3, 5)
        space = DLNObservableManifold(3, 2)
        problem = pymanopt_problem(space, costs.FrechetVariance(C, 2))
        near = SteepestDescent(verbosity=0).run(problem, initial_point=C[0])
        far = SteepestDescent(verbosity=0).run(problem, initial_point=1e5 * C[0])
        assert_allclose(far.cost, near.cost, rtol=1e-8)

    def test_bounds_of_sums(self):
        C = self.covariances(3, 5)
        variance, entropy = costs.FrechetVariance(C, 3), costs.Entropy(3)
        bound = variance.lower_bound(2 * C[0])
        assert 0 < bound <= variance(2 * C[0])
        assert (2 * variance + variance / 2).lower_bound(2 * C[0]) == pytest.approx(2.5 * bound)
        for other in (variance - entropy, variance + entropy, -variance):
            assert other.lower_bound(C[0]) == -np.inf
