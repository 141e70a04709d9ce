"""The initial-value problem across det = 0, where geodesics of GL(n) end.

In the root chart the flow goes on through matrices of rank n - 1, see
:mod:`dln_manifolds.completion.crossing`. It is followed to the first of them, where it has a kink,
and on from there.
"""

from __future__ import annotations

import numpy as np

from dln_manifolds.completion.crossing import CrossingFlow
from dln_manifolds.geodesics.integrate import flow
from dln_manifolds.geodesics.observable_system import ObservableSystem
from dln_manifolds.geodesics.root_paths import RootChart
from dln_manifolds.geodesics.system import Points, Status
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.numerics.arrays import Array

_MAX_STEPS = 2000
# Roots at a singular matrix that vanish, beside a start of size one.
_VANISHED = 1e-5


def flow_through(
    start: Points, velocity: Array, singular: Array, *, depth: float, tolerance: float
) -> tuple[Array, Array]:
    """Follow geodesics that meet a singular matrix at given times; return their ends, and which do.

    Velocities are those of square matrices of full rank, ``(n_batch, n, n)``. Those that
    meet a matrix of rank n - 2 or lower, as rays into the tip of the cone do, are not followed.
    """
    if depth == 1:
        return start.value + velocity, np.ones(len(velocity), dtype=bool)
    n = velocity.shape[-1]
    system = ObservableSystem(depth, (n, n), n)
    unit = system.unit(start)
    state = np.stack([unit.position, system.flat(unit, velocity)], axis=1)[:, :, None]
    state, reached = RootChart(system.layout).entered(state), np.ones(len(velocity), dtype=bool)
    for span in (singular, 1 - singular):
        result = flow(
            CrossingFlow(depth),
            state,
            span,
            tolerance=tolerance,
            max_steps=_MAX_STEPS,
            long_steps=False,
        )
        state, reached = result.state, reached & (result.status == Status.CONVERGED)
        if span is singular and n > 1:
            roots = np.linalg.svd(state[:, 0, 0], compute_uv=False)
            reached &= roots[:, -2] > _VANISHED
    root = Frame.of_root(state[:, 0, 0], depth).scaled(np.exp(unit.scale / depth))
    return root.compose(root.singular_values), reached
