r"""How the bases of two matrices of rank r are turned to face each other.

With bases ``E_0`` and ``E_1`` of column spaces, ``F_0`` and ``F_1`` of row spaces, rotations with
``exp(Omega_L) E_0 = E_1 P`` and ``exp(Omega_R) F_0 = F_1 P`` carry one matrix near the other for
every orthogonal P. Best is the P for which they share the turn fairly: the blocks of ``Omega_L``
and ``Omega_R`` on the first bases add up to zero, and those on the complements vanish. (Ours.)
"""

from __future__ import annotations

from functools import cached_property
from itertools import combinations
from typing import NamedTuple

import numpy as np

from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.polar_chart import nodal_state
from dln_manifolds.geometry.polar_flow import Layout
from dln_manifolds.geometry.stretch import per_layer
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import (
    diagonal,
    frobenius,
    rotation,
    rotation_angles,
    transpose,
)

# Rounds of the refinement at most, and the blocks that count as zero.
_ROUNDS, _SETTLED = 12, 1e-4
# Largest polar angle from which turning by 2 pi less is tried too. Of some thousand Gaussian pairs
# where that is shorter (one to nine in a hundred for n = 3 to 8), the smallest angle was 2.69.
_WIDE = 2.5
# Product of both ratios of least to largest singular values below which other ways are shorter at
# smaller angles too: of two thousand pairs at N = 2 to 30 the largest such product was 4e-7. The
# smallest such angle was 2.08. Of Gaussian matrices these ratios are about 1 / n: with more than so
# many rows the bound falls as their product does. Of 68 pairs between both bounds (n = 12, 20) the
# search from all starts, which takes twenty times as long, found one shorter way, by 2e-3: as often
# as above both.
_STEEP, _STEEP_SHALLOW, _APART, _ORDINARY = 1e-6, 1e-4, 1.5, 8
# Energy in the middle of another way, beside that of the first one, above which it is not tried: of
# 284 that were shorter, at n = 3 to 8 and N = 2 to 30, the largest was 1.07, and of the others half
# to four fifths were above.
_LIKELY = 1.15
# Least singular value of ``E_1^T E_0 + F_1^T F_0`` below which flips of directions are tried too.
_LOOSE = 0.7
# How far ends may be from those of an earlier geodesic, relative to each other: beyond, the search
# anew is as fast, as what it does first costs least.
_NEARBY = 1e-4


class Earlier(NamedTuple):
    """Geodesics of size one that were found before, of some ``members`` of what is sought now.

    Positions ``[D; E_L; E_R]``, ``(n_members, n_times, rows, r)``, at times from 0 to 1.
    """

    members: Array
    times: Array
    positions: Array

    def take(self, rows: Array) -> Earlier:
        """Return some."""
        return Earlier(*(value[rows] for value in self))


class Facing(NamedTuple):
    """Angular velocities ``Omega_L`` and ``Omega_R``, and their exponentials."""

    left: Array
    right: Array
    left_turn: Array
    right_turn: Array

    @classmethod
    def of_velocities(cls, left: Array, right: Array) -> Facing:
        """Add the exponentials."""
        return cls(left, right, rotation(left), rotation(right))

    def take(self, members: Array | slice) -> Facing:
        """Return those of some members."""
        return Facing(*(value[members] for value in self))

    def put(self, members: Array, other: Facing) -> Facing:
        """Return the same with others for some members."""
        changed = Facing(*(value.copy() for value in self))
        for value, another in zip(changed, other, strict=True):
            value[members] = another
        return changed


def common_bases(first: Array, last: Array) -> Array:
    """Return bases, ``(n_batch, m, min(m, 2 r))``, of spaces that hold both of ``(n_batch, m, r)``.

    They begin with the first: orthogonal maps that fix both column spaces of two matrices are
    isometries, so geodesics between these stay in there.
    """
    rank = first.shape[-1]
    if first.shape[-2] == rank:
        return first
    rest = last - first @ (transpose(first) @ last)
    basis = np.linalg.qr(np.concatenate([first, rest], axis=-1))[0]
    return np.concatenate([first, basis[..., rank:]], axis=-1)


def skew_logarithm(turn: Array) -> Array:
    """Return principal logarithms of rotations, to 1e-6: of an angle near pi, any."""
    vectors, angles = rotation_angles(turn)
    return skew_of(vectors, angles)


