"""Geodesics through det = 0: paths of least energy that are broken there, verified by the flow.

Both ends are scaled to size one; the cone law of :mod:`dln_manifolds.geometry.scaling` does the
rest. Paths start as polar turns from ``U_0 F V_0^T`` to ``U_1 G V_1^T``, where F and G flip the
last or the last but one singular direction of one end; the winner of a rough minimization is broken
where its determinant vanishes, and its aim is corrected until the flow from the start meets the
end. The flow needs no other formulas beyond det = 0: with positive roots or with signed ones, the
metric and the momentum are the same. (Ours.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dln_manifolds.completion.broken_paths import MIDDLE, BrokenPaths, minimized
from dln_manifolds.completion.starts import Flips
from dln_manifolds.geodesics.integrate import flow
from dln_manifolds.geodesics.root_paths import Ends, PathState
from dln_manifolds.geodesics.system import Status
from dln_manifolds.geometry.facing import Facing, backwards, halved
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.hamiltonian import nodal_state
from dln_manifolds.geometry.polar_flow import Layout
from dln_manifolds.geometry.scaling import Cone
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import (
    frobenius,
    rotation_angles,
    size_of,
    transpose,
    weigh,
)
from dln_manifolds.numerics.polynomials import modal_basis

# Modes and nodes of starts and of both sides of the break, and slopes to which these are minimized.
_CONTEST, _ROUGH = (6, 8), (5, 8)
_LEVELS, _LEVELS_TO_TIP = ((14, 18), (24, 32)), ((24, 32), (40, 54), (64, 86))
_COARSE, _MIDDLING, _FINE, _FINE_TO_TIP = 1e-2, 1e-4, 3e-12, 1e-14
# Slope after all steps of Newton's method at which a path is given up.
_LOST = 1e-3
# How often a break follows its path; and moves of it that change nothing, at first and at last.
_ROUNDS, _NEAR, _SETTLED = 4, 1e-2, 1e-10
# Breaks keep this distance from the ends.
_EDGE = 1e-6
# Corrections of the aim at each level, defects that can be corrected, and the share of the last one
# to which a correction must reduce a defect to be followed by another.
_CORRECTIONS, _CLOSE, _GAIN = 6, 0.1, 0.9
# Distance from the tip of a block of null directions from which its end is extrapolated: the
# farther, the less is a geodesic turned that misses the tip by little. Rounding of T turns it like
# the inverse square; but terms of order N + 2 in the distance may have no more derivatives.
_BEFORE, _UNSMOOTH = 5e-3, 1e-15
# Steps of the flow on either side of the break: usual are a dozen, and towards a tip some hundred.
_MAX_STEPS = 600
#: Evaluations and Hessian products at nodes after which a pair is given up; those of the flow count
#: more: they come a few at a time.
MOST, _STEPPED = 150_000, 10


@dataclass(frozen=True)
class CrossingFlow:
    """The geodesic flow of T and P in the root chart, which det = 0 does not stop."""

    depth: float
    reach = 0.0
    core_rank = None
    tip = 0.0

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return ``(dH/dP, -dH/dT)``, and that nothing singular is near."""
        nodal = nodal_state(state[:, 0, 0], self.depth, momentum=state[:, 1, 0])
        rate = np.stack([nodal.leave(nodal.velocity), -nodal.leave(nodal.gradient)], axis=1)
        return rate[:, :, None], np.full(len(state), np.inf)

    def core(self, position: Array) -> Array:
        """Return what does not become singular."""
        return np.broadcast_to(np.eye(position.shape[-1]), position.shape)

    def project(self, state: Array) -> Array:
        """Return the state: the chart is open."""
        return state

    def chart(self, state: Array, rate: Array) -> None:
        """Return None: rays may pass the tip of the cone."""

    def lines(self, state: Array, span: Array) -> None:
        """Return None: none is known."""

    def grown(self, position: Array, growth: Array) -> Array:
        """Return positions that have moved along rays."""
        return position * growth[:, None, None]


