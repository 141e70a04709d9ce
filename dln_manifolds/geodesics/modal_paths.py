"""Modal paths: what families of paths with modes as unknowns have in common."""

import math
from dataclasses import replace
from typing import ClassVar

import numpy as np

from dln_manifolds.geodesics.system import Chart, Guess, never
from dln_manifolds.geometry.facing import AlignedPairs
from dln_manifolds.geometry.polar_flow import Layout
from dln_manifolds.numerics.arrays import Array


class ModalPaths:
    """Modal paths between positions ``[D; E_L; E_R]`` of size one, ``(n_batch, r + m + n, r)``.

    More modes change nothing where the last unknowns are relatively below ``decayed``, beside the
    largest of them and the ``way`` between the ends.
    """

    #: Modes and quadrature nodes, from the first rough minimization to the last resort.
    levels: ClassVar[tuple[tuple[int, int], ...]]
    chart: Chart | None = None
    way: Array

    def __init__(
        self, start: Array, end: Array, *, shape: tuple[int, int], depth: float, decayed: float
    ) -> None:
        self.layout, self.decayed = Layout(shape, start.shape[-1], depth), decayed
        self.pairs = AlignedPairs(start, end, self.layout)

    @property
    def n_levels(self) -> int:
        """Number of resolutions."""
        return len(self.levels)

    def extend(self, guess: Guess, rows: Array, level: int) -> Guess:
        """Append modes with coefficient zero."""
        unknowns = guess.unknowns
        missing = self.levels[level][0] - unknowns.shape[1]
        blank = np.zeros((len(unknowns), missing, *unknowns.shape[2:]))
        return replace(guess, unknowns=np.concatenate([unknowns, blank], axis=1))

    def has_decayed(self, guess: Guess, rows: Array, level: int) -> Array:
        """Whether the last two modes are small beside the largest and the way."""
        unknowns = guess.unknowns
        flat = unknowns.reshape(*unknowns.shape[:2], math.prod(unknowns.shape[2:]))
        sizes = np.sqrt(np.einsum("bmi,bmi->bm", flat, flat))
        whole = np.maximum(self.way[rows], sizes.max(axis=1))
        return np.asarray(sizes[:, -2:].max(axis=1) <= self.decayed * whole)

    def singular_time(self, guess: Guess, level: int) -> Array:
        """Return infinity: paths cross singular matrices, where the flow sees that, or do not."""
        return never(len(guess.unknowns))

    def shift(self, aim: Array, defect: Array) -> Array:
        """Return the sum."""
        return aim + defect
