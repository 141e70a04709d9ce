"""Statistics of points: all distances of many, and Fréchet means."""

from dln_manifolds.statistics.frechet_mean import FrechetMean

__all__ = ["FrechetMean"]
