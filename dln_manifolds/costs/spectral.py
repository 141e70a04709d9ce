"""Costs of singular values alone; Riemannian Hessian and Laplace-Beltrami operator of costs."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from math import inf

import numpy as np

from dln_manifolds.costs.base import Cost, Domain
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import CometricDerivative, riemannian_hessian
from dln_manifolds.geometry.spectral_functions import (
    SpectralHessian,
    SpectralJet,
    differential,
    jet_of,
    laplacian_of_point,
    spectral_hessian,
    spectral_laplacian,
)
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.cache import PointMemo

# Least singular value, relative to the largest: squares of its inverse are doubles.
_LEAST = 1e-100


class Spectral(Cost):
    """A cost that is a symmetric function of the singular values of X."""

    depth = 1.0
    rank: int | None = None

    def __init__(self) -> None:
        self._frames = PointMemo(self._frame)
        self._hessians = PointMemo(self._hessian)

    @abstractmethod
    def jet(self, frame: Frame) -> SpectralJet:
        """Return first and second derivatives by the logarithms of singular values."""

    def _frame(self, point: Array) -> Frame:
        frame = Frame.of_point(point, self.depth, self.rank)
        least = _LEAST * frame.values[..., :1] + np.finfo(float).tiny
        return replace(frame, values=np.maximum(frame.values, least))

    def _hessian(self, point: Array) -> SpectralHessian:
        frame = self._frames(point)
        return SpectralHessian(frame, self.jet(frame))

    def euclidean_gradient(self, point: Array) -> Array:
        """Return ``U diag(df/ds_i) V^T``."""
        frame = self._frames(point)
        return differential(frame, self.jet(frame))

    def euclidean_hessian(self, point: Array, vector: Array) -> Array:
        """Return the derivative of that along Z."""
        return self._hessians(point).apply(vector)


class SpectralFunction(Spectral):
    r"""A cost ``f(s_1, ..., s_r)`` of the singular values of X, with its derivatives by them.

    The functions ``value``, ``gradient`` and ``hessian`` take arrays of singular values, shape
    ``(..., r)``, and return shapes ``(...)``, ``(..., r)`` and ``(..., r, r)``. They are symmetric,
    and asked in any order of values. Exact at equal singular values, and between nearly equal ones
    where f is analytic. Below full rank give the ``rank``. The Euclidean gradient is
    ``dF(X) = U diag(df/ds_i) V^T`` (Lewis and Sendov, *Twice differentiable spectral functions*,
    SIAM Journal on Matrix Analysis and Applications, 2001).

    Examples
    --------
    >>> import numpy as np
    >>> from dln_manifolds import DLNObservableManifold, costs
    >>> nuclear = costs.SpectralFunction(
    ...     lambda s: s.sum(-1), np.ones_like, lambda s: np.zeros((*s.shape, s.shape[-1]))
    ... )
    >>> round(float(DLNObservableManifold(n=2, depth=3).metric.laplacian(nuclear, np.eye(2))), 12)
    7.0
    """

    def __init__(
        self,
        value: Callable[[Array], Array],
        gradient: Callable[[Array], Array],
        hessian: Callable[[Array], Array],
        rank: int | None = None,
    ) -> None:
        super().__init__()
        self.rank, self.domain = rank, Domain(of_layers=False, rank=rank or inf)
        self._functions = {"value": (value, 0), "gradient": (gradient, 1), "hessian": (hessian, 2)}

    def _checked(self, name: str, s: Array) -> Array:
        function, ndim = self._functions[name]
        found, wanted = np.asarray(function(s), dtype=float), s.shape[:-1] + s.shape[-1:] * ndim
        if found.shape != wanted:
            raise ValueError(
                f"The {name} of a SpectralFunction has shape {found.shape} at singular values of "
                f"shape {s.shape}; {wanted} is needed. Batch axes come first."
            )
        return found

    def __call__(self, point: Array) -> Array:
        """Return f(s)."""
        return self._checked("value", self._frames(point).singular_values)[()]

    def jet(self, frame: Frame) -> SpectralJet:
        """Return first and second derivatives by the logarithms of singular values."""
        return jet_of(
            frame, lambda s: self._checked("gradient", s), lambda s: self._checked("hessian", s)
        )


def hessian_of(cost: Cost, frame: Frame, point: Array, vector: Array) -> Array:
    """Return the Riemannian Hessian of a cost of matrices along tangent vectors Z."""
    total = np.zeros(vector.shape)
    for factor, part in cost.parts:
        if isinstance(part, Spectral):
            total += factor * spectral_hessian(frame, part.jet(frame), vector)
        else:
            slope, second = part.euclidean_gradient(point), part.euclidean_hessian(point, vector)
            derivative = CometricDerivative(frame)
            total += factor * riemannian_hessian(derivative, slope, second, vector)
    return total


def laplacian_of(cost: Cost, frame: Frame, point: Array) -> Array:
    """Return the Laplace-Beltrami operator of a cost of matrices, shape ``(...)``."""
    total = np.zeros(frame.values.shape[:-1])
    for factor, part in cost.parts:
        if isinstance(part, Spectral):
            total += factor * spectral_laplacian(frame, part.jet(frame))
        else:
            total += factor * _trace(part, frame, point)
    return total


def _trace(cost: Cost, frame: Frame, point: Array) -> Array:
    """Return ``tr(A_X D^2 E) + <dE, Laplacian of X>``."""
    m, n = point.shape[-2:]
    each = frame.beside()
    units = each.blocks(np.eye(m * n).reshape(m * n, m, n))
    units = each.assemble(units * each.root_weights)
    bent = cost.euclidean_hessian(point[..., None, :, :], units)
    drift = np.sum(cost.euclidean_gradient(point) * laplacian_of_point(frame), axis=(-2, -1))
    return np.asarray(np.sum(bent * units, axis=(-3, -2, -1)) + drift)
