"""Modules as attributes of the package, and modules under the names that they had before."""

import subprocess
import sys
from importlib import import_module

import pytest

import dln_manifolds
from dln_manifolds._renamed import SUCCESSORS

MODULES = ["bridges", "costs", "diagnostics", "dynamics", "errors", "geodesics", "geometry"]
MODULES += ["lowrank", "plotting", "spd", "statistics", "storage"]
RENAMED = {old: new for old, new in SUCCESSORS.items() if new is not None}


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_attributes(name):
    assert name in dir(dln_manifolds)
    assert getattr(dln_manifolds, name) is import_module(f"dln_manifolds.{name}")


def test_modules_are_imported_when_they_are_used():
    code = """
import sys, dln_manifolds
assert not {f"dln_manifolds.{n}" for n in ("bridges", "plotting", "storage")} & sys.modules.keys()
assert dln_manifolds.plotting.plot_mean and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_no_module_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"dln_manifolds.*plots"):
        dln_manifolds.plots  # noqa: B018
    assert not hasattr(dln_manifolds, "spectral_radius")


@pytest.fixture
def forgotten():
    """Let old names be imported as if for the first time."""
    for old in SUCCESSORS:
        sys.modules.pop(f"dln_manifolds.{old}", None)


@pytest.mark.parametrize("old", RENAMED)
def test_old_names_give_the_new_modules_with_a_warning(old, forgotten):
    new = f"dln_manifolds.{RENAMED[old]}"
    with pytest.warns(DeprecationWarning, match=f"dln_manifolds.{old} is now {new}") as caught:
        module = import_module(f"dln_manifolds.{old}")
    assert module is import_module(new)
    assert module.__name__ == module.__spec__.name == new
    assert len(caught) == 1


def test_the_warning_names_the_line_of_the_import(forgotten):
    with pytest.warns(DeprecationWarning, match="dynamics.gradient_flow") as caught:
        from dln_manifolds.geodesics.gradient_flow import flow_of_point
    assert caught[0].filename == __file__
    assert flow_of_point is import_module("dln_manifolds.dynamics.gradient_flow").flow_of_point


def test_names_that_never_were_are_not_found(forgotten):
    for name in ("spectral.frame", "geodesics.flows", "spectrum"):
        with pytest.raises(ModuleNotFoundError, match=name.split(".")[-1]):
            import_module(f"dln_manifolds.{name}")