@dataclass(frozen=True, eq=False)
class CrossingCurves:
    """Geodesics between pairs of matrices, maybe through singular ones, as they were found.

    Seen from ``left`` and ``right``, orthogonal, they start at a diagonal matrix of size one and
    end in ``target``; ``knots`` and ``states`` are those of the flow, ``(n_knots, n_batch, ...)``,
    none if they were not recorded. Times t* are infinite where no singular matrix was met.
    """

    depth: float
    left: Array
    right: Array
    target: Array
    cone: Cone
    length: Array
    residual: Array
    solved: Array
    crossing: Array
    n_evaluations: Array
    knots: Array
    states: Array
    tolerance: float

    def evaluate(self, times: Array) -> Array:
        """Return points X at times in [0, 1], ``(n_batch, n_times, n, n)``."""
        frame = self._frame(times)
        return frame.compose(frame.singular_values)

    def crossing_roots(self) -> Array:
        """Return the root singular values at t*, or at t = 0 where there is no crossing.

        Relative to the size between those of the ends; NaN, if the curves were not recorded.
        """
        if not self.knots.size:
            return np.full(self.target.shape[:-1], np.nan)
        times = np.where(np.isfinite(self.crossing), self.crossing, 0.0)
        size = (1 - times) * self.cone.first + times * self.cone.last
        return self._frame(times[:, None]).values[:, 0] / size[:, None]

    def _frame(self, times: Array) -> Frame:
        """Return the frame of T."""
        first, last = self.cone.first[:, None], self.cone.last[:, None]
        size = (1 - times) * first + times * last
        tau = times * last / size
        nearest = np.abs(self.knots[:, :, None] - tau).argmin(axis=0)
        members = np.arange(len(tau))[:, None]
        # Those that were not followed to the end have an infinite last knot.
        until = np.maximum(self.knots[-1, :, None], 0.0)
        late = np.maximum(tau - until, 0.0)
        lapse = (tau - late - self.knots[nearest, members]).ravel()
        origin = self.states[nearest, members].reshape(-1, *self.states.shape[2:])
        origin[lapse < 0, 1] *= -1
        system = CrossingFlow(self.depth)
        lapse = np.abs(lapse)
        reached = flow(system, origin, lapse, tolerance=self.tolerance, long_steps=False)
        roots = reached.state[:, 0, 0].reshape(*tau.shape, *self.target.shape[1:])
        if late.any():
            # A short parabola to a tip that the flow does not reach.
            rate = system.rates(reached.state)[0][:, 0, 0].reshape(roots.shape)
            share = late / np.where(until < 1, 1 - until, 1.0)
            along = roots + weigh(late, rate)
            whole = roots + weigh(np.broadcast_to(1 - until, late.shape), rate)
            roots = along + weigh(share**2, self.target[:, None] - whole)
        inside = Frame.of_root(roots, self.depth)
        return Frame(
            self.left[:, None] @ inside.left,
            inside.values * size[..., None],
            inside.right_t @ transpose(self.right)[:, None],
            self.depth,
            self.depth,
        )


def solve_crossing(
    first: Frame,
    last: Frame,
    starts: list[Flips],
    goal: float,
    tolerance: float,
    record: bool = True,
    most: int = MOST,
) -> CrossingCurves:
    """Find geodesics between square matrices, the first of rank n - 1 at least, from given starts.

    Those with a ``residual`` up to the goal are solved; ``tolerance`` is that of the flow,
    ``record`` says whether the curves have to be callable, and ``most`` what a pair may take.
    """
    depth = first.depth
    cone = Cone(*(size_of(frame.roots) for frame in (first, last)))
    paths, left, target, work = _contest(first, last, starts)
    paths, count = _broken(paths)
    blunt = bool((last.values == 0).sum(axis=-1).max(initial=0) > 1)
    search = _Search(paths, target, blunt, (goal, tolerance, most))
    search.run()
    speed = np.sqrt(2 * nodal_state(paths.ends.start, depth, momentum=search.momentum).energy)
    knots, states = search.followed() if record else (np.empty(0), np.empty(0))
    tau = search.crossing
    inside = np.isfinite(tau)
    at = np.where(inside, tau, 0.0)
    crossing = at * cone.first / (at * cone.first + (1 - at) * cone.last)
    return CrossingCurves(
        depth,
        left,
        transpose(first.right_t),
        target,
        cone,
        # Cones count sizes in Frobenius norm of the layers.
        np.sqrt(depth) * cone.length(speed / np.sqrt(depth)),
        search.residual,
        search.residual <= goal,
        np.where(inside, crossing, np.inf),
        work + count + search.n_evaluations,
        knots,
        states,
        tolerance,
    )


