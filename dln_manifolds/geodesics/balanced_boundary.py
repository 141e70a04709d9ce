"""Geodesics between balanced points, refined and verified like those of end-to-end matrices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dln_manifolds.geodesics.fields import BalancedField
from dln_manifolds.geodesics.integrate import CONVERGED, CROSSED, STALLED
from dln_manifolds.geodesics.members import Members
from dln_manifolds.geodesics.multilevel import Guess, refine
from dln_manifolds.geodesics.node_paths import NodePath, node_basis, polar_layers
from dln_manifolds.geodesics.scaling import Cone
from dln_manifolds.geodesics.solution import GeodesicSolution
from dln_manifolds.geometry.balancing import rebalance
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import size_of

# Numbers of nodes, from the first rough minimization to the last resort.
_LEVELS = (8, 14, 24, 40, 64)
_DECAYED = 3e-6
# Coefficients below this are rounding, beside layers of size one.
_ROUNDING = 1e-14
_GOAL = 1e-10
# Nodes with singular values this far apart are what minimization leaves of a singular matrix.
_SINGULAR = 1e-5


class NodePaths:
    """Family of polynomial paths through balanced nodes."""

    @property
    def n_levels(self) -> int:
        """Number of resolutions."""
        return len(_LEVELS)

    def initial(self, start: Array, end: Array) -> tuple[Guess, Array, None]:
        """Return the polar path at the nodes, and no others."""
        unknowns = polar_layers(start, end, node_basis(_LEVELS[0]).nodes[1:-1])
        return Guess(unknowns, np.empty((len(unknowns), 0))), np.empty(0, dtype=int), None

    def extend(self, guess: Guess, start: Array, end: Array, level: int) -> Guess:
        """Evaluate the polynomials at the nodes of this level, back on the manifold."""
        whole = np.concatenate([start[:, None], guess.unknowns, end[:, None]], axis=1)
        times = node_basis(_LEVELS[level]).nodes[1:-1]
        finer = rebalance(node_basis(_LEVELS[level - 1]).interpolate(whole, times))
        return replace(guess, unknowns=finer)

    def path(self, guess: Guess, start: Array, end: Array, level: int) -> NodePath:
        """Return paths with their energy."""
        return NodePath(start, end, guess.unknowns, node_basis(_LEVELS[level]))

    def has_decayed(self, guess: Guess, start: Array, end: Array, level: int) -> Array:
        """Whether the last Legendre coefficients are small beside the chord and the first."""
        whole = np.concatenate([start[:, None], guess.unknowns, end[:, None]], axis=1)
        nodes = node_basis(_LEVELS[level]).nodes
        legendre = np.polynomial.legendre.legvander(2 * nodes - 1, len(nodes) - 1)
        flat = whole.reshape(len(whole), len(nodes), -1)
        sizes = np.linalg.norm(np.linalg.solve(legendre, flat), axis=-1)
        chord = np.linalg.norm((end - start).reshape(len(start), -1), axis=-1)
        whole_size = np.maximum(chord, sizes[:, 1:].max(axis=1))
        return sizes[:, -2:].max(axis=1) <= np.maximum(_DECAYED * whole_size, _ROUNDING)

    def singular_time(self, guess: Guess, level: int) -> Array:
        """Return the time of a node that is singular: the way through the tip of the cone.

        Where layers turn by more than pi in total, no path is as short as those through a singular
        matrix, and the minimization runs into it.
        """
        roots = np.linalg.svd(guess.unknowns[:, :, 0], compute_uv=False)
        smallest = roots[..., -1] / roots[..., 0].max(axis=1, keepdims=True)
        worst = np.argmin(smallest, axis=1)
        times = node_basis(_LEVELS[level]).nodes[1:-1][worst]
        return np.where(smallest.min(axis=1) < _SINGULAR, times, np.inf)

    def shift(self, aim: Array, defect: Array) -> Array:
        """Return the sum, back on the manifold."""
        return rebalance(aim + defect)


def solve_balanced_boundary(
    base_point: Array, point: Array, *, tolerance: float, record: bool = True
) -> GeodesicSolution:
    """Find geodesics between pairs of balanced points of one component.

    Parameters
    ----------
    base_point, point : ndarray, shape=[n_batch, N, n, n]
        Balanced layers W(0) and W(1), each pair of layers with equal signs of det.
    tolerance : float
        Relative local error of the verifying flow.
    record : bool
        Whether the solution has to be callable.

    Returns
    -------
    solution : GeodesicSolution
        Its ``status`` tells which members are solved: those with a ``residual`` of at most 1e-10.
        ``lower_bound`` is the length of the chord in the ambient space.
    """
    n_batch = len(base_point)
    # Solved for layers of size one each.
    cone = Cone(size_of(base_point), size_of(point), 1.0)
    field = BalancedField()
    members = Members(
        flow_field=field,
        start=base_point / cone.first[:, None, None, None],
        end=point / cone.last[:, None, None, None],
        target=point,
        scale=cone.last,
        goal=_GOAL,
        tolerance=tolerance,
        record=record,
        inside=record,
    )
    same = (base_point == point).all(axis=(1, 2, 3))
    if same.any():
        members.verify(np.nonzero(same)[0], np.zeros_like(base_point[same]))
    pending = np.nonzero(members.status == STALLED)[0]
    if pending.size:
        refine(members, NodePaths(), pending)
    velocity = cone.initial_rate(members.start, members.momentum)
    n_solved = int(np.sum(members.status == CONVERGED))
    n_crossed = int(np.sum(members.status == CROSSED))
    return GeodesicSolution(
        initial_velocity=velocity * cone.scale[:, None, None, None],
        end_point=members.end_point,
        length=cone.length(size_of(members.momentum)),
        lower_bound=size_of(point - base_point),
        residual=members.residual,
        n_iterations=members.n_iterations,
        n_evaluations=members.n_evaluations,
        status=members.status,
        crossing_time=cone.time(members.crossing),
        message=(
            f"{n_solved} of {n_batch} geodesics solved to a relative residual of {_GOAL:.1e}, "
            f"{n_crossed} met a singular matrix, {n_batch - n_solved - n_crossed} did not converge."
        ),
        depth=float(base_point.shape[1]),
        tolerance=tolerance,
        _field=field,
        _scale=cone.scale,
        _trajectory=cone.trajectory(members.trajectory),
        _between=True,
    )
