"""The members of a batch of boundary-value problems, and how far their geodesics get."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dln_manifolds.geodesics.confirmation import follow, nodes_needed
from dln_manifolds.geodesics.fields import Field, MovingFrame
from dln_manifolds.geodesics.integrate import (
    CONVERGED,
    CROSSED,
    STALLED,
    FlowResult,
    Trajectory,
    flow,
)
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import size_of

# Nodes of the step that follows a geodesic, as shares of the nodes of its path and two more: few
# sizes, so that members are followed together, and never the same nodes.
_NODES = (1.0, 1.5, 2.0)


@dataclass
class Members:
    """The members of a batch with the best that is known of each.

    ``start`` and ``end`` are the end points as the flow represents them, divided by ``scale``;
    ``target`` is the end point itself, met if the relative ``residual`` is at most ``goal``. Paths
    are made to end at ``aim``: at ``end``, or beyond it by the ``defect`` of the flow's end, which
    corrects for what the unknowns of a path cannot resolve. A geodesic that could not be followed
    from a path, in one step that is accurate at its end or also ``inside``, is ``stepped`` along
    from then on.
    """

    flow_field: Field
    start: Array
    end: Array
    target: Array
    scale: Array
    goal: float
    tolerance: float
    record: bool
    inside: bool
    aim: Array = field(init=False)
    defect: Array = field(init=False)
    momentum: Array = field(init=False)
    residual: Array = field(init=False)
    end_point: Array = field(init=False)
    status: Array = field(init=False)
    crossing: Array = field(init=False)
    stepped: Array = field(init=False)
    n_iterations: Array = field(init=False)
    n_evaluations: Array = field(init=False)
    trajectory: Trajectory = field(default_factory=Trajectory)

    def __post_init__(self) -> None:
        n_batch = len(self.start)
        self.aim = self.end.copy()
        self.defect = np.zeros_like(self.start)
        self.momentum = np.zeros_like(self.start)
        self.end_point = np.full_like(self.target, np.nan)
        self.residual = np.full(n_batch, np.inf)
        self.crossing = np.full(n_batch, np.inf)
        self.status = np.full(n_batch, STALLED)
        self.stepped = np.zeros(n_batch, dtype=bool)
        self.n_iterations = np.zeros(n_batch, dtype=int)
        self.n_evaluations = np.zeros(n_batch, dtype=int)

    def confirm(self, pick: Array, momentum: Array, frame: MovingFrame, rates: Array) -> Array:
        """Follow geodesics from paths as first guesses, and keep what ends nearer the target.

        Parameters
        ----------
        pick : ndarray of int, shape=[n_pick]
            Members.
        momentum : ndarray, shape=[n_pick, ...]
            Their initial momenta.
        frame : MovingFrame
            Where the paths are seen from.
        rates : ndarray, shape=[n_pick, n_given, 2, ...]
            Rates of position and momentum along the paths at Gauss nodes, seen from there.

        Returns
        -------
        solved : ndarray of bool, shape=[n_pick]
            Which geodesics could be followed, wherever they have led.
        """
        state = np.stack([self.start[pick], momentum], axis=1)
        needed = nodes_needed(state, rates, self.tolerance, inside=self.inside)
        needed[self.stepped[pick]] = np.inf
        solved = np.zeros(pick.size, dtype=bool)
        fewer, left = 0.0, pick.size
        for share in _NODES:
            n_nodes = int(share * rates.shape[1]) + 2
            rows = np.nonzero((fewer < needed) & (needed <= n_nodes))[0]
            fewer, left = n_nodes, left - rows.size
            if rows.size == 0:
                continue
            there, some = frame.take(rows), state[rows]
            followed = follow(
                self.flow_field,
                there,
                some,
                rates[rows],
                n_nodes,
                self.tolerance,
                inside=self.inside,
            )
            self.n_evaluations[pick[rows]] += followed.n_evaluations
            self.stepped[pick[rows]] = ~followed.solved
            done = rows[followed.solved]
            if done.size:
                solved[done] = True
                result = followed.result(self.flow_field, there, some, self.record)
                self._keep(pick[done], momentum[done], result)
            if left == 0:
                break
        return solved

    def verify(self, pick: Array, momentum: Array) -> None:
        """Follow the flow from the given initial momenta and keep what ends nearer the target."""
        result = flow(
            self.flow_field,
            np.stack([self.start[pick], momentum], axis=1),
            np.ones(pick.size),
            tolerance=self.tolerance,
            record=self.record,
        )
        self.n_evaluations[pick] += result.n_evaluations
        self._keep(pick, momentum, result)

    def _keep(self, pick: Array, momentum: Array, result: FlowResult) -> None:
        """Keep what ends nearer the target than what is known."""
        reached = result.status == CONVERGED
        end_point = self.flow_field.points(result.state[:, 0], self.scale[pick])
        target = self.target[pick]
        sizes = size_of(np.concatenate([end_point - target, target]))
        residual = np.where(reached, sizes[: pick.size] / sizes[pick.size :], np.inf)
        better = (residual < self.residual[pick]) | ~np.isfinite(self.residual[pick])
        kept = pick[better]
        self.momentum[kept], self.residual[kept] = momentum[better], residual[better]
        self.defect[kept] = (self.end[pick] - result.state[:, 0])[better]
        self.end_point[kept] = _where(reached, end_point)[better]
        self.crossing[kept] = np.where(result.status == CROSSED, result.time, np.inf)[better]
        crossed = result.status[better] == CROSSED
        solved = residual[better] <= self.goal
        self.status[kept] = np.where(crossed, CROSSED, np.where(solved, CONVERGED, STALLED))
        if self.record:
            self._record(kept, result.trajectory, better)

    def _record(self, kept: Array, new: Trajectory, better: Array) -> None:
        """Replace the trajectories of some members, padding the shorter ones with their end."""
        if not self.trajectory.times:
            self.trajectory.times.append(np.zeros(len(self.start)))
            self.trajectory.states.append(np.stack([self.start, self.momentum], axis=1))
        mine = self.trajectory
        for k in range(max(len(mine.times), len(new.times))):
            if k >= len(mine.times):
                mine.times.append(mine.times[-1].copy())
                mine.states.append(mine.states[-1].copy())
            last = min(k, len(new.times) - 1)
            mine.times[k][kept] = new.times[last][better]
            mine.states[k][kept] = new.states[last][better]


def _where(mask: Array, values: Array) -> Array:
    """Replace the members outside the mask by NaN."""
    result = values.copy()
    result[~mask] = np.nan
    return result
