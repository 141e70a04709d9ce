"""geomstats' own test cases on the backend of this process."""

import pytest
from geomstats_cases import (
    LAYER_TESTS,
    LONG,
    MATRIX_TESTS,
    SPACE_TESTS,
    run_long_transport,
    run_metric,
    run_space,
)

from dln_manifolds import BalancedManifold, DLNObservableManifold

# A space, the factor by which random vectors are shortened, and the tests of its metric.
SPACES = {
    "matrices": (DLNObservableManifold(2, 3), 3.0, MATRIX_TESTS),
    "matrices, real depth": (DLNObservableManifold(2, 1.5), 6.0, MATRIX_TESTS),
    "matrices, n = 3": (DLNObservableManifold(3, 4), 3.0, MATRIX_TESTS),
    "layers": (BalancedManifold(2, 3), 6.0, LAYER_TESTS),
    "layers, n = 3": (BalancedManifold(3, 2), 6.0, LAYER_TESTS),
}


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("name", SPACE_TESTS)
def test_manifold_test_case(name, kind):
    space, amplitude, _ = SPACES[kind]
    run_space(space, name, amplitude, 2)


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, (*_, tests) in SPACES.items() for name in tests]
)
def test_riemannian_metric_test_case(kind, name):
    space, amplitude, _ = SPACES[kind]
    run_metric(space, name, amplitude, 1 if name.endswith("_vec") else 2)


@pytest.mark.parametrize("how", ["ivp", "bvp"])
@pytest.mark.parametrize("kind", LONG)
def test_long_vectors_keep_their_lengths(kind, how):
    run_long_transport(kind, how)
