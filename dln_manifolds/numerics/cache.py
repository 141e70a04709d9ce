"""Values computed once per point: solvers ask several things of each point in turn."""

from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np

from dln_manifolds.numerics.arrays import Array

T = TypeVar("T")


class PointMemo(Generic[T]):
    """Remember what a pure function computed of the last few arrays.

    Arrays are recognized by what they hold: callers may overwrite theirs. Threads may share a memo,
    as the entries are one immutable tuple.
    """

    def __init__(self, compute: Callable[[Array], T], size: int = 4) -> None:
        self._compute = compute
        self._size = size
        self._entries: tuple[tuple[Array, T], ...] = ()

    def __call__(self, point: Array) -> T:
        """Return the value at a point, computed now or before."""
        for known, value in self._entries:
            if known.dtype == point.dtype and np.array_equal(known, point):
                return value
        # Of the copy: the value may hold on to its argument.
        kept = np.array(point)
        value = self._compute(kept)
        self._entries = ((kept, value), *self._entries[: self._size - 1])
        return value

    def __getstate__(self) -> dict[str, object]:
        """Leave the entries behind."""
        return {**self.__dict__, "_entries": ()}
