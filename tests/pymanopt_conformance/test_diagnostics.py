"""The checks themselves: what they measure, what they say, and what they draw."""

import numpy as np
import pymanopt
import pytest
from conformance import make_problem
from matplotlib.figure import Figure
from pymanopt.manifolds import Euclidean, FixedRankEmbedded, Grassmann, Sphere, Stiefel

from dln_manifolds import BalancedManifold, DLNObservableManifold, diagnostics


@pytest.mark.parametrize("slope", [1.0, 2.0, 3.0, 4.0])
def test_slope_of_a_power(slope):
    steps = diagnostics.STEPS
    noise = 1e-16 * np.abs(np.sin(1e5 * np.arange(len(steps))))
    assert diagnostics.fit_slope(steps, 3 * steps**slope + noise) == pytest.approx(slope, abs=0.05)


def test_slope_is_that_of_the_smallest_steps():
    # a small error of lower order counts, even where the higher order is larger
    steps = diagnostics.STEPS
    assert diagnostics.fit_slope(steps, steps**3 + 1e-4 * steps**2) < 2.2


def test_round_off_has_no_slope():
    steps = diagnostics.STEPS
    assert diagnostics.fit_slope(steps, np.full(len(steps), 1e-16)) == np.inf
    assert diagnostics.fit_slope(steps, np.zeros(len(steps))) == np.inf
    assert np.isnan(diagnostics.fit_slope(steps, np.where(steps > 1e-3, np.nan, steps)))


def test_result_tells_what_was_found():
    space = BalancedManifold(3, 3)
    result = diagnostics.check_hessian(make_problem(space))
    assert result
    assert result.ok is True
    assert abs(result.slope - 3) <= 0.05
    assert result.residuals.keys() == {"tangent", "linear", "symmetric"}
    assert max(result.residuals.values()) <= 1e-12
    assert result.steps.shape == result.errors.shape
    assert "slope 3.0" in result.message
    assert "Passed" in result.message


def wrong_problem(space, factor, bend=1.0):
    @pymanopt.function.numpy(space)
    def cost(x):
        return np.sum(x**3)

    @pymanopt.function.numpy(space)
    def gradient(x):
        return factor * 3 * x**2

    @pymanopt.function.numpy(space)
    def hessian(x, v):
        return bend * 6 * x * v

    return pymanopt.Problem(space, cost, euclidean_gradient=gradient, euclidean_hessian=hessian)


@pytest.mark.parametrize("factor", [1 + 1e-4, -1, np.nan])
def test_wrong_gradient_is_found(factor):
    result = diagnostics.check_gradient(wrong_problem(Euclidean(4), factor))
    assert not result
    assert "FAILED" in result.message
    assert "partial derivatives" in result.message


@pytest.mark.parametrize("bend", [1 + 1e-2, 0.0, np.nan])
def test_wrong_hessian_is_found(bend):
    problem = wrong_problem(Euclidean(4), 1.0, bend)
    assert diagnostics.check_gradient(problem)
    assert not diagnostics.check_hessian(problem)


def test_quadratic_cost_is_exact():
    space = Euclidean(4)

    @pymanopt.function.autograd(space)
    def cost(x):
        return (x**2).sum()

    result = diagnostics.check_hessian(pymanopt.Problem(space, cost))
    assert result
    assert result.slope == np.inf
    assert "round-off" in result.message


def test_first_order_retraction_is_not_of_second():
    space = Stiefel(5, 3)  # QR
    result = diagnostics.check_retraction(space, order=1)
    assert result
    assert result.slope == pytest.approx(2, abs=0.05)
    assert not diagnostics.check_retraction(space, order=2)
    with pytest.raises(ValueError, match="no exp"):
        diagnostics.check_retraction(FixedRankEmbedded(5, 4, 2), order=2)


def test_quotients_need_their_own_distance():
    space = Grassmann(6, 2)
    assert diagnostics.check_retraction(space, order=1, distance=space.dist, tolerance=1e-6)


def test_isometry_is_reported_and_demanded_on_request():
    space = Sphere(5)
    free = diagnostics.check_transport(space)
    assert free
    assert free.isometric is False
    assert free.residuals["isometric"] > 1e-8
    assert "Passed. Not isometric: a norm changed by" in free.message
    assert not diagnostics.check_transport(space, isometric=True)


class ParallelSphere(Sphere):
    """With the parallel transport along great circles."""

    def transport(self, point_a, point_b, tangent_vector_a):
        along = point_a + point_b
        return tangent_vector_a - point_b @ tangent_vector_a / (1 + point_a @ point_b) * along


def test_transports_that_are_isometric_are_called_so():
    # the metric's own transport, which is parallel
    class Parallel(BalancedManifold):
        def transport(self, point_a, point_b, tangent_vector_a):
            return self.metric.parallel_transport(tangent_vector_a, point_a, end_point=point_b)

    for space in (ParallelSphere(5), Euclidean(2, 3), Parallel(2, 2)):
        result = diagnostics.check_transport(space, isometric=True)
        assert result, result.message
        assert result.isometric is True
        assert result.residuals["isometric"] <= 1e-8
        assert result.message.endswith("Passed. Isometric.")


@pytest.mark.parametrize("space", [BalancedManifold(3, 2), DLNObservableManifold(3, 2.5)])
def test_transports_of_the_pymanopt_halves_are_not_isometric(space):
    results = {result.name: result for result in diagnostics.check_manifold(space, order=2)}
    assert results["transport"].isometric is False
    assert results["transport"].residuals["isometric"] > 1e-8
    assert all(result.isometric is None for name, result in results.items() if name != "transport")


def test_points_that_are_no_arrays_need_an_ambient_vector():
    space = FixedRankEmbedded(5, 4, 2)
    with pytest.raises(TypeError, match="ambient vector"):
        diagnostics.check_projection(space)


def test_vector_without_its_point():
    with pytest.raises(ValueError, match="point"):
        diagnostics.check_retraction(Sphere(3), tangent_vector=np.ones(3))


def test_all_checks_at_once():
    results = diagnostics.check_manifold(BalancedManifold(2, 3), order=2)
    names = ["dimension", "projection", "retraction", "transport", "exponential"]
    assert [result.name for result in results] == names
    assert all(results)
    # an embedded sphere of another dimension than it claims
    wrong = Sphere(3)
    wrong._dimension = 3
    assert not all(diagnostics.check_manifold(wrong, order=2))


def test_plot_draws_into_the_axes_it_is_given():
    result = diagnostics.check_gradient(make_problem(Sphere(4)))
    ax = Figure().subplots()
    assert result.plot(ax) is ax
    assert len(ax.lines) == 2
    assert "slope 2.0" in ax.get_title()
    exact = diagnostics.check_retraction(Euclidean(3))
    assert "round-off" in exact.plot(Figure().subplots()).get_title()
