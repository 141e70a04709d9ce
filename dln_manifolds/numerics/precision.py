"""Half, single and double precision: how fine numbers are, and what results are returned in."""

import numpy as np

from dln_manifolds.numerics.arrays import DType

DOUBLE: DType = np.dtype(np.float64)


def coarse(eps: float) -> DType:
    """Return single precision for numbers that were rounded to a relative ``eps``."""
    return np.dtype(np.float32, metadata={"eps": eps})


def eps_of(dtype: DType) -> float:
    """Relative distance of neighbouring numbers of a dtype, or what it is marked with."""
    marked = dtype.metadata
    return float(marked["eps"]) if marked and "eps" in marked else float(np.finfo(dtype).eps)


def coarsest(*dtypes: DType) -> DType:
    """Return the least precise of some dtypes of real numbers."""
    return max(dtypes, key=eps_of)


def dtype_of_results(dtype: DType) -> DType:
    """Return the dtype that numbers of a dtype are returned in: half, single or double precision.

    In the order of bytes of this machine; integers are taken as double precision.
    """
    return dtype.newbyteorder("=") if dtype.kind == "f" and dtype.itemsize < 8 else DOUBLE
