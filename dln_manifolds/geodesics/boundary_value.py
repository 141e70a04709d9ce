"""The logarithm of end-to-end matrices: the geodesic between two points.

A closed form where one holds; otherwise a path in the root chart, started from a polar path,
refined and verified as :mod:`dln_manifolds.geodesics.multilevel` says. All of it is done with both
points scaled to the same size; :mod:`dln_manifolds.geodesics.scaling` does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dln_manifolds.geodesics.fields import RootField, Turning
from dln_manifolds.geodesics.integrate import CONVERGED, CROSSED, STALLED
from dln_manifolds.geodesics.members import Members
from dln_manifolds.geodesics.multilevel import Guess, refine
from dln_manifolds.geodesics.root_paths import PathState, PolarTurn, path_basis
from dln_manifolds.geodesics.scaling import Cone
from dln_manifolds.geodesics.solution import GeodesicSolution
from dln_manifolds.geometry.closed_forms import closed_form_velocity, lower_bound
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import lower, pull_from_root, raise_, root_of
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import frobenius, transpose

# Modes and quadrature nodes, from the first rough minimization to the last resort.
_LEVELS = ((6, 8), (14, 18), (24, 32), (40, 54), (64, 86), (104, 140))
# The error of the initial momentum is about a tenth of the square of the last coefficients.
_DECAYED = 5e-6
# Largest polar angle from which turning by 2 pi less is tried too. Of some thousand Gaussian pairs
# where that is shorter (one to nine in a hundred for n = 3 to 8), the smallest angle was 2.69.
_WIDE = 2.5
# Depth below which geodesics come near singular matrices with little sign of it before.
_SHALLOW = 2
# Tolerance of the flow at which residuals of 1e-11 can be verified.
_FULL = 1e-13
_SHARE = 0.98


def residual_goal(depth: float, tolerance: float = _FULL) -> float:
    """Relative residual at which log counts as solved.

    It is 1e-11, or 100 times a looser tolerance of the flow that has to verify it, and more for
    very deep networks: the end-to-end matrix is the N-th power of what is computed with, which
    multiplies relative errors by N; the square leaves room for the worst seen up to N = 200. A
    little is kept back for the rounding by which another solution of the same flow differs.
    """
    return _SHARE * 100 * max(tolerance, _FULL) * max(1.0, (depth / 8) ** 2)


@dataclass(frozen=True, eq=False)
class RootPaths:
    """Family of modal paths in the root chart at one depth.

    Attributes
    ----------
    depth : float
        Depth N >= 1.
    decayed : float
        Relative size of the last coefficients below which more modes would change nothing.
    first_polar, last_polar : ndarray, shape=[n_batch, n, n]
        Orthogonal polar factors of the end points that `initial` is called with.
    """

    depth: float
    decayed: float
    first_polar: Array
    last_polar: Array

    @property
    def n_levels(self) -> int:
        """Number of resolutions."""
        return len(_LEVELS)

    def initial(self, start: Array, end: Array) -> tuple[Guess, Array, Guess | None]:
        """Return straight lines in frames that turn with the polar factors.

        Where they turn by nearly pi, those that turn the other way round are rivals.
        """
        turn = PolarTurn.between(self.first_polar, self.last_polar)
        wide = np.max(np.abs(turn.angles), axis=-1) > _WIDE
        # In the plane the other way is longer; for N < 2 it may lead out of GL(n).
        rows = np.nonzero(wide & (start.shape[-1] > 2) & (self.depth >= 2))[0]
        unknowns = np.zeros((len(start), _LEVELS[0][0], *start.shape[1:]))
        guess = Guess(unknowns, turn.frames())
        if rows.size == 0:
            return guess, rows, None
        return guess, rows, Guess(unknowns[rows], turn.the_other_way(rows).frames())

    def extend(self, guess: Guess, start: Array, end: Array, level: int) -> Guess:
        """Append modes with coefficient zero."""
        unknowns = guess.unknowns
        shape = (len(unknowns), _LEVELS[level][0] - unknowns.shape[1], *unknowns.shape[2:])
        return replace(guess, unknowns=np.concatenate([unknowns, np.zeros(shape)], axis=1))

    def path(self, guess: Guess, start: Array, end: Array, level: int) -> PathState:
        """Return paths with their energy."""
        turns, rotations = guess.frames[:, :2], guess.frames[:, 2:]
        seen = transpose(rotations[:, 0]) @ end @ rotations[:, 1]
        basis = path_basis(*_LEVELS[level])
        return PathState(start, seen, guess.unknowns, Turning(turns, rotations), basis, self.depth)

    def has_decayed(self, guess: Guess, start: Array, end: Array, level: int) -> Array:
        """Whether the last two coefficients are small beside chord and largest coefficient."""
        sizes = frobenius(guess.unknowns)
        whole = np.maximum(frobenius(end - start), sizes.max(axis=1))
        return sizes[:, -2:].max(axis=1) <= self.decayed * whole

    def singular_time(self, guess: Guess, level: int) -> Array:
        """Return infinity: these paths cross singular matrices, and the flow sees that."""
        return np.full(len(guess.unknowns), np.inf)

    def shift(self, aim: Array, defect: Array) -> Array:
        """Return the sum: the chart is linear."""
        return aim + defect


def solve_boundary_value(
    first: Frame,
    last: Frame,
    base_point: Array,
    point: Array,
    *,
    tolerance: float,
    record: bool = True,
) -> GeodesicSolution:
    """Find geodesics between pairs of points of one component of GL(n).

    Parameters
    ----------
    first, last : Frame
        Frames of the base points and of the points, at depth N.
    base_point, point : ndarray, shape=[n_batch, n, n]
        Invertible matrices X(0) and X(1) with equal signs of det.
    tolerance : float
        Relative local error of the verifying flow.
    record : bool
        Whether the solution has to be callable and to know its lower bound.

    Returns
    -------
    solution : GeodesicSolution
        Its ``status`` tells which members are solved: those whose ``residual`` is at most
        :func:`residual_goal`.
    """
    depth = first.depth
    # The largest singular values of both points are scaled to one, and then their sizes.
    top_0, top_1 = first.singular_values[:, 0], last.singular_values[:, 0]
    common = np.maximum(top_0, top_1)
    bound = np.full(common.shape, np.nan)
    if record:
        bound = lower_bound(first.scaled(1 / common), last.scaled(1 / common))
    first, last = first.scaled(1 / top_0), last.scaled(1 / top_1)
    start, end = root_of(first), root_of(last)
    size_0, size_1 = (np.sqrt((frame.roots**2).sum(axis=-1)) for frame in (first, last))
    start, end = start / size_0[:, None, None], end / size_1[:, None, None]
    cone = Cone(top_0 ** (1 / depth) * size_0, top_1 ** (1 / depth) * size_1, depth)
    field = RootField(depth)
    members = Members(
        flow_field=field,
        start=start,
        end=end,
        target=point,
        scale=cone.last,
        goal=residual_goal(depth, tolerance),
        tolerance=tolerance,
        record=record,
        # Near singular matrices, where geodesics of shallow networks lead, the end of a collocation
        # step is hardly better than its nodes.
        inside=record or depth < _SHALLOW,
    )
    velocity, known = closed_form_velocity(first, last)
    pick = np.nonzero(known)[0]
    if pick.size:
        growth = (size_1 - size_0)[:, None, None] * start
        velocity = (velocity - growth) / size_1[:, None, None]
        members.verify(pick, lower(first, velocity)[pick])
    pending = np.nonzero(members.status == STALLED)[0]
    if pending.size:
        decayed = _DECAYED * max(1.0, tolerance / _FULL) ** 0.5
        polar = (frame.polar[pending] for frame in (first, last))
        refine(members, RootPaths(depth, decayed, *polar), pending)

    velocity = raise_(first, members.momentum)
    unit_length = np.sqrt((velocity * members.momentum).sum(axis=(-2, -1)))
    n_solved = np.count_nonzero(members.status == CONVERGED)
    n_crossed = np.count_nonzero(members.status == CROSSED)
    n_batch = len(start)
    if depth == 1:
        initial_velocity = point - base_point
    else:
        velocity = cone.initial_rate(start, velocity, radial=1.0)
        factor = top_0 ** (1 - 1 / depth) * cone.scale
        initial_velocity = pull_from_root(first, velocity) * factor[:, None, None]
    return GeodesicSolution(
        initial_velocity=initial_velocity,
        end_point=members.end_point,
        length=cone.length(unit_length),
        lower_bound=common ** (1 / depth) * bound,
        residual=members.residual,
        n_iterations=members.n_iterations,
        n_evaluations=members.n_evaluations,
        status=members.status,
        crossing_time=cone.time(members.crossing),
        message=(
            f"{n_solved} of {n_batch} geodesics solved to a relative residual of "
            f"{members.goal:.1e}, {n_crossed} met a singular matrix, "
            f"{n_batch - n_solved - n_crossed} did not converge."
        ),
        depth=depth,
        tolerance=tolerance,
        _field=field,
        _scale=cone.scale,
        _trajectory=cone.trajectory(members.trajectory),
        _between=True,
    )
