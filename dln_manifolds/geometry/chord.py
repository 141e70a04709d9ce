r"""The chord of two end-to-end matrices: a distance and its logarithm, cheap and for every pair.

The chord is the straight line of the root chart, ``D = T_1 - T_0``, measured in the metric at its
middle: ``|D|^2 = g_M(D, D)`` with ``M = (T_0 + T_1) / 2``. That is the midpoint rule for the energy
of a geodesic (Marsden and West 2001, *Discrete mechanics and variational integrators*): its length
differs from the distance d by O(d^3), and so does minus the gradient of ``|D|^2 / 2`` from the
logarithm. With the momentum P of D and the Hamiltonian H at M it is the vector of the momentum

.. math:: P_0 = P + \tfrac12 \frac{\partial H}{\partial T}(M, P).

Exact at N = 1 and for equal singular vectors. Nothing is solved: matrices of different components
have a chord too, through singular matrices.
"""

import numpy as np

from dln_manifolds.geometry.coefficients import kappa
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.hamiltonian import nodal_state
from dln_manifolds.geometry.metric import root_of
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import frobenius, parity_combine, transpose

_TINY = float(np.finfo(float).tiny)


def chord_length(first: Frame, last: Frame) -> Array:
    """Return the lengths of chords, shape ``(...)``, from the frames of both ends."""
    start, end = root_of(first), root_of(last)
    left, roots, right_t = np.linalg.svd(0.5 * (start + end))
    # Digits of close roots do not matter to kappa, which is even.
    log_roots = np.log(np.maximum(roots, _TINY))
    weight = kappa(0.5 * (log_roots[..., :, None] - log_roots[..., None, :]), first.depth)
    chord = transpose(left) @ (end - start) @ transpose(right_t)
    momentum = parity_combine(weight, 1 / weight, chord)
    return np.sqrt(np.sum(chord * momentum, axis=(-2, -1)))


def chord_log(first: Frame, last: Frame) -> Array:
    """Return minus the gradient of half the squared length by the first end, ``(..., n, n)``."""
    start, end = root_of(first), root_of(last)
    with np.errstate(all="ignore"):  # the middle of a long chord may be singular
        middle = nodal_state(0.5 * (start + end), first.depth, velocity=end - start)
        # Where the expansion fails, the bend is cut to the size of what it corrects: a change of
        # sixth order.
        bend = 0.5 * middle.gradient
        share = frobenius(bend) / np.maximum(frobenius(middle.momentum), _TINY)
        bend = bend / ((1 + share**4) ** 0.25)[..., None, None]
    bend = np.where(np.isfinite(bend), bend, 0.0)
    momentum = first.enter(middle.leave(middle.momentum + bend))
    # The differential of X -> T is symmetric in the frame.
    return first.leave(first.a * parity_combine(*first.chart_factors, momentum))
