"""Smooth functions with exact gradients and Hessian-vector products, and how they combine."""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import reduce, wraps
from math import inf, isfinite
from typing import NamedTuple

import numpy as np

from dln_manifolds.checks import as_array, as_matrices
from dln_manifolds.errors import InvalidPointError
from dln_manifolds.geometry.stratum import Stratum
from dln_manifolds.numerics.arrays import Array, ArrayLike

_NUMBER = (int, float, np.integer, np.floating)
_USUAL = np.dtype(np.float64)
_METHODS = {"__call__", "euclidean_gradient", "euclidean_hessian", "lower_bound"}


def real_array(value: ArrayLike, name: str, ndim: int | None = None) -> Array:
    """Return a new float64 array of finite real numbers, with a number of axes if one is given."""
    array = as_array(value, name)
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} axes, not {array.ndim}.")
    return np.array(as_matrices(array, array.shape, name)[0])


def real_number(value: float, name: str, at_least: float | None = None) -> float:
    """Return a real number, finite and not below a bound if one is given."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a real number, not {value!r}.")
    if at_least is not None and not (isfinite(value) and value >= at_least):
        raise ValueError(f"{name} must be finite and at least {at_least:g}, not {value}.")
    return float(value)


def _plain(value: ArrayLike) -> Array:
    """Return an array of real numbers of NumPy's own class: others multiply in another way."""
    if type(value) is np.ndarray and value.dtype is _USUAL:
        return value
    array = as_array(value, "point")
    if array.dtype.kind not in "fiub":
        raise InvalidPointError(f"point has dtype {array.dtype}; real numbers are needed.")
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _of_plain_arrays(method: Callable[..., Array]) -> Callable[..., Array]:
    """Let a method of a cost meet plain arrays only."""

    @wraps(method)
    def at(self: Cost, point: Array) -> Array:
        return method(self, _plain(point))

    @wraps(method)
    def along(self: Cost, point: Array, vector: Array) -> Array:
        return method(self, _plain(point), _plain(vector))

    return along if method.__name__ == "euclidean_hessian" else at


class Domain(NamedTuple):
    """What a cost is a function of; None for what it leaves open."""

    of_layers: bool | None = None  # whether points are layers, not end-to-end matrices
    shape: tuple[int, ...] | None = None  # m x n, of the end-to-end matrix
    depth: float | None = None  # N, of the network whose geometry enters
    rank: float | None = None  # r, infinite for the full one
    hidden: tuple[int, ...] | None = None  # d_1, ..., d_{N-1}; () for as narrow as the rank allows
    flat: bool | None = None  # whether layers are one vector, not an array (N, n, n)

    def agree(self, other: Domain, name: str, whose: str) -> Domain:
        """Return what is known here or there; raise `TypeError` or `ValueError` by these names."""
        if None not in (self.of_layers, other.of_layers) and self.of_layers != other.of_layers:
            kinds = ["layers W" if x.of_layers else "end-to-end matrices X" for x in (self, other)]
            raise TypeError(
                f"{name} is about {kinds[0]}, {whose} about {kinds[1]}. OfLayers(cost) makes a "
                f"cost of layers of a cost of X: wrap it for layers, leave it for matrices."
            )
        if None not in (self.shape, other.shape) and self.shape != other.shape:
            raise ValueError(
                f"{name} is about end-to-end matrices of shape {self.shape}, {whose} about those "
                f"of shape {other.shape}. Use one shape for both."
            )
        if None not in (self.depth, other.depth) and self.depth != other.depth:
            raise ValueError(
                f"{name} is about networks of depth {self.depth:g}, {whose} about those of depth "
                f"{other.depth:g}. Use one depth for both: entropy and distances depend on it."
            )
        if None not in (self.flat, other.flat) and self.flat != other.flat:
            kinds = ["in one vector" if x.flat else "(N, n, n)" for x in (self, other)]
            raise TypeError(
                f"{name} is about layers {kinds[0]}, {whose} about layers {kinds[1]}. Layers of "
                f"unequal widths are one vector: OfLayers(cost, widths=(d_0, ..., d_N)) is a cost "
                f"of such, OfLayers(cost) one of layers of one width."
            )
        pairs = zip(self, other, strict=True)
        known = Domain._make(there if here is None else here for here, there in pairs)
        compared = None not in (self.rank, other.rank) or None not in (self.hidden, other.hidden)
        return self._network(other, known, name, whose) if compared else known

    def _network(self, other: Domain, known: Domain, name: str, whose: str) -> Domain:
        """Compare rank and hidden widths; return what is known with them."""
        ranks = [
            min(known.shape) if x.rank == inf and known.shape else x.rank for x in (self, other)
        ]
        given = [rank for rank in ranks if rank is not None]
        if len(given) == 2 and given[0] != given[1] and inf not in given:
            raise ValueError(
                f"{name} is about matrices of rank {ranks[0]:g}, {whose} about those of rank "
                f"{ranks[1]:g}. Use one rank for both, rank=...: entropy and distances depend on "
                f"it."
            )
        known = known._replace(rank=min(given, default=None))
        both = [known._hidden(x.hidden) for x in (self, other)]
        widths = [hidden for hidden in both if hidden is not None]
        if len(widths) == 2 and widths[0] != widths[1] and () not in widths:
            raise ValueError(
                f"{name} is about networks of hidden widths {both[0]}, {whose} about those of "
                f"hidden widths {both[1]}. Use one network for both, widths=(d_0, ..., d_N): "
                f"layers and entropy depend on it."
            )
        return known._replace(hidden=max(widths, key=len, default=None))

    def _hidden(self, hidden: tuple[int, ...] | None) -> tuple[int, ...] | None:
        """Return hidden widths, those as narrow as the rank allows written out if that is known."""
        depth, rank = self.depth, self.rank
        if hidden or hidden is None or depth is None or rank is None:
            return hidden
        written = rank != inf and float(depth).is_integer()
        return (int(rank),) * (int(depth) - 1) if written else hidden

    def described(self) -> str:
        """Return what is known of the points, in words."""
        named = {None: "points", False: "end-to-end matrices", True: "layers"}[self.of_layers]
        size = f" {self.shape[0]} x {self.shape[1]}" if self.shape else ""
        facts = [f", depth {self.depth:g}"] if self.depth is not None else []
        facts += [f", rank {self.rank:g}"] if self.rank not in (None, inf) else []
        facts += [f", hidden widths {self.hidden}"] if self.hidden else []
        return named + size + "".join(facts)

    @classmethod
    def of_shape(cls, shape: tuple[int, ...]) -> Domain:
        """Return what can be read off the shape of a single point."""
        if len(shape) == 3:
            return cls(of_layers=True, shape=shape[1:], depth=float(shape[0]), flat=False)
        return cls(of_layers=False, shape=shape) if len(shape) == 2 else cls()

    @classmethod
    def of_network(cls, of_layers: bool, stratum: Stratum) -> Domain:
        """Return what the points of a manifold, X or layers, are."""
        hidden = stratum.hidden_widths or ()
        flat = len(stratum.point_shape) == 1 if of_layers else None
        return cls(of_layers, stratum.shape, float(stratum.depth), stratum.rank, hidden, flat)


