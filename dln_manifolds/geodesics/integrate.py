"""The initial-value problem: geodesic flow with a step size for each member of a batch."""

from collections.abc import Iterator

import numpy as np

from dln_manifolds.geodesics import collocation, runge_kutta
from dln_manifolds.geodesics.runge_kutta import Attempt, Now
from dln_manifolds.geodesics.system import (
    Flow,
    FlowResult,
    Status,
    System,
    Trajectory,
    Unit,
    never,
)
from dln_manifolds.geometry.closed_forms import radial_rate
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import frobenius, inner, norms, size_of, transpose, weigh
from dln_manifolds.numerics.singular import facing_cores

_SHRINK = 0.2
# A step of collocation is about as long as so many of Runge-Kutta. It takes fewer calls and more
# evaluations, which pays for few small positions: up to so many members times 40 + size. (For one
# 30 x 30 matrix both take about as long: collocation gains at N = 2 and loses at N = 64.)
_LONG, _FEW = 9.0, 900
_MAX_STEPS, _PATIENCE = 10_000, 8
# Part of its way that a geodesic must go in so many steps, again and again: near singular matrices
# these may become ever shorter.
_STRETCH, _LEAST_WAY = 100, 1e-5
# Share by which the rate of a singular value may change until it vanishes, where its tangent is
# trusted; and products of rates that are rounding, relative to the largest.
_STRAIGHT, _LEVEL = 0.05, 1e-20
# Steps after which a geodesic is followed alone, whose steps are cheaper and may be longer: one
# that does not reach its end takes its vectors nowhere.
_FEW_STEPS = 60
# Members of an enum are slow to compare with arrays.
_CONVERGED, _CROSSED, _STALLED = map(int, (Status.CONVERGED, Status.CROSSED, Status.STALLED))


