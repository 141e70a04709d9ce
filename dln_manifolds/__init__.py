"""Riemannian geometry of the deep linear network, as a plugin for geomstats and pymanopt."""

from importlib import import_module
from types import ModuleType

from dln_manifolds import _renamed, costs, diagnostics
from dln_manifolds._version import __version__
from dln_manifolds.errors import (
    ConjugatePointsError,
    ConvergenceError,
    DisconnectedPointsError,
    DLNError,
    GeodesicWarning,
    IncompleteGeodesicError,
    InvalidFileError,
    InvalidPointError,
    NotFittedError,
)
from dln_manifolds.geodesics import GeodesicSolution
from dln_manifolds.manifolds.balanced import BalancedManifold, BalancedMetric
from dln_manifolds.manifolds.bundle import DLNBundle
from dln_manifolds.manifolds.flattened import FlattenedManifold
from dln_manifolds.manifolds.observable import DLNObservableManifold, DLNObservableMetric
from dln_manifolds.manifolds.problems import PointRecorder, pymanopt_problem
from dln_manifolds.manifolds.quotient import DLNQuotientMetric

__all__ = [
    "BalancedManifold",
    "BalancedMetric",
    "ConjugatePointsError",
    "ConvergenceError",
    "DLNBundle",
    "DLNError",
    "DLNObservableManifold",
    "DLNObservableMetric",
    "DLNQuotientMetric",
    "DisconnectedPointsError",
    "FlattenedManifold",
    "GeodesicSolution",
    "GeodesicWarning",
    "IncompleteGeodesicError",
    "InvalidFileError",
    "InvalidPointError",
    "NotFittedError",
    "PointRecorder",
    "__version__",
    "costs",
    "diagnostics",
    "pymanopt_problem",
]

# Modules of the public face that are imported when they are first asked for.
_MODULES = {
    "bridges",
    "dynamics",
    "lowrank",
    "plotting",
    "recording",
    "spd",
    "statistics",
    "storage",
}

_renamed.install()


def __getattr__(name: str) -> ModuleType:
    """Import a module of the package where it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    """List the public names, with those of modules that are not imported yet."""
    return sorted(_MODULES | globals().keys())
