"""The metric completion of square invertible matrices: distances and geodesics across det = 0."""

from dln_manifolds.completion.solution import CompletedSolution
from dln_manifolds.completion.solve import completed_bounds, cut_frame, solve_completed

__all__ = ["CompletedSolution", "completed_bounds", "cut_frame", "solve_completed"]