def skew_of(vectors: Array, angles: Array) -> Array:
    """Return skew matrices with the given eigenvectors and rotation angles."""
    adjoint = np.conj(transpose(vectors))
    skew = ((vectors * (1j * angles)[..., None, :]) @ adjoint).real
    return np.asarray(0.5 * (skew - transpose(skew)))


def signed_polar(matrix: Array, sign: Array | None) -> Array:
    """Return the nearest orthogonal matrices, of determinants with the given signs if any."""
    u, _, vt = np.linalg.svd(matrix)
    if sign is not None:
        u = u.copy()
        u[..., -1] *= (sign * np.linalg.slogdet(u @ vt)[0])[..., None]
    return np.asarray(u @ vt)


def completed(columns: Array) -> Array:
    """Return rotations that begin with these columns, the rest as near to the identity as can be.

    Square ones are returned as they are.
    """
    size, rank = columns.shape[-2:]
    if size == rank:
        return columns
    rest = np.linalg.qr(columns, mode="complete")[0][..., rank:]
    nearest = signed_polar(transpose(rest[..., rank:, :]), None)
    turn = np.concatenate([columns, rest @ nearest], axis=-1)
    odd = np.linalg.slogdet(turn)[0] < 0
    if odd.any():
        sign = -np.linalg.slogdet(nearest[odd])[0]
        other = signed_polar(transpose(rest[odd][..., rank:, :]), sign)
        turn[odd, :, rank:] = rest[odd] @ other
    return turn


def facing(left_end: Array, right_end: Array, turn: Array) -> Facing:
    """Return the rotations of ``[I; 0]`` into ``E_1 P`` and ``F_1 P``, P refined from a first one.

    ``left_end`` and ``right_end`` are the last bases in coordinates of `common_bases`.
    """
    rank = turn.shape[-1]
    turns = [completed(end @ turn) for end in (left_end, right_end)]
    for rounds in range(_ROUNDS + 1):
        velocities = [skew_logarithm(x) for x in turns]
        share = 0.5 * np.sum([x[..., :rank, :rank] for x in velocities], axis=0)
        corners = [x[..., rank:, rank:] for x in velocities]
        largest = max(np.abs(x).max(initial=0.0) for x in (share, *corners))
        if rounds == _ROUNDS or largest < _SETTLED:
            break
        back = rotation(-share)
        turns = [
            np.concatenate([x[..., :rank] @ back, x[..., rank:] @ rotation(-corner)], axis=-1)
            for x, corner in zip(turns, corners, strict=True)
        ]
    return Facing.of_velocities(*velocities)


