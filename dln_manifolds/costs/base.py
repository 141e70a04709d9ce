"""Smooth functions with exact gradients and Hessian-vector products, and how they combine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import reduce
from typing import Any

import numpy as np

from dln_manifolds.spectral.elementary import Array

_NUMBER = (int, float, np.integer, np.floating)


class Cost(ABC):
    """A smooth real function of a matrix or of layers, with its exact derivatives.

    All three methods take single points or batches. Costs add up and take factors:
    ``energy - entropy / beta`` is a cost.
    """

    @abstractmethod
    def __call__(self, point: Array) -> Array:
        """Return the value, shape ``(...)``."""

    @abstractmethod
    def euclidean_gradient(self, point: Array) -> Array:
        """Return the partial derivatives by all entries, of the shape of the point."""

    @abstractmethod
    def euclidean_hessian(self, point: Array, vector: Array) -> Array:
        """Return the derivative of the Euclidean gradient along a vector, of its shape."""

    def __add__(self, other: Any) -> Cost:
        """Add two costs."""
        return _Sum((self, other), (1.0, 1.0)) if isinstance(other, Cost) else NotImplemented

    def __sub__(self, other: Any) -> Cost:
        """Subtract a cost."""
        return _Sum((self, other), (1.0, -1.0)) if isinstance(other, Cost) else NotImplemented

    def __mul__(self, factor: Any) -> Cost:
        """Multiply by a number."""
        return _Sum((self,), (float(factor),)) if isinstance(factor, _NUMBER) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Cost:
        """Divide by a number."""
        return self * (1 / divisor) if isinstance(divisor, _NUMBER) else NotImplemented

    def __neg__(self) -> Cost:
        """Change the sign."""
        return self * -1.0


class _Sum(Cost):
    """Costs with factors."""

    def __init__(self, terms: tuple[Cost, ...], factors: tuple[float, ...]) -> None:
        self.terms, self.factors = terms, factors

    def _combine(self, parts: Iterable[Array]) -> Array:
        weighted = [f * part for f, part in zip(self.factors, parts, strict=True)]
        return reduce(np.add, weighted)

    def __call__(self, point: Array) -> Array:
        return self._combine(term(point) for term in self.terms)

    def euclidean_gradient(self, point: Array) -> Array:
        return self._combine(term.euclidean_gradient(point) for term in self.terms)

    def euclidean_hessian(self, point: Array, vector: Array) -> Array:
        return self._combine(term.euclidean_hessian(point, vector) for term in self.terms)
