"""geomstats' own test cases, run against balanced layers."""

import pytest
from geomstats_cases import LAYER_TESTS, SPACE_TESTS, run_metric, run_space

from dln_manifolds import BalancedManifold

AMPLITUDE = 6.0
# What is solved for.
SOLVED = ["exp_after_log", "log_after_exp", "dist_is_symmetric", "parallel_transport_ivp_norm"]
ANY_WIDTHS = [
    BalancedManifold(widths=(4, 3, 5)),
    BalancedManifold(widths=(4, 3, 5), rank=2),
    BalancedManifold(widths=(3, 5, 3)),
    BalancedManifold(widths=(4, 2, 3, 4)),
]


@pytest.mark.parametrize("n_points", [1, 3])
@pytest.mark.parametrize("name", SPACE_TESTS)
def test_manifold_test_case(name, n_points):
    run_space(BalancedManifold(2, 3), name, AMPLITUDE, n_points)


@pytest.mark.parametrize(
    ("name", "n_points"),
    # those on vectorization repeat a single point by themselves
    [(name, k) for name in LAYER_TESTS for k in ([1] if name.endswith("_vec") else [1, 3])],
)
def test_riemannian_metric_test_case(name, n_points):
    run_metric(BalancedManifold(2, 3), name, AMPLITUDE, n_points)


@pytest.mark.parametrize(("n", "depth"), [(1, 3), (2, 1), (3, 2), (3, 4)])
@pytest.mark.parametrize("name", SOLVED)
def test_riemannian_metric_test_case_in_other_spaces(name, n, depth):
    run_metric(BalancedManifold(n, depth), name, AMPLITUDE, 2)


@pytest.mark.parametrize(("n", "depth"), [(1, 3), (2, 1), (3, 2)])
@pytest.mark.parametrize("name", ["dim", *SPACE_TESTS])
def test_manifold_test_case_in_other_spaces(name, n, depth):
    run_space(BalancedManifold(n, depth), name, AMPLITUDE, 2)


@pytest.mark.parametrize("space", ANY_WIDTHS, ids=repr)
@pytest.mark.parametrize("name", ["dim", *SPACE_TESTS])
def test_manifold_test_case_of_any_widths(space, name):
    run_space(space, name, AMPLITUDE, 2)


@pytest.mark.parametrize(
    ("space", "name"),
    [
        (space, name)
        for space in ANY_WIDTHS
        for name in (LAYER_TESTS if space.rank < min(space.widths) else SOLVED)
    ],
    ids=str,
)
def test_riemannian_metric_test_case_of_any_widths(space, name):
    run_metric(space, name, AMPLITUDE, 1 if name.endswith("_vec") else 2)