class Cost(ABC):
    """A smooth real function of a matrix or of layers, with its exact derivatives.

    All three methods take single points or batches. Costs add up and take factors:
    ``energy - entropy / beta`` is a cost. The ``domain`` says what points it takes, as far as it
    knows: compared when costs are combined and when a problem is made of them. A class of your own
    may leave it open.
    """

    domain: Domain = Domain()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in _METHODS & vars(cls).keys():
            setattr(cls, name, _of_plain_arrays(vars(cls)[name]))

    def __repr__(self) -> str:
        """Return a line: the class, and what it is a cost of."""
        return f"<{type(self).__name__}{self._about()} of {self.domain.described()}>"

    def _about(self) -> str:
        """Return what a class says of its data."""
        return ""

    @abstractmethod
    def __call__(self, point: Array) -> Array:
        """Return the value, shape ``(...)``."""

    @abstractmethod
    def euclidean_gradient(self, point: Array) -> Array:
        """Return the partial derivatives by all entries, of the shape of the point."""

    @abstractmethod
    def euclidean_hessian(self, point: Array, vector: Array) -> Array:
        """Return the derivative of the Euclidean gradient along a vector, of its shape."""

    @property
    def parts(self) -> list[tuple[float, Cost]]:
        """What this is a sum of, with factors: of a single cost, itself."""
        return [(1.0, self)]

    def lower_bound(self, point: Array) -> float:
        """Return what the value at a point is not below: cheap where the value is dear.

        Minus infinity where nothing is known, as it is unless a class says more.
        """
        return -inf

    def __add__(self, other: object) -> Cost:
        return _Sum((self, other), (1.0, 1.0)) if isinstance(other, Cost) else NotImplemented

    def __sub__(self, other: object) -> Cost:
        return _Sum((self, other), (1.0, -1.0)) if isinstance(other, Cost) else NotImplemented

    def __mul__(self, factor: object) -> Cost:
        return _Sum((self,), (float(factor),)) if isinstance(factor, _NUMBER) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, divisor: object) -> Cost:
        return self * (1 / divisor) if isinstance(divisor, _NUMBER) else NotImplemented

    def __neg__(self) -> Cost:
        return self * -1.0


class _Sum(Cost):
    """Costs with factors."""

    def __init__(self, terms: tuple[Cost, ...], factors: tuple[float, ...]) -> None:
        if not np.isfinite(factors).all():
            raise ValueError(f"A cost can be multiplied by finite numbers, not by {factors[0]}.")
        self.terms, self.factors = terms, factors
        for term in terms:
            self.domain = self.domain.agree(term.domain, "One term of a sum of costs", "another")

    @property
    def parts(self) -> list[tuple[float, Cost]]:
        pairs = zip(self.factors, self.terms, strict=True)
        return [(outer * inner, part) for outer, term in pairs for inner, part in term.parts]

    def __repr__(self) -> str:
        parts = zip(self.factors, self.terms, strict=True)
        return f"({' + '.join(f'{factor:g} * {term!r}' for factor, term in parts)})"

    def _combine(self, parts: Iterable[Array]) -> Array:
        return reduce(np.add, [f * part for f, part in zip(self.factors, parts, strict=True)])

    def __call__(self, point: Array) -> Array:
        return self._combine(term(point) for term in self.terms)

    def lower_bound(self, point: Array) -> float:
        pairs = zip(self.factors, self.terms, strict=True)
        return sum(
            factor * term.lower_bound(point) if factor > 0 else -inf for factor, term in pairs
        )

    def euclidean_gradient(self, point: Array) -> Array:
        return self._combine(term.euclidean_gradient(point) for term in self.terms)

    def euclidean_hessian(self, point: Array, vector: Array) -> Array:
        return self._combine(term.euclidean_hessian(point, vector) for term in self.terms)
