"""Geodesics: exp, log, parallel transport and their derivatives, verified; no host known."""

from dln_manifolds.geodesics.solution import FailurePolicy, GeodesicSolution
from dln_manifolds.geodesics.solve import (
    exp_pullback,
    log_pullback,
    parallel_transport,
    solve_exp,
    solve_log,
    squared_length_gradients,
)
from dln_manifolds.geodesics.system import LayerSystem, ObservableSystem, Points, Status

__all__ = [
    "FailurePolicy",
    "GeodesicSolution",
    "LayerSystem",
    "ObservableSystem",
    "Points",
    "Status",
    "exp_pullback",
    "log_pullback",
    "parallel_transport",
    "solve_exp",
    "solve_log",
    "squared_length_gradients",
]
