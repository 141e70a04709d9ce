"""Geodesics: exp, log, parallel transport and their derivatives, verified; no host known."""

from dln_manifolds.geodesics.adjoint import (
    exp_adjoint,
    exp_adjoints,
    exp_inverse,
    exp_pullback,
    jacobi_fields,
    log_pullback,
    squared_length_gradients,
)
from dln_manifolds.geodesics.conjugate import conjugate_times
from dln_manifolds.geodesics.flat_system import FlatSystem
from dln_manifolds.geodesics.layer_system import LayerSystem
from dln_manifolds.geodesics.observable_system import ObservableSystem, system_of_matrices
from dln_manifolds.geodesics.root_paths import RootChart
from dln_manifolds.geodesics.solution import FailurePolicy, GeodesicSolution
from dln_manifolds.geodesics.solve import parallel_transport, solve_exp, solve_log
from dln_manifolds.geodesics.system import Points, Status, System, Trajectory

__all__ = [
    "FailurePolicy",
    "FlatSystem",
    "GeodesicSolution",
    "LayerSystem",
    "ObservableSystem",
    "Points",
    "RootChart",
    "Status",
    "System",
    "Trajectory",
    "conjugate_times",
    "exp_adjoint",
    "exp_adjoints",
    "exp_inverse",
    "exp_pullback",
    "jacobi_fields",
    "log_pullback",
    "parallel_transport",
    "solve_exp",
    "solve_log",
    "squared_length_gradients",
    "system_of_matrices",
]
