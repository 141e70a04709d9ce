"""Costs with exact gradients and Hessian-vector products, without automatic differentiation.

Functions of the end-to-end matrix X: losses, the entropy, the Fréchet variance, and sums of them.
`OfLayers` makes a function of the layers of each, `dln_manifolds.pymanopt_problem` a problem of
pymanopt, which asks for the methods ``euclidean_gradient`` and ``euclidean_hessian``.
"""

from dln_manifolds.costs.base import Cost, Domain
from dln_manifolds.costs.entropy import Entropy, free_energy
from dln_manifolds.costs.frechet import FrechetVariance
from dln_manifolds.costs.layers import OfLayers
from dln_manifolds.costs.losses import LinearRegression, MatrixCompletion, MatrixSensing
from dln_manifolds.costs.spectral import SpectralFunction

__all__ = [
    "Cost",
    "Domain",
    "Entropy",
    "FrechetVariance",
    "LinearRegression",
    "MatrixCompletion",
    "MatrixSensing",
    "OfLayers",
    "SpectralFunction",
    "free_energy",
]
