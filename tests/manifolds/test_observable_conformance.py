"""geomstats' own test cases, run against the space."""

import inspect

import numpy as np
import pytest
from geomstats.test.random import RandomDataGenerator
from geomstats.test_cases.geometry.manifold import ManifoldTestCase
from geomstats.test_cases.geometry.mixins import ProjectionTestCaseMixins
from geomstats.test_cases.geometry.riemannian_metric import RiemannianMetricTestCase

from dln_manifolds import DLNObservableManifold

# Vectors are drawn with a standard deviation of one in the metric. A third of that keeps geodesics
# within GL(n), and log within the ball where it inverts exp.
AMPLITUDE = 3.0


class DataGenerator(RandomDataGenerator):
    """Points near the identity, matrices to project, short vectors."""

    def random_point(self, n_points=1):
        return self.space.random_point(n_points, bound=0.3)

    def point_to_project(self, n_points=1):
        points = np.random.normal(size=(n_points, *self.space.shape))
        points[..., 0, :] = points[..., 1, :]
        return points[0] if n_points == 1 else points


class SpaceCase(ManifoldTestCase, ProjectionTestCaseMixins):
    pass


class MetricCase(RiemannianMetricTestCase):
    pass


N_TIMES = 3
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
    "metric_matrix_is_spd": 1e-12,
    "inner_product_is_symmetric": 1e-12,
    "norm_is_positive": 0.0,
    "normalize_is_unitary": 1e-12,
    "squared_dist_is_symmetric": 1e-10,
    "squared_dist_is_positive": 0.0,
    "dist_is_log_norm": 1e-11,
    "dist_is_symmetric": 1e-10,
    "dist_is_positive": 0.0,
    "dist_point_to_itself_is_zero": 0.0,
    "dist_triangle_inequality": 1e-12,
    "exp_belongs": 0.0,
    "log_is_tangent": 0.0,
    "exp_after_log": 1e-9,
    "log_after_exp": 1e-8,
    "geodesic_bvp_vec": 1e-10,
    "geodesic_boundary_points": 1e-9,
    "geodesic_bvp_reverse": 1e-9,
    "geodesic_bvp_belongs": 0.0,
    "geodesic_ivp_vec": 1e-10,
    "geodesic_ivp_belongs": 0.0,
    "exp_geodesic_ivp": 1e-10,
    "parallel_transport_ivp_vec": 1e-8,
    "parallel_transport_ivp_transported_is_tangent": 0.0,
    "parallel_transport_bvp_transported_is_tangent": 0.0,
    "parallel_transport_ivp_norm": 1e-2,
    "parallel_transport_bvp_norm": 1e-2,
}


def run(case, name, **arguments):
    """Run one of geomstats' tests with those of the arguments that it takes."""
    test = getattr(case, f"test_{name}")
    taken = inspect.signature(test).parameters
    test(**{key: value for key, value in arguments.items() if key in taken})


def prepare(case, n, depth):
    case.space = DLNObservableManifold(n, depth)
    case.data_generator = DataGenerator(case.space, amplitude=AMPLITUDE)
    return case


@pytest.mark.parametrize("n_points", [1, 3])
@pytest.mark.parametrize("name", SPACE_TESTS)
def test_manifold_test_case(name, n_points):
    run(prepare(SpaceCase(), 3, 4), name, n_points=n_points, n_reps=2, atol=0.0)


@pytest.mark.parametrize(
    ("name", "n_points"),
    # those on vectorization repeat a single point by themselves
    [(name, k) for name in METRIC_TESTS for k in ([1] if name.endswith("_vec") else [1, 3])],
)
def test_riemannian_metric_test_case(name, n_points):
    run(
        prepare(MetricCase(), 3, 4),
        name,
        n_points=n_points,
        n_reps=2,
        n_times=N_TIMES,
        atol=METRIC_TESTS[name],
    )


@pytest.mark.parametrize("depth", [1, 1.5, 2, 10])
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(
    "name", ["exp_after_log", "log_after_exp", "dist_is_symmetric", "geodesic_bvp_reverse"]
)
def test_riemannian_metric_test_case_in_other_spaces(name, n, depth):
    run(
        prepare(MetricCase(), n, depth),
        name,
        n_points=2,
        n_times=N_TIMES,
        atol=METRIC_TESTS[name],
    )


def test_dimension():
    run(prepare(SpaceCase(), 3, 4), "dim", expected=9)
