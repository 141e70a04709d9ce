"""From matrices of the root chart with velocities to the positions and momenta of the flow."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dln_manifolds.geometry.polar_flow import Layout
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import diagonal, rotation, transpose
from dln_manifolds.numerics.polynomials import propagators

# Least sum of singular values of ``U + V`` that is divided by: where U and V are apart by a turn of
# pi, g may be any, and is left at rest.
_OPPOSITE = 1e-8


class SingularFrame(NamedTuple):
    """Points of the root chart and their velocities in singular bases, seen from a turning frame.

    ``left``, ``roots`` and ``right``: ``T = U diag(l) V^T``; ``velocity`` and ``momentum`` (of the
    metric g_N) are those of the core in that frame, ``sides`` the parts beside it, ``T' V`` and
    ``T'^T U`` without their core.
    """

    left: Array
    roots: Array
    right: Array
    velocity: Array
    momentum: Array
    sides: tuple[Array, Array]


def flow_states(
    at: SingularFrame,
    turns: tuple[Array, Array],
    times: Array,
    bases: tuple[Array, Array],
    layout: Layout,
) -> Array:
    """Return positions and momenta along paths at Gauss nodes, ``(n_batch, n_nodes, 2, rows, r)``.

    ``turns`` are the angular velocities of the frame of ``at``, which at time zero is spanned by
    the ``bases`` and has the bases ``[I; 0]`` of the start. The frames of the flow turn against
    each other only. So do U and V, if they move by the velocities alone; smooth frames are U g and
    V g with ``g = polar(V^T [I; 0] + U^T [I; 0])``, and ``g' = g m`` is undone from there on.
    """
    roots, depth = at.roots, layout.depth
    pair_sum = roots[..., :, None] + roots[..., None, :]
    g = _smooth_turn(at, (at.velocity - transpose(at.velocity)) / pair_sum, turns, layout.rank)
    back = transpose(g)
    stretch, momentum = np.zeros_like(at.momentum), at.momentum
    diagonal(stretch)[...] = depth * (roots - 1)
    core = 0.5 * (momentum + transpose(momentum))
    core += 0.5 * depth * pair_sum * (momentum - transpose(momentum))
    frames, outside = [], []
    for turn, basis, frame, side in zip(turns, bases, (at.left, at.right), at.sides, strict=True):
        swung = basis[:, None] @ rotation(times[:, None, None] * turn[:, None])
        frames.append(swung @ (frame @ g))
        if layout.full:
            outside.append(np.zeros_like(frames[-1]))
        else:
            outside.append(swung @ ((depth * roots[..., None, :] * side) @ g))
    position = layout.position(back @ stretch @ g, *frames)
    return np.stack([position, layout.stacked(back @ core @ g, *outside)], axis=2)


def _smooth_turn(at: SingularFrame, twist: Array, turns: tuple[Array, Array], rank: int) -> Array:
    """Return the g of the flow's frames U g and V g; ``twist`` is w, by which these turn apart."""
    top, drift = np.zeros((2, *twist.shape))
    for sign, frame, turn, side in zip(
        (0.5, -0.5), (at.left, at.right), turns, at.sides, strict=True
    ):
        velocity = side / at.roots[..., None, :] + frame @ (sign * twist) - turn[:, None] @ frame
        top += frame[..., :rank, :]
        drift += velocity[..., :rank, :]
    u, values, vt = np.linalg.svd(transpose(top))
    # the skew part of g^T g', in the right singular bases
    drift = transpose(u) @ transpose(drift) @ transpose(vt)
    sums = np.maximum(values[..., :, None] + values[..., None, :], _OPPOSITE)
    common = (drift - transpose(drift)) / sums
    return np.asarray(u @ vt @ propagators(-(transpose(vt) @ common @ vt))[:, :-1])
