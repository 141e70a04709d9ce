"""Names of array types, and what tells lists of matrices from arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Array", "ArrayLike", "DType", "OptionalArray", "is_list_of_matrices"]

Array: TypeAlias = NDArray[Any]
DType: TypeAlias = np.dtype[Any]
OptionalArray: TypeAlias = "ArrayLike | None"

if not TYPE_CHECKING:

    class _Named:
        """A type of arrays under its name, as NumPy's own fill half a page in ``help``."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __repr__(self) -> str:
            return self._name

        def __or__(self, other: object) -> _Named:
            return _Named(f"{self} | {getattr(other, '__name__', other)}")

        def __ror__(self, other: object) -> _Named:
            return _Named(f"{getattr(other, '__name__', other)} | {self}")

    Array, ArrayLike = _Named("Array"), _Named("ArrayLike")
    OptionalArray = ArrayLike | None


def is_list_of_matrices(value: object) -> bool:
    """Whether a value is a list of arrays of two axes or more, not of numbers or vectors."""
    if not isinstance(value, list | tuple) or not value:
        return False
    first = value[0]
    if isinstance(first, list | tuple):
        return bool(first) and isinstance(first[0], list | tuple | np.ndarray)
    return bool(getattr(first, "ndim", 0) >= 2)
