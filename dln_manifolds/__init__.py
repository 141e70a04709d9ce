"""Riemannian geometry of the deep linear network, as a plugin for geomstats and pymanopt."""

from dln_manifolds import costs, diagnostics
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
)
from dln_manifolds.geodesics.solution import GeodesicSolution
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
    "PointRecorder",
    "__version__",
    "costs",
    "diagnostics",
    "pymanopt_problem",
]
