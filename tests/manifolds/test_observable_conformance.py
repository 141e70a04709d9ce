"""geomstats' own test cases, run against end-to-end matrices."""

import numpy as np
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


OTHERS = [
    DLNObservableManifold(n=3, rank=1, depth=3),
    DLNObservableManifold(shape=(5, 4), rank=2, depth=1.5),
    DLNObservableManifold(shape=(4, 5), rank=3, depth=1),
    DLNObservableManifold(widths=(5, 4, 3, 3)),
    DLNObservableManifold(shape=(1, 4), depth=300),
    DLNObservableManifold(n=3, depth=np.inf),
]


@pytest.mark.parametrize("space", OTHERS, ids=repr)
@pytest.mark.parametrize("n_points", [1, 3])
@pytest.mark.parametrize("name", ["dim", *SPACE_TESTS])
def test_manifold_test_case_of_every_shape(space, name, n_points):
    run_space(space, name, AMPLITUDE, n_points)


@pytest.mark.parametrize("space", OTHERS, ids=repr)
@pytest.mark.parametrize("name", MATRIX_TESTS)
def test_riemannian_metric_test_case_of_every_shape(space, name):
    if name == "metric_matrix_is_spd" and not space.stratum.is_open:
        pytest.skip("semidefinite beside the tangent space")
    run_metric(space, name, AMPLITUDE, 1 if name.endswith("_vec") else 3)


def test_dimension():
    run_space(DLNObservableManifold(3, 4), "dim", AMPLITUDE, 1)
