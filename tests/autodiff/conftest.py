"""Values that a backend computes, kept for the comparison of backends."""

import json
import os

import geomstats.backend as gs
import numpy as np
import pytest


@pytest.fixture(scope="session")
def recorded():
    values = {}
    yield values
    target = os.environ.get("DLN_RECORDED")
    if target:
        with open(target, "w", encoding="utf-8") as file:
            json.dump(values, file)


@pytest.fixture
def record(recorded, request):
    """Keep a value under a name, to be compared with that of the other backends."""

    def keep(name, value):
        recorded[f"{request.node.name}: {name}"] = np.asarray(value, dtype=float).tolist()

    return keep


@pytest.fixture
def array_type():
    """Type of arrays on the backend in use."""
    return type(gs.zeros(1))
