"""Fixtures shared by all tests."""

import geomstats.backend as gs
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def seed():
    """Start every test from the same random state, so that each can be repeated alone."""
    gs.random.seed(0)
    np.random.seed(0)
