"""A table of distances in a file: filled in place, taken up again after an interruption.

The file is NumPy's ``.npy``; minus infinity stands for what is not solved yet. Beside it, with
``.digest`` behind its name, stands a hash of what the distances are of.
"""

import errno
import os
import uuid
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np

from dln_manifolds.errors import DiskFullError, InvalidFileError
from dln_manifolds.numerics.arrays import Array, DType

UNSOLVED = -np.inf

Destination = Array | str | PathLike[str] | None

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def opened(out: Destination, shape: tuple[int, int], dtype: DType, digest: str) -> Array:
    """Return a table to be filled: a new one, the array given, or the map of a file.

    A file that is there goes on where it was left. Raises `InvalidFileError` if it is not of what
    the digest is of, `DiskFullError` if there is no room for a new one, and `ValueError` for an
    array of another shape, dtype or that cannot be written.
    """
    if out is None:
        return np.full(shape, UNSOLVED, dtype)
    if isinstance(out, np.ndarray):
        if out.shape != shape or out.dtype.kind != "f" or not out.flags.writeable:
            raise ValueError(
                f"out is an array of shape {out.shape} and dtype {out.dtype}; a writeable one of "
                f"shape {shape} and dtype {dtype} is needed."
            )
        out[...] = UNSOLVED
        return out
    if not isinstance(out, (str, PathLike)):
        raise TypeError(f"out must be a path or an array, not {out!r}.")
    path = Path(out)
    if not path.name or path.is_dir():
        raise ValueError(f"out must name a file, and {str(out)!r} is a folder.")
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "out lies in a folder that is not there", str(path))
    path = path if path.suffix else path.with_name(f"{path.name}.npy")
    beside = path.with_name(f"{path.name}.digest")
    if not path.exists():
        _create(path, beside, shape, dtype, digest)
    return _mapped(path, beside, shape, dtype, digest)


def _create(path: Path, beside: Path, shape: tuple[int, int], dtype: DType, digest: str) -> None:
    """Write a table with nothing solved, and put it in its place when it is complete.

    By ordinary writing: under a map a full disk would end the process.
    """
    row = np.full(shape[1], UNSOLVED, dtype).tobytes()
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    unfinished = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with unfinished.open("xb") as stream:
            np.lib.format.write_array_header_1_0(stream, header)  # type: ignore[no-untyped-call]
            for _ in range(shape[0]):
                stream.write(row)
            stream.flush()
            os.fsync(stream.fileno())
        beside.write_text(f"{digest}\n", encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DiskFullError(
            error.errno,
            f"No room for {path}: {shape[0]} x {shape[1]} numbers of {dtype} take "
            f"{shape[0] * len(row) / 2**20:,.0f} MiB. Give a path on another disk in out=, or "
            f"points in single precision, whose distances take half",
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def _mapped(path: Path, beside: Path, shape: tuple[int, int], dtype: DType, digest: str) -> Array:
    """Map a file, if it is the one that is meant."""
    mode: Literal["r", None] = "r" if min(shape) else None  # without numbers there is no map
    try:
        # For reading: a file that is too short would be filled up with zeros otherwise.
        table = np.load(path, mmap_mode=mode, allow_pickle=False)
        known = beside.read_text(encoding="utf-8").strip()
    except (ValueError, EOFError, FileNotFoundError) as error:
        raise InvalidFileError(
            f"{path} is damaged or not a table of distances with its digest beside it "
            f"({type(error).__name__}: {error}). Remove it to write it anew, or give another path."
        ) from error
    same = isinstance(table, np.ndarray) and (table.shape, table.dtype) == (shape, dtype)
    if not same or known != digest:
        raise InvalidFileError(
            f"{path} holds distances of other points, or in another metric. Give another path, or "
            f"remove it to write it anew."
        )
    return np.load(path, mmap_mode="r+") if min(shape) else table
