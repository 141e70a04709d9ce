"""geomstats' own test cases for fibre bundles and quotient metrics, run on the layers."""

import pytest
from geomstats_cases import BUNDLE_TESTS, QUOTIENT_TESTS, run_bundle, run_quotient

each_size = pytest.mark.parametrize(("n", "depth"), [(2, 2), (2, 3), (3, 2), (3, 3)])


@pytest.mark.parametrize("name", BUNDLE_TESTS)
@each_size
def test_fiber_bundle_test_case(name, n, depth):
    run_bundle(n, depth, name)


@pytest.mark.parametrize("name", QUOTIENT_TESTS)
@each_size
def test_quotient_metric_test_case(name, n, depth):
    run_quotient(n, depth, name)
