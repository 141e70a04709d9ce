"""geomstats' own test cases on the backend of this process."""

import inspect

import geomstats.backend as gs
import numpy as np
import pytest
from geomstats.test.random import RandomDataGenerator
from geomstats.test_cases.geometry.manifold import ManifoldTestCase
from geomstats.test_cases.geometry.mixins import ProjectionTestCaseMixins
from geomstats.test_cases.geometry.riemannian_metric import RiemannianMetricTestCase

from dln_manifolds import BalancedManifold, DLNObservableManifold

# A space, and the factor by which random vectors are shortened: geodesics stay within it.
SPACES = {
    "matrices": (DLNObservableManifold(2, 3), 3.0),
    "matrices, real depth": (DLNObservableManifold(2, 1.5), 6.0),
    "layers": (BalancedManifold(2, 3), 6.0),
}
SPACE_TESTS = [
    "not_belongs",
    "random_point_belongs",
    "random_point_shape",
    "to_tangent_vec",
    "to_tangent_is_tangent",
    "regularize_belongs",
    "random_tangent_vec_is_tangent",
    "random_tangent_vec_shape",
    "projection_vec",
    "projection_belongs",
]
# Name, absolute tolerance.
METRIC_TESTS = {
    "inner_product_is_symmetric": 1e-12,
    "norm_is_positive": 0.0,
    "normalize_is_unitary": 1e-12,
    "squared_dist_is_symmetric": 1e-7,
    "dist_is_log_norm": 1e-10,
    "dist_point_to_itself_is_zero": 0.0,
    "dist_triangle_inequality": 1e-12,
    "exp_belongs": 1e-12,
    "log_is_tangent": 1e-9,
    "exp_after_log": 1e-8,
    "log_after_exp": 1e-7,
    "geodesic_bvp_vec": 1e-8,
    "geodesic_boundary_points": 1e-8,
    "geodesic_bvp_reverse": 1e-7,
    "geodesic_ivp_vec": 1e-9,
    "exp_geodesic_ivp": 1e-9,
    "parallel_transport_ivp_vec": 1e-8,
    "parallel_transport_ivp_norm": 1e-2,
    "parallel_transport_bvp_transported_is_tangent": 1e-9,
}


class SpaceCase(ManifoldTestCase, ProjectionTestCaseMixins):
    """Tests of a manifold."""


class MetricCase(RiemannianMetricTestCase):
    """Tests of a metric."""


class DataGenerator(RandomDataGenerator):
    """Points near each other, points to project, short vectors."""

    def random_point(self, n_points=1):
        return self.space.random_point(n_points, bound=0.3)

    def point_to_project(self, n_points=1):
        points = gs.random.normal(size=(n_points, *self.space.shape))
        return points[0] if n_points == 1 else points


@pytest.fixture(autouse=True)
def seed():
    gs.random.seed(0)
    np.random.seed(0)


def run(case, name, kind, **arguments):
    """Run one of geomstats' tests with those of the arguments that it takes."""
    case.space, amplitude = SPACES[kind]
    case.data_generator = DataGenerator(case.space, amplitude=amplitude)
    test = getattr(case, f"test_{name}")
    taken = inspect.signature(test).parameters
    test(**{key: value for key, value in arguments.items() if key in taken})


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("name", SPACE_TESTS)
def test_manifold_test_case(name, kind):
    run(SpaceCase(), name, kind, n_points=2, n_reps=2, atol=1e-9)


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("name", METRIC_TESTS)
def test_riemannian_metric_test_case(name, kind):
    n_points = 1 if name.endswith("_vec") else 2
    run(MetricCase(), name, kind, n_points=n_points, n_reps=2, n_times=3, atol=METRIC_TESTS[name])
