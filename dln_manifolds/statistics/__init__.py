"""Statistics of points: all distances of many, Fréchet means, geodesic regression."""

from dln_manifolds.statistics.frechet_mean import FrechetMean
from dln_manifolds.statistics.geodesic_regression import GeodesicRegression

__all__ = ["FrechetMean", "GeodesicRegression"]
