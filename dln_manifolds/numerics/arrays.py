"""Names of array types."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Array", "ArrayLike", "DType", "OptionalArray"]

Array = NDArray[Any]
DType = np.dtype[Any]
OptionalArray = ArrayLike | None
