"""What help() says of the methods of the classes that users hold."""

import inspect
import re

import pytest

from dln_manifolds import (
    BalancedManifold,
    BalancedMetric,
    DLNBundle,
    DLNObservableManifold,
    DLNObservableMetric,
)
from dln_manifolds.autodiff import kinds
from dln_manifolds.manifolds.flattened import FlattenedMetric

# The axes of points, and what the arguments are.
CLASSES = {
    DLNObservableManifold: ("m, n", kinds.OF_SPACE),
    DLNObservableMetric: ("m, n", kinds.OF_METRIC),
    BalancedManifold: ("*point_shape", kinds.OF_SPACE),
    BalancedMetric: ("*point_shape", kinds.OF_METRIC),
    DLNBundle: ("*point_shape", kinds.OF_BUNDLE),
}


def methods(owner):
    """Yield our public methods of a class, by name."""
    for name, method in inspect.getmembers_static(owner, inspect.isfunction):
        if not name.startswith("_") and method.__module__.startswith("dln_manifolds"):
            yield name, method


EVERY = [(owner, *found) for owner in CLASSES for found in methods(owner)]
IDS = [method.__qualname__ for _, _, method in EVERY]


def section(method, title):
    """Return the body of a section of a docstring."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=\n\n\w+\n-+\n|\Z)", method.__doc__, re.M | re.S)
    return found and found[1]


@pytest.mark.parametrize(("owner", "name", "method"), EVERY, ids=IDS)
def test_arguments_and_result_are_described(owner, name, method):
    described = section(method, "Parameters") or ""
    for argument in list(inspect.signature(method).parameters)[1:]:
        assert re.search(rf"^(.*, )?\**{argument}\b.*", described, re.M), argument
    assert section(method, "Returns")
    assert not re.match(r"<class|dln_manifolds\.", section(method, "Returns"))


@pytest.mark.parametrize(("owner", "name", "method"), EVERY, ids=IDS)
def test_shapes_are_those_of_the_class(owner, name, method):
    text, (points, table) = method.__doc__, CLASSES[owner]
    # Of layers ``space.point_shape`` depends on the widths.
    assert ("point_shape" in text) <= (points == "*point_shape")
    assert "N, n, n]" not in text
    if set(table.get(name, "")) & {*"pv"}:
        assert f"{points}]" in text


def test_one_point_at_a_time():
    assert "shape=[m, n]" in section(DLNObservableManifold.exp, "Parameters")
    assert "shape=[..., m, n]" in section(DLNObservableMetric.exp, "Parameters")


def test_flattened_methods_have_flat_shapes():
    assert "shape=[..., size]" in section(FlattenedMetric.log, "Parameters")
    assert "shape=[..., size]" in section(FlattenedMetric.log, "Returns")
