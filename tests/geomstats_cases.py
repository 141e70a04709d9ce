"""geomstats' own test cases: which ones are run, how exactly they must hold, and on what data.

geomstats' `TestData` tables would run each case three times from random data and pass if one of
them does; here every case runs once, from the random state that the tests start with.
"""

import inspect
import math

import geomstats.backend as gs
import numpy as np
from geomstats.test.random import RandomDataGenerator
from geomstats.test_cases.geometry.fiber_bundle import FiberBundleTestCase
from geomstats.test_cases.geometry.manifold import ManifoldTestCase
from geomstats.test_cases.geometry.mixins import ProjectionTestCaseMixins
from geomstats.test_cases.geometry.quotient_metric import QuotientMetricTestCase
from geomstats.test_cases.geometry.riemannian_metric import RiemannianMetricTestCase

from dln_manifolds import BalancedManifold, DLNObservableManifold, DLNQuotientMetric

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
MATRIX_TESTS = {
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
    "parallel_transport_ivp_norm": 1e-9,
    "parallel_transport_bvp_norm": 1e-9,
}
# Of lower rank not every matrix is tangent.
LOWER_TESTS = MATRIX_TESTS | {
    "log_is_tangent": 1e-12,
    "parallel_transport_ivp_transported_is_tangent": 1e-9,
    "parallel_transport_bvp_transported_is_tangent": 1e-9,
}
# Layers are balanced, and vectors tangent, up to rounding; their transport is exact.
LAYER_TESTS = MATRIX_TESTS | {
    "squared_dist_is_symmetric": 1e-7,
    "dist_is_symmetric": 1e-8,
    "exp_belongs": 1e-12,
    "log_is_tangent": 1e-9,
    "geodesic_bvp_vec": 1e-9,
    "geodesic_bvp_reverse": 1e-8,
    "geodesic_bvp_belongs": 1e-12,
    "geodesic_ivp_belongs": 1e-12,
    "parallel_transport_ivp_vec": 1e-9,
    "parallel_transport_ivp_transported_is_tangent": 1e-9,
    "parallel_transport_bvp_transported_is_tangent": 1e-9,
    "parallel_transport_ivp_norm": 1e-10,
    "parallel_transport_bvp_norm": 1e-10,
}
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
# Through layers: what needs no transport, no matrices and no second check of signs.
QUOTIENT_TESTS = {
    name: tolerance
    for name, tolerance in MATRIX_TESTS.items()
    if name not in ("metric_matrix_is_spd", "dist_is_positive")
    and not name.startswith("parallel_transport")
    and not name.endswith(("bvp_belongs", "ivp_belongs"))
} | {"dist_is_log_norm": 1e-10, "geodesic_bvp_vec": 1e-9, "log_is_tangent": 1e-12}

N_TIMES = 3


class DataGenerator(RandomDataGenerator):
    """Points near each other, points to project, vectors shortened by the amplitude.

    Vectors are drawn with a standard deviation of one in the metric: divided by the amplitude,
    geodesics stay on the manifold, and within the ball where log inverts exp.
    """

    def random_point(self, n_points=1):
        return self.space.random_point(n_points, bound=0.3)

    def point_to_project(self, n_points=1):
        points = np.random.normal(size=(n_points, *self.space.shape))
        if isinstance(self.space, DLNObservableManifold):
            # singular
            points[..., 0, :] = points[..., -1, :] if self.space.shape[0] > 1 else 0.0
        return gs.array(points[0] if n_points == 1 else points)


class SpaceCase(ManifoldTestCase, ProjectionTestCaseMixins):
    pass


def run(case, name, **arguments):
    """Run one of geomstats' tests with those of the arguments that it takes."""
    test = getattr(case, f"test_{name}")
    taken = inspect.signature(test).parameters
    arguments = {"n_reps": 2, "n_times": N_TIMES} | arguments
    test(**{key: value for key, value in arguments.items() if key in taken})


def run_space(space, name, amplitude, n_points):
    """Run a test of the space itself."""
    case = SpaceCase()
    case.space = space
    case.data_generator = DataGenerator(space, amplitude=amplitude)
    exact = space.stratum.is_open
    run(case, name, n_points=n_points, atol=0.0 if exact else 1e-9, expected=space.dim)


def run_metric(space, name, amplitude, n_points):
    """Run a test of the metric."""
    case = RiemannianMetricTestCase()
    case.space = space
    case.data_generator = DataGenerator(space, amplitude=amplitude)
    tests = MATRIX_TESTS if space.stratum.is_open else LOWER_TESTS
    tests = tests if isinstance(space, DLNObservableManifold) else LAYER_TESTS
    run(case, name, n_points=n_points, atol=tests[name])


def run_bundle(name, **network):
    """Run a test of the bundle of layers over their end-to-end matrices."""
    case = FiberBundleTestCase()
    case.total_space, case.base = BalancedManifold(**network), DLNObservableManifold(**network)
    case.data_generator = DataGenerator(case.total_space)
    case.base_data_generator = DataGenerator(case.base)
    run(case, name, n_points=3, atol=1e-10)


def run_quotient(name, **network):
    """Run a test of the metric that geomstats makes of the bundle."""
    case = QuotientMetricTestCase()
    case.space = DLNObservableManifold(**network, equip=False)
    case.space.equip_with_metric(DLNQuotientMetric)
    case.data_generator = DataGenerator(case.space, amplitude=4.0)
    run(case, name, n_points=3, atol=QUOTIENT_TESTS[name])


# Spaces, and factors by which vectors are shortened: several times as long as elsewhere.
LONG = {
    "matrices": (DLNObservableManifold(3, 4), 2.0),
    "infinite depth": (DLNObservableManifold(3, math.inf), 0.5),
    "layers": (BalancedManifold(2, 3), 2.0),
}


def run_long_transport(kind, how):
    """Run geomstats' test that transport keeps lengths along long geodesics, at one trial."""
    space, amplitude = LONG[kind]
    run_metric(space, f"parallel_transport_{how}_norm", amplitude, 2)
