"""Names of array types, and what tells lists of matrices from arrays."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Array", "ArrayLike", "DType", "OptionalArray", "is_list_of_matrices"]

Array = NDArray[Any]
DType = np.dtype[Any]
OptionalArray = ArrayLike | None


def is_list_of_matrices(value: object) -> bool:
    """Whether a value is a list of arrays of two axes or more, not of numbers or vectors."""
    if not isinstance(value, list | tuple) or not value:
        return False
    first = value[0]
    if isinstance(first, list | tuple):
        return bool(first) and isinstance(first[0], list | tuple | np.ndarray)
    return bool(getattr(first, "ndim", 0) >= 2)
