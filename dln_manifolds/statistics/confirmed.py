r"""Paths from a mean to its samples, confirmed by the geodesic flow.

The momenta with which paths leave the mean are followed in the root chart, all samples of a
resolution in one step that starts from the rates along the paths, as logarithms are verified: where
the flow ends in the sample, the momentum is that of its logarithm, and no other needs to be solved.
"""

from typing import NamedTuple

import numpy as np

from dln_manifolds.geodesics import Points, RootChart
from dln_manifolds.geodesics.collocation import follow, nodes_needed
from dln_manifolds.geodesics.root_paths import PathState
from dln_manifolds.geometry.facing import is_steep, is_wide
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.polar_flow import Layout
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import (
    parity_combine,
    rotation,
    rotation_angles,
    size_of,
    transpose,
)

# Nodes of the step that follows a path, as shares of those of the path and two more; what the
# numbers that are needed are told short of.
_SHARES, _MARGIN = (0.5, 1.0, 1.5, 2.0), 1.1


class Departures(NamedTuple):
    """Frame of a mean with the momenta, of g_N, and lengths of paths to samples.

    ``residual`` are those of their ends by the flow, infinite where other paths may be shorter.
    """

    frame: Frame
    momentum: Array
    length: Array
    residual: Array


def departures(
    paths: list[tuple[Array, PathState]],
    root: Frame,
    polar: Array,
    samples: Points,
    decided: Array,
    tolerance: float,
) -> Departures:
    """Follow paths from a mean to some rows of the samples each, as seen from a polar factor.

    The first coefficient is that of the mode ``1 - t``. ``decided`` are the samples to which two
    ways were compared.
    """
    momentum, n_samples, depth = np.empty_like(samples.value), len(samples.value), root.depth
    length, residual = np.empty((2, n_samples))
    for rows, path in paths:
        end = _ends(*_begun(path), path.ends.layout, tolerance)
        momentum[rows] = -path.gradient[:, 0] @ polar / depth
        length[rows] = np.sqrt(2 * path.energy / depth)
        residual[rows] = _residual(end @ polar, samples.value[rows], depth)
    frame = Frame(root.left, root.singular_values, root.right_t, depth, 1.0)
    here = root.mapped(lambda x: np.broadcast_to(x, (n_samples, *x.shape)))
    unsure = is_steep(here, samples.frame, paths[0][1].ends.layout)
    if samples.value.shape[-1] > 2:
        unsure |= ~decided & is_wide(rotation_angles(samples.frame.polar @ root.polar.T)[1])
    residual[unsure] = np.inf
    return Departures(frame, momentum, length, residual)


def _begun(path: PathState) -> tuple[Array, Array]:
    """Return states (T, P) at the start, and rates of the flow along the path."""
    nodal, times = path.points.nodal, path.basis.nodes[:, None, None]
    momentum = -path.gradient[:, 0] / path.ends.layout.depth
    state = np.stack([path.ends.start + path.unknowns[:, 0], momentum], axis=1)
    left, right = (rotation(times * turn[:, None])[:, :, None] for turn in path.points.turns)
    rates = np.stack([nodal.leave(nodal.velocity), -nodal.leave(nodal.gradient)], axis=2)
    return state[:, :, None], (left @ rates @ transpose(right))[:, :, :, None]


def _residual(root: Array, target: Array, depth: float) -> Array:
    """Return how far the X of roots are from targets, relatively; infinite where these are NaN."""
    found, residual = np.isfinite(root).all(axis=(1, 2)), np.full(len(root), np.inf)
    frame = Frame.of_root(root[found], depth)
    gap = frame.compose(frame.singular_values) - target[found]
    residual[found] = size_of(gap) / size_of(target[found])
    return residual


def _ends(state: Array, rates: Array, layout: Layout, tolerance: float) -> Array:
    """Return where the flow leads, NaN where it could not be followed in one step."""
    needed, less = _MARGIN * nodes_needed(state, rates, tolerance, inside=False), 0
    ends = np.full_like(state[:, 0, 0], np.nan)
    for share in _SHARES:
        n_nodes = int(share * rates.shape[1]) + 2
        rows = np.flatnonzero((less < needed) & (needed <= n_nodes))
        less = n_nodes
        if rows.size:
            some = RootChart(layout), state[rows], rates[rows], n_nodes, tolerance
            found = follow(*some, inside=False)
            done = rows[found.solved]
            ends[done] = found.states[found.solved, -1, 0, 0]
    return ends


def velocity_of(frame: Frame, momentum: Array) -> Array:
    """Return the velocity of X for a momentum of ``g_N`` in the root chart."""
    even_odd = parity_combine(*frame.chart_factors, frame.enter(momentum))
    return frame.leave(frame.root_a * (frame.root_a * even_odd))
