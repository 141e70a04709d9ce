"""Fixtures shared by all tests."""

import geomstats.backend as gs
import numpy as np
import pytest


def pytest_configure(config):
    # geomstats' test cases mark their methods; the marks have to be known before they are imported
    for name in ("random", "shape", "vec", "validation", "type", "mathprop"):
        config.addinivalue_line("markers", f"{name}: a mark of geomstats' own test cases")


@pytest.fixture(autouse=True)
def seed():
    """Start every test from the same random state, so that each can be repeated alone."""
    gs.random.seed(0)
    np.random.seed(0)
