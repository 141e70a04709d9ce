"""Fixtures shared by all tests."""

import importlib.util
import sys
from pathlib import Path

import geomstats.backend as gs
import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot

EXAMPLES = Path(__file__).parents[1] / "examples"


def pytest_configure(config):
    # geomstats' test cases mark their methods; the marks have to be known before they are imported
    for name in ("random", "shape", "vec", "validation", "type", "mathprop"):
        config.addinivalue_line("markers", f"{name}: a mark of geomstats' own test cases")


@pytest.fixture(autouse=True)
def seed():
    """Start every test from the same random state, so that each can be repeated alone."""
    gs.random.seed(0)
    np.random.seed(0)


@pytest.fixture
def load():
    """Import an example by its name, its figures drawn without a screen."""
    matplotlib.use("Agg", force=True)
    names = []

    def load_script(name):
        spec = importlib.util.spec_from_file_location(f"{name}_example", EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        names.append(spec.name)
        spec.loader.exec_module(module)
        return module

    yield load_script
    pyplot.close("all")
    for name in names:
        del sys.modules[name]
