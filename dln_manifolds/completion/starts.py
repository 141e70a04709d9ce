"""Starts of paths through det = 0: which singular directions are flipped, and which way they turn.

A path turns from the orthogonal matrix ``U_0 F V_0^T`` of its first end to ``U_1 G V_1^T`` of its
last, F and G diagonal with signs: a direction that is flipped passes zero.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from dln_manifolds.geometry.frame import Frame
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import nearest_orthogonal, transpose


class Flips(NamedTuple):
    """A start: signs of singular directions of both ends, ``(n_batch, n)``, and the winding."""

    first: Array
    last: Array
    backwards: bool


def opposite_starts(n_batch: int, n: int) -> list[Flips]:
    """Return starts between determinants of opposite signs.

    Each flips one direction of one end, the last or the last but one; those of the last also turn
    the other way round. (In some thousand Gaussian pairs the shortest of all flips was among them,
    and what starts with the flip of the last direction of the first end alone was not in one of
    forty, by up to 8 %.)
    """
    one, starts = np.ones((n_batch, n)), []
    for place in range(n - 1, max(n - 3, -1), -1):
        flipped = one.copy()
        flipped[:, place] = -1
        for pair in ((flipped, one), (one, flipped)):
            starts.append(Flips(*pair, False))
            if place == n - 1 and n > 2:
                starts.append(Flips(*pair, True))
    return starts


def same_starts(n_batch: int, n: int) -> list[Flips]:
    """Return starts between determinants of one sign: no flip, or the last two of one end."""
    one = np.ones((n_batch, n))
    flipped = one.copy()
    flipped[:, -2:] = -1
    pairs = ((one, one), (flipped, one), (one, flipped))
    windings = (False, True) if n > 2 else (False,)
    return [Flips(*pair, way) for pair in pairs for way in windings]


def singular_starts(first: Frame, last: Frame) -> list[Flips]:
    """Return starts to a singular end, whose null direction has the sign that suits each.

    Without a flip, with that of the last direction of the first end, and with that of the least
    direction of the last end that is not null.
    """
    n_batch, n = first.values.shape
    sign = np.linalg.slogdet(first.polar)[0] * np.linalg.slogdet(last.polar)[0]
    starts, rank = [], (last.values > 0).sum(axis=-1)
    for which in range(3):
        here, there = np.ones((2, n_batch, n))
        there[:, -1] = sign
        if which == 1:
            here[:, -1] = -1
            there[:, -1] *= -1
        if which == 2:
            there[np.arange(n_batch), np.maximum(rank - 1, 0)] *= -1
            there[:, -1] *= -1
        starts += [Flips(here, there, way) for way in ((False, True) if n > 2 else (False,))]
    return starts


def with_near_null(first: Frame, last: Frame) -> Frame:
    """Return the last end with null directions that turn least from the first, if several."""
    null = last.values == 0
    overlap = transpose(last.left) @ first.polar @ transpose(last.right_t)
    both = null[:, :, None] & null[:, None, :]
    # The nearest orthogonal matrix among null directions, and the identity elsewhere.
    turn = nearest_orthogonal(np.where(both, overlap, np.eye(null.shape[-1])))
    return replace(last, left=last.left @ turn)