class AlignedPairs:
    """A batch of pairs of positions ``[D; E_L; E_R]`` of size one.

    ``bases`` are the common bases of column and row spaces of both, which begin with those of the
    start; ``last`` are those of the end in their coordinates.
    """

    def __init__(self, start: Array, end: Array, layout: Layout) -> None:
        self.layout = layout
        (first_stretch, *first), (last_stretch, *last) = layout.split(start), layout.split(end)
        self.stretches, self._ends = (first_stretch, last_stretch), (start, end)
        self.bases = common_bases(first[0], last[0]), common_bases(first[1], last[1])
        self.last = self.reduced(last[0], last[1], slice(None))

    def reduced(self, left: Array, right: Array, rows: Array | slice) -> tuple[Array, Array]:
        """Return bases of some members in coordinates of the common ones."""
        return transpose(self.bases[0][rows]) @ left, transpose(self.bases[1][rows]) @ right

    def facing(self) -> Facing:
        """Return how the first bases turn into the last ones."""
        if self.layout.full:
            return halved(*self._polar_turn)
        return facing(*self.last, self._first_turn)

    def rivals(self, thorough: bool = False) -> list[tuple[Array, Facing]]:
        """Return other turns of some members, by their indices, where these may be shorter.

        If it is to be ``thorough``, all that there are of every member.
        """
        if thorough:
            return self._all_turns() if self.layout.full else self._all_flips()
        if self.layout.full:
            return self._the_other_way()
        rows = np.nonzero(np.linalg.svd(self._coupling, compute_uv=False)[:, -1] < _LOOSE)[0]
        if rows.size == 0:
            return []
        counts = [1] * self._single + [2] * (self.layout.rank > 1)
        places = (range(self.layout.rank - count, self.layout.rank) for count in counts)
        return [(rows, self._flipped(rows, list(place))) for place in places]

    def resumed(self, earlier: Earlier, rows: Array) -> tuple[Array, Facing, Array, Array]:
        """Return how earlier geodesics of some rows, square ones of full rank, look from here.

        Of those, by their places, whose ends are near these: the facing, C and D with
        ``exp(t Omega_L) C f(D) C exp(-t Omega_R)`` for their points.
        """
        ends = [end[rows] for end in self._ends]
        apart = sum(self._apart(earlier.positions[:, k], ends[k]) for k in (0, -1))
        near = np.flatnonzero(apart <= _NEARBY * self._apart(*ends))
        rows, (_, times, positions) = rows[near], earlier.take(near)
        frame, t = self.facing().take(rows), times[:, :, None, None]
        stretch, *sides = self.layout.split(positions)
        left, right = (
            transpose(basis[rows])[:, None] @ side
            for basis, side in zip(self.bases, sides, strict=True)
        )
        back, identity = rotation(-t * frame.left[:, None]), np.eye(self.layout.rank)
        # exp(t Omega_L) C^2 exp(-t Omega_R) is the polar factor, and Omega_R = -Omega_L
        half = signed_polar(identity + back @ left @ transpose(right) @ back, None)
        gauge = transpose(half) @ back @ left
        return near, frame, half, gauge @ stretch @ transpose(gauge)

    def _apart(self, first: Array, last: Array) -> Array:
        """Return how far polar factors and stretches are apart, in whatever gauge these are."""
        both = []
        for position in (first, last):
            stretch, left, right = self.layout.split(position)
            both.append(left @ np.concatenate([transpose(right), stretch @ transpose(left)], -1))
        return frobenius(both[1] - both[0])

    def likely(self) -> list[tuple[Array, Facing]]:
        """Return those of `rivals` whose straight paths have not much more energy in the middle."""
        if not self.layout.full:
            return self.rivals()
        likely = []
        for rows, turned in self.rivals():
            first = halved(*(value[rows] for value in self._polar_turn))
            energies = (self._energy_in_the_middle(rows, way) for way in (first, turned))
            kept = _LIKELY * next(energies) >= next(energies)
            likely.append((rows[kept], turned.take(kept)))
        return likely

    def _energy_in_the_middle(self, rows: Array, turned: Facing) -> Array:
        """Return the energy at t = 1/2 of some members' straight stretches in turning frames."""
        first, last = (stretch[rows] for stretch in self.stretches)
        seen = transpose(turned.left_turn) @ self.last[0][rows]
        last = seen @ last @ transpose(seen)
        bodies = np.stack([turned.left, turned.right], axis=1)
        return nodal_state(0.5 * (first + last), last - first, bodies, self.layout.depth).energy

    @property
    def _single(self) -> bool:
        """Whether one direction may be flipped: an odd number leads to another component."""
        return min(basis.shape[-1] for basis in self.bases) > self.layout.rank

    def _flipped(self, rows: Array, places: list[int]) -> Facing:
        """Turn some members with some singular directions flipped."""
        u, _, vt = (x[rows] for x in np.linalg.svd(self._weighted))
        signs = np.sign(diagonal(transpose(u) @ self._first_turn[rows] @ transpose(vt)))
        signs[:, places] *= -1
        return facing(self.last[0][rows], self.last[1][rows], (u * signs[:, None, :]) @ vt)

    def _all_flips(self) -> list[tuple[Array, Facing]]:
        """Flip one direction, where that may be, or two."""
        rows, r = np.arange(len(self.last[0])), self.layout.rank
        counts = [1] * self._single + [2] * (r > 1)
        return [
            (rows, self._flipped(rows, list(places)))
            for count in counts
            for places in combinations(range(r), count)
        ]

    def _all_turns(self) -> list[tuple[Array, Facing]]:
        """Turn planes of the polar factor backwards, or planes of either end by pi, likely first.

        One plane or two of the polar factor, any of an end: likely are the widest and the least.
        """
        (vectors, angles), n = self._polar_turn, self.layout.rank
        rows = np.arange(len(angles))
        if n == 1:
            return []
        wide, *others = (
            (rows, halved(vectors, backwards(angles, places)))
            for count in (1, 2)
            for places in combinations(range(n // 2), count)
        )
        halves = [
            (rows, self._half_turn(rows, end, pair, way))
            for pair in sorted(combinations(range(n), 2), key=sum)
            for end in (0, 1)
            for way in (1.0, -1.0)
        ]
        return [wide, *halves[:4], *others, *halves[4:]]

    def _half_turn(self, rows: Array, end: int, pair: tuple[int, int], way: float) -> Facing:
        """Turn a plane of singular directions of one end, counted from the least, by pi.

        The rest of the way from polar factor to polar factor is left to the path.
        """
        directions = np.linalg.eigh(self.stretches[end][rows])[1]
        first, second = (directions[:, :, k, None] for k in pair)
        turn = first @ transpose(second)
        turn = 0.5 * np.pi * way * (turn - transpose(turn))
        left = right = turn
        if end:
            left, right = (side[rows] @ turn @ transpose(side[rows]) for side in self.last)
        return Facing.of_velocities(left, -right)

    @cached_property
    def _polar_turn(self) -> tuple[Array, Array]:
        """Eigenvectors and angles of the rotation from one polar factor to the other."""
        return rotation_angles(self.last[0] @ transpose(self.last[1]))

    def _the_other_way(self) -> list[tuple[Array, Facing]]:
        """Turn backwards in the plane of largest angle, where that is wide."""
        vectors, angles = self._polar_turn
        # In the plane the other way is longer.
        rows = np.nonzero(is_wide(angles) & (self.layout.rank > 2))[0]
        if rows.size == 0:
            return []
        return [(rows, halved(vectors[rows], backwards(angles[rows])))]

    @cached_property
    def _coupling(self) -> Array:
        """``E_1^T E_0 + F_1^T F_0``."""
        r = self.layout.rank
        return transpose(self.last[0][:, :r] + self.last[1][:, :r])

    @cached_property
    def _weighted(self) -> Array:
        """The same between the roots of both ends."""
        first, last = (
            np.eye(self.layout.rank) + per_layer(stretch, self.layout.depth)
            for stretch in self.stretches
        )
        return last @ self._coupling @ first

    @cached_property
    def _first_turn(self) -> Array:
        """P of `facing`, before it is refined; if a side is as short as r, its sign is given."""
        sign = None
        for end in self.last:
            if end.shape[-2] == self.layout.rank:
                sign = np.linalg.slogdet(end)[0]
        return signed_polar(self._weighted, sign)


def is_wide(angles: Array, least: float = _WIDE) -> Array:
    """Whether the largest angle is so wide that the other way may be shorter."""
    return np.asarray(np.max(np.abs(angles), axis=-1) > least)


def is_steep(first: Frame, last: Frame, layout: Layout) -> Array:
    """Whether any other way may be shorter: matrices nearly singular, and polar factors apart."""
    steep = np.zeros(len(first.values), dtype=bool)
    if layout.full and layout.rank > 2:
        ratios = [end.values[:, -1] / end.values[:, 0] for end in (first, last)]
        deep = _STEEP * min(1.0, _ORDINARY / layout.rank) ** 2
        bound = deep if layout.depth >= 2 else _STEEP_SHALLOW
        rows = np.flatnonzero(ratios[0] * ratios[1] < bound)
        before, after = first.take(rows).polar, last.take(rows).polar
        steep[rows] = is_wide(rotation_angles(after @ transpose(before))[1], _APART)
    return steep


def backwards(angles: Array, planes: tuple[int, ...] = (0,)) -> Array:
    """Return angles of rotations, ``(n_batch, n)``, some of the largest turned the other way."""
    places = [k for plane in planes for k in (2 * plane, 2 * plane + 1)]
    largest = np.argsort(-np.abs(angles), axis=1)[:, places]
    chosen = np.take_along_axis(angles, largest, axis=1)
    turned = angles.copy()
    np.put_along_axis(turned, largest, chosen - 2 * np.pi * np.sign(chosen), axis=1)
    return turned


def halved(vectors: Array, angles: Array) -> Facing:
    """Return turns by a rotation, half from each side."""
    # Of the skew matrix itself: where eigenvectors are mixed up, it is not quite the logarithm, but
    # every frame will do that agrees with its own angular velocities.
    skew = skew_of(vectors, 0.5 * angles)
    turn = rotation(skew)
    return Facing(skew, -skew, turn, transpose(turn))