def _ends(first: Frame, last: Frame, start: Flips) -> tuple[Ends, Array, Array]:
    """Return ends of size one as a start sees them, the left basis, and T_1 in the bases."""
    n = first.values.shape[-1]
    left, right = first.left * start.first[:, None, :], transpose(first.right_t)
    roots, goal = (x.roots / size_of(x.roots)[:, None] for x in (first, last))
    into_left, into_right = transpose(left) @ last.left, last.right_t @ right
    target = (into_left * goal[:, None, :]) @ into_right
    vectors, angles = rotation_angles((into_left * start.last[:, None, :]) @ into_right)
    frame = halved(vectors, backwards(angles) if start.backwards else angles)
    seen = transpose(frame.left_turn) @ target @ frame.right_turn
    identity = np.broadcast_to(np.eye(n), target.shape)
    origin = (start.first * roots)[..., None] * np.eye(n)
    layout = Layout((n, n), n, first.depth)
    return Ends(layout, origin, seen, frame, (identity, identity)), left, target


def _contest(
    first: Frame, last: Frame, starts: list[Flips]
) -> tuple[BrokenPaths, Array, Array, Array]:
    """Minimize from all starts with few modes; return the shortest with its bases and target."""
    n_batch, n = first.values.shape
    ends, lefts, targets = zip(*(_ends(first, last, start) for start in starts), strict=True)
    bases = np.concatenate([end.bases[0] for end in ends])
    every = Ends(
        ends[0].layout,
        np.concatenate([end.start for end in ends]),
        np.concatenate([end.end for end in ends]),
        Facing(*map(np.concatenate, zip(*(end.frame for end in ends), strict=True))),
        (bases, bases),
    )
    blank = np.zeros((len(every.start), _CONTEST[0], n, n))
    unknowns, found = minimized(PathState(every, blank, modal_basis(*_CONTEST)), _COARSE)
    energy = np.where(np.isfinite(found.energy), found.energy, np.inf).reshape(-1, n_batch)
    best = energy.argmin(axis=0) * n_batch + np.arange(n_batch)
    blind = np.stack([end.values[:, -1] == 0 for end in (first, last)], axis=1)
    paths = BrokenPaths.of_modes(every.take(best), unknowns[best], _ROUGH[1], blind)
    work = found.n_evaluations.reshape(-1, n_batch).sum(axis=0)
    return paths, np.concatenate(lefts)[best], np.concatenate(targets)[best], work


def _follow_break(paths: BrokenPaths, n_modes: int, n_nodes: int) -> tuple[BrokenPaths, float]:
    """Break paths where they cross; return how far the breaks have moved at most."""
    times, crosses = paths.crossing()
    breaks = np.clip(np.where(crosses, times, MIDDLE), _EDGE, 1 - _EDGE)
    moved = float(np.abs(breaks - paths.breaks).max(initial=0.0))
    return paths.rebroken(breaks, n_modes, n_nodes), moved


def _broken(paths: BrokenPaths) -> tuple[BrokenPaths, Array]:
    """Let the breaks settle roughly, with few modes; return evaluations too."""
    count = np.zeros(len(paths.breaks), dtype=int)
    for _ in range(_ROUNDS):
        paths, moved = _follow_break(paths, *_ROUGH)
        if moved < _NEAR and count.any():
            break
        paths, found = paths.minimized(_COARSE)
        count += found.n_evaluations
    return paths, count


