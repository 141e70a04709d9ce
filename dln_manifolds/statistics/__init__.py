"""Statistics of points: all distances of many, Fréchet means and geometric medians."""

from dln_manifolds.statistics.frechet_mean import FrechetMean
from dln_manifolds.statistics.geometric_median import GeometricMedian

__all__ = ["FrechetMean", "GeometricMedian"]
