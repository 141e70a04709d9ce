"""Riemannian geometry of the deep linear network, as a plugin for geomstats and pymanopt."""

from dln_manifolds._version import __version__
from dln_manifolds.errors import (
    ConvergenceError,
    DisconnectedPointsError,
    DLNError,
    GeodesicWarning,
    IncompleteGeodesicError,
    InvalidPointError,
)
from dln_manifolds.geodesics.solution import GeodesicSolution
from dln_manifolds.manifolds.observable import DLNObservableManifold
from dln_manifolds.manifolds.observable_metric import DLNObservableMetric

__all__ = [
    "ConvergenceError",
    "DLNError",
    "DLNObservableManifold",
    "DLNObservableMetric",
    "DisconnectedPointsError",
    "GeodesicSolution",
    "GeodesicWarning",
    "IncompleteGeodesicError",
    "InvalidPointError",
    "__version__",
]
