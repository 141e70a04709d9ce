"""geomstats' own test cases for fibre bundles and quotient metrics, run on the layers."""

import inspect

import pytest
from geomstats.test.random import RandomDataGenerator
from geomstats.test_cases.geometry.fiber_bundle import FiberBundleTestCase
from geomstats.test_cases.geometry.quotient_metric import QuotientMetricTestCase

from dln_manifolds import BalancedManifold, DLNObservableManifold, DLNQuotientMetric


class DataGenerator(RandomDataGenerator):
    """Points near each other, short vectors."""

    def random_point(self, n_points=1):
        return self.space.random_point(n_points, bound=0.3)


# Left out: `log_after_align_is_horizontal` (the point nearest in the ambient space is not the
# nearest along the manifold) and `integrability_tensor_derivative` (no bundle of geomstats' own
# beyond Kendall's has it).
BUNDLE_TESTS = [
    "riemannian_submersion_vec",
    "riemannian_submersion_belongs_to_base",
    "lift_vec",
    "lift_belongs_to_total_space",
    "riemannian_submersion_after_lift",
    "tangent_riemannian_submersion_vec",
    "tangent_riemannian_submersion_is_tangent",
    "align_vec",
    "horizontal_projection_vec",
    "horizontal_projection_is_horizontal",
    "vertical_projection_vec",
    "vertical_projection_is_vertical",
    "tangent_riemannian_submersion_after_vertical_projection",
    "is_horizontal_vec",
    "is_vertical_vec",
    "horizontal_lift_vec",
    "horizontal_lift_is_horizontal",
    "tangent_riemannian_submersion_after_horizontal_lift",
    "integrability_tensor_vec",
]
# Name, absolute tolerance.
QUOTIENT_TESTS = {
    "inner_product_is_symmetric": 1e-12,
    "norm_is_positive": 0.0,
    "normalize_is_unitary": 1e-12,
    "squared_dist_is_symmetric": 1e-10,
    "squared_dist_is_positive": 0.0,
    "dist_is_log_norm": 1e-10,
    "dist_is_symmetric": 1e-10,
    "dist_point_to_itself_is_zero": 0.0,
    "dist_triangle_inequality": 1e-12,
    "exp_belongs": 0.0,
    "log_is_tangent": 0.0,
    "exp_after_log": 1e-9,
    "log_after_exp": 1e-8,
    "geodesic_bvp_vec": 1e-9,
    "geodesic_boundary_points": 1e-9,
    "geodesic_bvp_reverse": 1e-9,
    "geodesic_ivp_vec": 1e-10,
    "exp_geodesic_ivp": 1e-10,
}
SIZES = [(2, 2), (2, 3), (3, 2), (3, 3)]


def run(case, name, **arguments):
    """Run one of geomstats' tests with those of the arguments that it takes."""
    test = getattr(case, f"test_{name}")
    taken = inspect.signature(test).parameters
    test(**{key: value for key, value in arguments.items() if key in taken})


@pytest.mark.parametrize("name", BUNDLE_TESTS)
@pytest.mark.parametrize(("n", "depth"), SIZES)
def test_fiber_bundle_test_case(name, n, depth):
    case = FiberBundleTestCase()
    case.total_space = BalancedManifold(n, depth)
    case.base = DLNObservableManifold(n, depth)
    case.data_generator = DataGenerator(case.total_space)
    case.base_data_generator = DataGenerator(case.base)
    run(case, name, n_points=3, n_reps=2, atol=1e-10)


@pytest.mark.parametrize("name", QUOTIENT_TESTS)
@pytest.mark.parametrize(("n", "depth"), SIZES)
def test_quotient_metric_test_case(name, n, depth):
    case = QuotientMetricTestCase()
    case.space = DLNObservableManifold(n, depth, equip=False)
    case.space.equip_with_metric(DLNQuotientMetric)
    case.data_generator = DataGenerator(case.space, amplitude=4.0)
    run(case, name, n_points=3, n_reps=2, n_times=3, atol=QUOTIENT_TESTS[name])
