"""What a solver of geodesics must know of one geometry, and how a geodesic may end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from dln_manifolds.geometry.frame import Frame
from dln_manifolds.numerics.arrays import Array


class Status(IntEnum):
    """How the solution of a geodesic has ended."""

    CONVERGED = 0
    CROSSED = 1
    STALLED = 2
    DISCONNECTED = 3


class Points(NamedTuple):
    """Validated points of shape ``(n_batch, *point_shape)`` with their frames."""

    value: Array
    frame: Frame


@dataclass(frozen=True)
class ObservableSystem:
    """Geodesics of end-to-end matrices of depth N."""

    depth: float


@dataclass(frozen=True)
class LayerSystem:
    """Geodesics of balanced layers."""

    depth: int