class _Search:
    """Momenta whose geodesics meet their ends, for a batch of paths that are nearly right.

    ``target`` are the ends that the flow has to meet, ``momentum`` the best ones so far with their
    ``residual`` and ``crossing`` times. Ends with several null directions are ``blunt``: nearby the
    metric is that around the tip of a cone. Paths that aim beside it turn off: these are resolved
    by more modes, and never corrected.
    """

    def __init__(
        self, paths: BrokenPaths, target: Array, blunt: bool, limits: tuple[float, float, int]
    ) -> None:
        n_batch = len(target)
        self.paths, self.target, self.depth = paths, target, paths.ends.layout.depth
        self.short = min(_BEFORE, _UNSMOOTH ** (1 / (self.depth + 2))) if blunt else 0.0
        self.goal, self.tolerance, self.most = limits
        self.momentum, self.crossing = np.zeros_like(target), np.full(n_batch, np.inf)
        self.residual = np.full(n_batch, np.inf)
        self.n_evaluations, self.work = np.zeros((2, n_batch), dtype=int)
        self.start = paths.ends.start

    def run(self) -> None:
        """Minimize with more and more modes, and correct the aim, until all are solved."""
        rows, paths = np.arange(len(self.target)), self.paths
        for level in _LEVELS_TO_TIP if self.short else _LEVELS:
            last = np.full(len(rows), np.inf)
            for _ in range(1 if self.short else _CORRECTIONS):
                paths, slope = self._settled(rows, paths, level)
                found = slope <= _LOST
                rows, paths, last = rows[found], paths.take(found), last[found]
                if rows.size == 0:
                    return
                defect, residual = self._checked(rows, paths)
                left = (self.residual[rows] > self.goal) & (self.work[rows] <= self.most)
                if not left.any():
                    return
                hopeful = bool((residual[left] < _GAIN * last[left]).any())
                rows, paths, last = rows[left], paths.take(left), residual[left]
                if not hopeful or self.short:
                    break
                shift = weigh(last < _CLOSE, defect[left])
                turns = paths.ends.frame
                paths = paths.aimed(transpose(turns.left_turn) @ shift @ turns.right_turn)

    def _settled(
        self, rows: Array, paths: BrokenPaths, level: tuple[int, int]
    ) -> tuple[BrokenPaths, Array]:
        """Minimize until the breaks stay; return slopes, too."""
        slope = np.zeros(len(rows))
        for number in range(_ROUNDS):
            paths, moved = _follow_break(paths, *level)
            if number and moved < _SETTLED:
                break
            fine = _FINE_TO_TIP if self.short else _FINE
            most = self.most - self.work[rows]
            paths, found = paths.minimized(_MIDDLING if moved > _NEAR else fine, most)
            self.n_evaluations[rows] += found.n_evaluations
            self.work[rows] += found.n_evaluations + found.n_products
            slope = found.slope
        return paths, slope

    def _checked(self, rows: Array, paths: BrokenPaths) -> tuple[Array, Array]:
        """Follow geodesics; return by how much they miss their ends, and that as a number."""
        momentum = paths.state().momentum_at_start() / self.depth
        state = np.stack([self.start[rows], momentum], axis=1)[:, :, None]
        end, times, _ = self._flown(state, paths.breaks, rows, record=False)
        defect = self.target[rows] - end
        reached = np.isfinite(defect).all(axis=(-2, -1)) & (times[-1] > 0)
        defect[~reached] = 0.0
        residual = np.where(reached, frobenius(defect), np.inf)
        better = residual < self.residual[rows]
        chosen = rows[better]
        self.residual[chosen], self.momentum[chosen] = residual[better], momentum[better]
        crossing, crosses = paths.crossing()
        self.crossing[chosen] = np.where(crosses, crossing, np.inf)[better]
        return defect, residual

    def _flown(
        self, state: Array, breaks: Array, rows: Array, record: bool
    ) -> tuple[Array, list[Array], list[Array]]:
        """Follow geodesics to their breaks, where the flow has a kink, and on to t = 1.

        Returns their ends, and times and states on the way; times of those that stall are infinite,
        below.
        """
        system, times, states = CrossingFlow(self.depth), [], []
        begun, short = np.zeros(len(rows)), np.minimum(self.short, (1 - breaks) / 4)
        spans, latest = [breaks, 1 - 3 * short - breaks], list[Array]()
        spans += [short, short] if self.short else []
        for span in spans:
            result = flow(
                system,
                state,
                span,
                tolerance=self.tolerance,
                record=record,
                max_steps=_MAX_STEPS,
                long_steps=False,
            )
            self.n_evaluations[rows] += result.n_evaluations
            self.work[rows] += _STEPPED * result.n_evaluations
            times += [begun + time for time in result.trajectory.times]
            states += result.trajectory.states
            reached = result.status == Status.CONVERGED
            state, begun = result.state, np.where(reached, begun + span, -np.inf)
            latest.append(state)
        times.append(np.where(begun > 0, 1.0 - short, begun))
        states.append(state)
        end = state[:, 0, 0]
        if self.short:
            end = _extrapolated(system, latest[-3:], short)
        return end, times, states

    def followed(self) -> tuple[Array, Array]:
        """Return times and states of the flow along the best geodesics."""
        state = np.stack([self.start, self.momentum], axis=1)[:, :, None]
        breaks = np.where(np.isfinite(self.crossing), self.crossing, MIDDLE)
        _, times, states = self._flown(state, breaks, np.arange(len(state)), record=True)
        return np.stack(times), np.stack(states)


def _extrapolated(system: CrossingFlow, states: list[Array], step: Array) -> Array:
    """Return positions a step after the last of three, by the quintic through them and slopes."""
    slopes = [weigh(step, system.rates(x)[0][:, 0, 0]) for x in states]
    first, middle, last = (x[:, 0, 0] for x in states)
    quintic = 10 * first + 9 * middle - 18 * last + 3 * slopes[0] + 18 * slopes[1] + 9 * slopes[2]
    return quintic
