"""Statistics of points: all distances of many, means, medians, geodesic regression."""

from dln_manifolds.statistics.frechet_mean import FrechetMean
from dln_manifolds.statistics.geodesic_regression import GeodesicRegression
from dln_manifolds.statistics.geometric_median import GeometricMedian

__all__ = ["FrechetMean", "GeodesicRegression", "GeometricMedian"]
