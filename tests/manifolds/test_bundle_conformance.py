"""geomstats' own test cases for fibre bundles and quotient metrics, run on the layers."""

import pytest
from geomstats_cases import BUNDLE_TESTS, QUOTIENT_TESTS, run_bundle, run_quotient

each_size = pytest.mark.parametrize(("n", "depth"), [(2, 2), (2, 3), (3, 2), (3, 3)])


@pytest.mark.parametrize("name", BUNDLE_TESTS)
@each_size
def test_fiber_bundle_test_case(name, n, depth):
    run_bundle(name, n=n, depth=depth)


@pytest.mark.parametrize("name", QUOTIENT_TESTS)
@each_size
def test_quotient_metric_test_case(name, n, depth):
    run_quotient(name, n=n, depth=depth)


NETWORKS = [{"widths": (4, 3, 5), "rank": 2}, {"widths": (4, 2, 3, 4)}, {"widths": (3, 5, 3)}]


@pytest.mark.parametrize("name", BUNDLE_TESTS)
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_fiber_bundle_test_case_of_any_widths(name, network):
    run_bundle(name, **network)


@pytest.mark.parametrize("name", QUOTIENT_TESTS)
def test_quotient_metric_test_case_of_any_widths(name):
    run_quotient(name, **NETWORKS[0])
