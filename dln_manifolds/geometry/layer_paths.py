r"""First paths between balanced layers: bases that turn steadily, roots on a straight line.

Of invertible layers the polar factors turn. Of lower rank, or unequal widths, the columns ``Q_p``
do, by rotations that carry ``Q_p`` to ``Q'_p R`` with one orthogonal R for all p, as in
:mod:`dln_manifolds.geometry.facing`. (Ours.)
"""

import numpy as np

from dln_manifolds.geometry.chain import Chain
from dln_manifolds.geometry.facing import completed, signed_polar, skew_logarithm
from dln_manifolds.geometry.frame import Frame, full_nodes
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import (
    identity_before,
    nearest_orthogonal,
    prefix_products,
    rotation,
    rotation_angles,
    transpose,
)

# Rounds of the refinement of R at most, and the blocks that count as zero.
_ROUNDS, _SETTLED = 12, 1e-4


def polar_path(start: Array, end: Array, times: Array) -> Array:
    """Return the path of invertible layers that turn by their polar factors; it is balanced.

    ``W_p = O_p H_{p-1}``, ``H_p = O_p H_{p-1} O_p^T``, with ``H_0`` on a straight line of
    positive matrices and ``O_p`` turning from one polar factor to the other.
    """
    turn_0, turn_1 = nearest_orthogonal(start), nearest_orthogonal(end)
    turn = transpose(turn_0) @ turn_1
    eigenvectors, angles = rotation_angles(turn)
    t = np.append(times, 1.0)[:, None, None]
    phases = np.exp(1j * t * angles[:, None])
    vectors = eigenvectors[:, None]
    turned = ((vectors * phases[..., None, :]) @ np.conj(transpose(vectors))).real
    # Angles are known to 1e-6 only: what is left at the end turns steadily, too.
    t, turned, reached = t[:-1], turned[:, :-1], turned[:, -1]
    rest = transpose(reached) @ turn
    rest = 0.5 * t[..., None] * (rest - transpose(rest))[:, None]
    turned = turned + turned @ (rest + 0.5 * rest @ rest)
    turns = turn_0[:, None] @ turned
    first = [
        (transpose(right_t) * s[:, None, :]) @ right_t
        for _, s, right_t in (np.linalg.svd(start[:, 0]), np.linalg.svd(end[:, 0]))
    ]
    positive = (1 - t) * first[0][:, None] + t * first[1][:, None]
    # W_p = (O_p ... O_1) H_0 (O_{p-1} ... O_1)^T
    products = prefix_products(turns)
    return products @ positive[:, :, None] @ transpose(identity_before(products))


def _weights(chain: Chain) -> Array:
    """Return shares of the nodes p = 0 .. N by how many layers each belongs to."""
    shares = np.full(chain.count + 1, 1 / chain.count)
    shares[[0, -1]] *= 0.5
    return shares


def mean_coupling(first: Frame, last: Frame) -> Array:
    """Return the weighted mean of ``Q'_p^T Q_p`` over p, shape ``(n_batch, r, r)``.

    Singular values are at most one: small ones belong to columns that may turn either way.
    """
    weights = _weights(first.layout)
    return np.einsum("p,bpij,bpik->bjk", weights, last.bases, first.bases)


def facing_path(first: Frame, last: Frame, times: Array, flips: int = 0) -> Array:
    """Return the path of layers ``Q_p(t) H(t) Q_{p-1}(t)^T`` at some times, ``(n, n_times, *)``.

    ``Q_p(t)`` are the columns Q_p of the first layers under steady rotations of ``R^(d_p)``, and
    ``H(t)`` lies on a straight line of positive matrices. ``first`` and ``last`` have a flat batch.
    ``flips`` is how many singular directions of the coupling, the least ones, turn the other way.
    """
    chain, rank = first.layout, first.values.shape[-1]
    weights, start, end = _weights(chain), first.bases, last.bases
    coupling = last.roots[:, :, None] * mean_coupling(first, last) * first.roots[:, None, :]
    square = full_nodes(chain, rank)
    sign = None
    if square:
        both = (bases[:, square[0], :rank] for bases in (start, end))
        sign = np.prod([np.linalg.slogdet(basis)[0] for basis in both], axis=0)
    gauge = signed_polar(coupling, sign)
    if flips:
        # gauge = u v^T with singular vectors of the coupling.
        u, _, _ = np.linalg.svd(coupling)
        least = u[..., -flips:]
        gauge = gauge - 2 * least @ (transpose(least) @ gauge)
    groups = [
        (width, [place for place, size in enumerate(chain.widths) if size == width])
        for width in sorted(set(chain.widths))
    ]
    frames = [completed(start[:, places, :width]) for width, places in groups]
    ends = [
        transpose(frame) @ end[:, places, :width]
        for frame, (width, places) in zip(frames, groups, strict=True)
    ]
    shares = [weights[places] for _, places in groups]
    gauge, velocities = _steady(ends, gauge, shares)
    bases = np.zeros((len(start), times.size, *start.shape[1:]))
    t = times[:, None, None]
    for frame, velocity, (width, places) in zip(frames, velocities, groups, strict=True):
        turned = rotation(t[:, None] * velocity[:, None])[..., :rank]
        bases[:, :, places, :width] = frame[:, None] @ turned
    target = transpose(gauge) @ (last.roots[..., None] * gauge)
    positive = (1 - t) * (first.roots[..., None] * np.eye(rank))[:, None] + t * target[:, None]
    after, before = bases[:, :, 1:], bases[:, :, :-1]
    return chain.outer(after @ positive[:, :, None], transpose(before))


def _steady(ends: list[Array], gauge: Array, shares: list[Array]) -> tuple[Array, list[Array]]:
    """Return R, refined, and the angular velocities that take ``[I; 0]`` to the ends times R.

    The first r rows and columns of the velocities add up to zero, weighed by shares, and what is
    beyond them vanishes.
    """
    rank = gauge.shape[-1]
    turns = [completed(end @ gauge[:, None]) for end in ends]
    for rounds in range(_ROUNDS + 1):
        velocities = [skew_logarithm(turn) for turn in turns]
        mean = np.zeros_like(gauge)
        for share, velocity in zip(shares, velocities, strict=True):
            mean += np.einsum("p,bpij->bij", share, velocity[..., :rank, :rank])
        corners = [velocity[..., rank:, rank:] for velocity in velocities]
        largest = max(np.abs(x).max(initial=0.0) for x in (mean, *corners))
        if rounds == _ROUNDS or largest < _SETTLED:
            break
        back = rotation(-mean)
        gauge = gauge @ back
        turns = [
            np.concatenate(
                [turn[..., :rank] @ back[:, None], turn[..., rank:] @ rotation(-corner)], axis=-1
            )
            for turn, corner in zip(turns, corners, strict=True)
        ]
    return gauge, velocities