def _quiet() -> np.errstate:
    """Let numpy say nothing of what goes too far, and is then rejected or told."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


def flow(
    system: Flow,
    state: Array,
    span: Array,
    *,
    tolerance: float,
    record: bool = False,
    max_steps: int | None = None,
    long_steps: bool = True,
) -> FlowResult:
    """Follow geodesics for the non-negative time ``span`` of each member, shape ``(n_batch,)``.

    ``tolerance`` bounds the local error of positions and rates, each relative to its norm, and
    ``record`` says whether to keep the accepted steps. ``long_steps`` allows those of collocation,
    whose error is not known where rates have few derivatives. It never raises for a geodesic that
    ends early: see the ``status`` of the result.
    """
    run = _Run(system, state, span, tolerance, record)
    run.few = _FEW if long_steps else 0
    pending, before = np.nonzero(run.status == _STALLED)[0], np.full(len(state), -np.inf)
    most = _MAX_STEPS if max_steps is None else max_steps
    for number in range(most):
        if number % min(_STRETCH, most) == 0:
            pending = pending[(run.time - before >= _LEAST_WAY * span)[pending]]
            before = run.time.copy()
        if pending.size == 0:
            break
        run.step(pending)
        pending = pending[run.status[pending] == _STALLED]
    time = np.where(run.status == _CROSSED, run.crossing, run.time)
    return FlowResult(run.state, time, run.status, run.n_steps, run.n_evaluations, run.trajectory)


def flow_in_charts(
    system: System, state: Array, tolerance: float, record: bool, max_steps: int
) -> Iterator[tuple[Array, FlowResult]]:
    """Follow geodesics for unit time, those that stall in one chart of the system in the next.

    Yields members, by their indices, with results in the system's own chart. Any but the last chart
    is given up after a part of the steps.
    """
    pending = np.arange(len(state))
    for number, chart in enumerate(system.charts):
        last = number == len(system.charts) - 1
        result = flow(
            chart,
            chart.entered(state[pending]),
            np.ones(pending.size),
            tolerance=tolerance,
            record=record,
            max_steps=max_steps if last else max_steps // _PATIENCE,
        )
        yield pending, chart.left(result)
        pending = pending[result.status == _STALLED]
        if pending.size == 0:
            break


def splice(mine: Trajectory, members: Array, other: Trajectory, rows: Array) -> None:
    """Replace the trajectories of some members, padding the shorter ones with their end."""
    for k in range(max(len(mine.times), len(other.times))):
        if k >= len(mine.times):
            mine.times.append(mine.times[-1].copy())
            mine.states.append(mine.states[-1].copy())
        last = min(k, len(other.times) - 1)
        mine.times[k][members] = other.times[last][rows]
        mine.states[k][members] = other.states[last][rows]


def flow_anyhow(system: System, state: Array, *, tolerance: float, record: bool) -> FlowResult:
    """Follow geodesics as `flow` does, for unit time, in the chart in which they do not stall."""
    result = None
    for members, part in flow_in_charts(system, state, tolerance, record, _MAX_STEPS):
        if result is None:
            result = part
            continue
        result.state[members], result.time[members] = part.state, part.time
        result.status[members] = part.status
        result.n_steps[members] += part.n_steps
        result.n_evaluations[members] += part.n_evaluations
        if record:
            splice(result.trajectory, members, part.trajectory, np.arange(members.size))
    assert result is not None
    return result


def carry(
    system: System, unit: Unit, rate: Array, vectors: Array, tolerance: float
) -> tuple[Array, FlowResult]:
    """Transport vectors ``(n_batch, k, *point_shape)`` parallel along geodesics for unit time.

    Returns them at the end, NaN where there is none, and the result of the flow.
    """
    n_batch, k = vectors.shape[:2]
    # Both rows of a state hold vectors; the last place stays empty where k is odd.
    state = np.zeros((n_batch, 2, 1 + (k + 1) // 2, *rate.shape[1:]))
    state[:, 0, 0], state[:, 1, 0] = unit.position, rate
    places = [(place % 2, 1 + place // 2) for place in range(k)]
    for place, (row, column) in enumerate(places):
        state[:, row, column] = system.flat(unit, vectors[:, place])
    result = _carried(system, system.parallel.project(state), tolerance)
    ends = [result.state[:, row, column] for row, column in places]
    with _quiet():  # as the end point, vectors there may be no doubles
        last = system.at(result.state[:, 0, 0], unit.scale)
        transported = np.stack([system.sharp(last, rate, unit.scale) for rate in ends], axis=1)
    transported[result.status != Status.CONVERGED] = np.nan
    return transported, result


def _carried(system: System, state: Array, tolerance: float) -> FlowResult:
    """Follow geodesics with vectors for unit time."""
    span, parallel = np.ones(len(state)), system.parallel
    result = flow(parallel, state, span, tolerance=tolerance, max_steps=_FEW_STEPS)
    slow = np.flatnonzero(result.status == Status.STALLED)
    if slow.size:
        alone = flow_anyhow(system, state[slow][:, :, :1], tolerance=tolerance, record=False)
        reached = alone.status == Status.CONVERGED
        rows, lost = slow[reached], slow[~reached]
        left = span[rows] - result.time[rows]
        rest = flow(parallel, result.state[rows], left, tolerance=tolerance)
        result.state[rows], result.time[rows] = rest.state, result.time[rows] + rest.time
        result.state[lost, :, :1] = alone.state[~reached]
        result.time[lost] = alone.time[~reached]
        result.status[rows], result.status[lost] = rest.status, alone.status[~reached]
        for more, members in ((alone, slow), (rest, rows)):
            result.n_steps[members] += more.n_steps
            result.n_evaluations[members] += more.n_evaluations
    return result


class _Run:
    """A batch of geodesics on their way."""

    def __init__(
        self, system: Flow, state: Array, span: Array, tolerance: float, record: bool
    ) -> None:
        self.system, self.span, self.tolerance, self.record = system, span, tolerance, record
        self.state = state.copy()
        n_batch = len(state)
        self.time, self.crossing = np.zeros(n_batch), never(n_batch)
        self.status = np.where(span == 0, _CONVERGED, _STALLED)
        self.n_steps = np.zeros(n_batch, dtype=int)
        self.n_evaluations = np.ones(n_batch, dtype=int)
        self.trajectory = Trajectory([self.time.copy()], [state.copy()]) if record else Trajectory()
        with _quiet():  # velocities may be far longer than points
            self.rate, self.smallest = system.rates(self.state)
            sizes, speeds = norms(state), norms(self.rate)
            self.size = _first_steps(sizes, speeds, state.shape[-1], span, tolerance)
        # Until when steps must be short: those that come near a singular matrix are repeated with
        # short ones, which locate it.
        self.short_until = np.zeros(n_batch)
        self.weight, self.few = 40 + state[:1, 0].size, _FEW
        if state.shape[2] == 1:
            with _quiet():
                self._leave_radial()
                self._leave_straight()

    def _leave_radial(self) -> None:
        """Solve the members that move along rays of the cone, which end at its tip if anywhere."""
        chart = self.system.chart(self.state, self.rate)
        if chart is None:
            return
        x, v = chart
        parallel = np.abs(inner(x, v)) >= (1 - 1e-12) * np.sqrt(inner(x, x) * inner(v, v))
        rows = np.nonzero(parallel & (self.status == _STALLED))[0]
        if rows.size == 0:
            return
        pace, radial = radial_rate(x[rows], v[rows])
        # What passes the tip at less than a small distance has met it: beside the start, points
        # vanish there, and the way on would be that of rounding.
        aside = size_of(v[rows] - weigh(pace, x[rows]))
        missed = aside > -pace * self.system.tip
        into_tip = (1 + pace * self.span[rows] <= 0) & (radial | ~missed)
        tip, rest = rows[into_tip], rows[radial & ~into_tip]
        self.status[tip] = _CROSSED
        self.crossing[tip] = -1 / pace[into_tip]
        self.status[rest] = _CONVERGED
        self.time[rest] = self.span[rest]
        growth = 1 + pace[radial & ~into_tip] * self.span[rest]
        self.state[rest, 0, 0] = self.system.grown(self.state[rest, 0, 0], growth)
        if self.record:
            self._note()

    def _leave_straight(self) -> None:
        """Solve the members that are known in closed form."""
        pending = np.nonzero(self.status == _STALLED)[0]
        found = self.system.lines(self.state[pending], self.span[pending])
        if found is None or found[0].size == 0:
            return
        rows, ends, singular = pending[found[0]], *found[1:]
        reached = np.isinf(singular)
        self.status[rows] = np.where(reached, _CONVERGED, _CROSSED)
        self.crossing[rows] = singular
        done = rows[reached]
        self.state[done], self.time[done] = ends[reached], self.span[done]
        if self.record:
            self._note()

    def _note(self) -> None:
        self.trajectory.times.append(self.time.copy())
        self.trajectory.states.append(self.state.copy())

    def step(self, pending: Array) -> None:
        """Try a step of the pending members, or of those that take long ones."""
        attempt, length, active = runge_kutta.attempt, 1.0, pending
        if pending.size * self.weight <= self.few:
            free = self.time[pending] >= self.short_until[pending]
            if free.any():
                attempt, length, active = collocation.attempt, _LONG, pending[free]
        h = np.minimum(length * self.size[active], self.span[active] - self.time[active])
        old = self.state[active]
        now = Now(old, self.rate[active], self.smallest[active])
        self.n_steps[active] += 1
        try:
            # A trial step that is far too long may overflow; it is then rejected.
            with _quiet():
                tried = attempt(self.system, now, h, self.tolerance)
            self.n_evaluations[active] += tried.n_evaluations
            self.size[active] = h * tried.growth / length
            accepted = tried.error < 1
            self._look_for_singular(active, accepted, tried, old, h, length)
        except np.linalg.LinAlgError:
            self.size[active] = h * _SHRINK / length
            return
        if self.system.reach > 0:
            self._look_ahead(active, accepted, tried, old, h, length)
        self._accept(active[accepted], accepted, tried, h)

    def _look_for_singular(
        self, active: Array, accepted: Array, tried: Attempt, old: Array, h: Array, length: float
    ) -> None:
        """End members whose step meets a singular matrix; repeat long ones that may with short."""
        suspect = accepted & tried.near
        if not suspect.any():
            return
        if length > 1:
            accepted[suspect] = False
            again = active[suspect]
            self.short_until[again] = self.time[again] + h[suspect]
            self.size[again] = h[suspect] / length
            return
        pick = np.nonzero(suspect)[0]
        with _quiet():  # at the tip of the cone itself
            # Of the geodesics alone: what is attached to them may be long.
            delay = runge_kutta.first_singular(self.system, old[pick, :, :1], h[pick])
        pick, delay = pick[np.isfinite(delay)], delay[np.isfinite(delay)]
        accepted[pick] = False
        self.crossing[active[pick]] = self.time[active[pick]] + delay
        self.status[active[pick]] = _CROSSED

    def _look_ahead(
        self, active: Array, accepted: Array, tried: Attempt, old: Array, h: Array, length: float
    ) -> None:
        """End members about to come too near a singular matrix; repeat steps over one."""
        eta, turned = _approach(self.system, old, tried.end, tried.rate)
        # Over a singular matrix without having seen it, or thrown off by one (the speed is
        # constant): again, with a shorter step.
        speed = norms(old)[:, 1]
        over = accepted & (turned | (norms(tried.end)[:, 1] > 1.1 * speed))
        accepted[over] = False
        self.size[active[over]] = h[over] * _SHRINK / length
        # Positions were divided by the size of the first: the distance left counts as it is.
        near = eta <= self.system.reach / np.where(speed == 0, 1.0, speed)
        hit = accepted & near & (h + eta <= self.span[active] - self.time[active])
        self.crossing[active[hit]] = (self.time[active] + h + eta)[hit]
        self.status[active[hit]] = _CROSSED
        accepted[hit] = False

    def _accept(self, done: Array, accepted: Array, tried: Attempt, h: Array) -> None:
        if done.size == 0:
            return
        self.rate[done] = tried.rate[accepted]
        self.state[done] = self.system.project(tried.end[accepted])
        self.smallest[done] = tried.smallest[accepted]
        # The last step lands on the end exactly, whatever the rounding of the sum.
        at_end = h[accepted] >= self.span[done] - self.time[done]
        self.time[done] = np.where(at_end, self.span[done], self.time[done] + h[accepted])
        self.status[done[at_end]] = _CONVERGED
        if self.record:
            self._note()


def _approach(system: Flow, old: Array, new: Array, new_rate: Array) -> tuple[Array, Array]:
    """Time in which the smallest singular value vanishes; whether a step has passed zero.

    The time is that of the tangent, and infinite unless the singular value is sure to vanish about
    then: where the tangent bends by little until then.
    """
    was, now, slope, bend = (
        system.core(x) for x in (old[:, 0, 0], new[:, 0, 0], new[:, 1, 0], new_rate[:, 1, 0])
    )
    rank = system.core_rank
    left, values, right_t = np.linalg.svd(now, full_matrices=False)
    left, values, right_t = left[..., :rank], values[..., :rank], right_t[..., :rank, :]
    down, across = slope @ transpose(right_t[:, -1:]), transpose(left[..., -1:]) @ slope
    inside = transpose(left) @ slope @ transpose(right_t)
    last, rest = values[:, -1:], values[:, :-1]
    row, column = inside[:, -1, :-1], inside[:, :-1, -1]
    first = inside[:, -1, -1]
    closing = first < 0
    # Second derivative of the smallest singular value.
    with np.errstate(over="ignore", invalid="ignore"):
        eta = np.where(closing, values[:, -1] / np.where(closing, -first, 1.0), np.inf)
        turning = last * (row**2 + column**2) + 2 * rest * row * column
        level = _LEVEL * rest * np.sum(inside**2, axis=(-2, -1))[:, None]
        gap = np.minimum((last - rest) * (last + rest), -np.finfo(float).tiny)
        turning[np.abs(turning) <= level] = 0.0
        second = np.sum(turning / gap, axis=-1)
        second += np.einsum("bi,bij,bj->b", left[:, :, -1], bend, right_t[:, -1])
        if rank is not None:
            # What leaves the column and the row space.
            down -= left @ (transpose(left) @ down)
            across -= (across @ transpose(right_t)) @ right_t
            second += (frobenius(down) ** 2 + frobenius(across) ** 2) / values[:, -1]
        eta[~(np.abs(second) * eta <= _STRAIGHT * np.abs(first))] = np.inf
    first_core, last_core = (was, now) if rank is None else facing_cores(was, now, rank)
    sign = np.linalg.slogdet(first_core)[0] != np.linalg.slogdet(last_core)[0]
    return eta, sign | (np.einsum("bij,bij->b", was, now) <= 0)


def _first_steps(size: Array, speed: Array, n: int, span: Array, tolerance: float) -> Array:
    """Guess first step sizes from the relative speed of position and rate of n x n matrices.

    The factor is the one with the fewest steps, rejected ones included, on Gaussian geodesics and
    shorter ones at tolerances from 1e-6 to 1e-13, for n from 2 to 30: the more entries a norm is
    taken of, the faster than it is the fastest of them.
    """
    pace = np.max(speed / np.where(size == 0, 1.0, size), axis=-1)
    factor = 2.6 * max(1.0, n / 3) ** -0.3
    guess = factor * tolerance**0.125 / np.where(pace == 0, 1.0, pace)
    return np.where(pace == 0, span, np.minimum(span, guess))
