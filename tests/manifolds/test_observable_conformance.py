"""geomstats' own test cases, run against end-to-end matrices."""

import pytest
from geomstats_cases import MATRIX_TESTS, SPACE_TESTS, run_metric, run_space

from dln_manifolds import DLNObservableManifold

AMPLITUDE = 3.0


@pytest.mark.parametrize("n_points", [1, 3])
@pytest.mark.parametrize("name", SPACE_TESTS)
def test_manifold_test_case(name, n_points):
    run_space(DLNObservableManifold(3, 4), name, AMPLITUDE, n_points)


@pytest.mark.parametrize(
    ("name", "n_points"),
    # those on vectorization repeat a single point by themselves
    [(name, k) for name in MATRIX_TESTS for k in ([1] if name.endswith("_vec") else [1, 3])],
)
def test_riemannian_metric_test_case(name, n_points):
    run_metric(DLNObservableManifold(3, 4), name, AMPLITUDE, n_points)


@pytest.mark.parametrize("depth", [1, 1.5, 2, 10])
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(
    "name", ["exp_after_log", "log_after_exp", "dist_is_symmetric", "geodesic_bvp_reverse"]
)
def test_riemannian_metric_test_case_in_other_spaces(name, n, depth):
    run_metric(DLNObservableManifold(n, depth), name, AMPLITUDE, 2)


def test_dimension():
    run_space(DLNObservableManifold(3, 4), "dim", AMPLITUDE, 1)
