r"""When the straight line between two balanced points is a geodesic.

Lemma 2.2 of Chen, arXiv 2510.07324, as numbers. Let ``W(t) = W^0 + t D`` be the line from one
balanced point to another, ``D = W^1 - W^0``. Imbalance is quadratic in W, and so

.. math:: B_p(W(t)) = t (t - 1) B_p(D), \qquad B_p(W) = W_{p+1}^T W_{p+1} - W_p W_p^T:

the line is balanced if and only if its direction D is. It is horizontal, that is orthogonal to the
orbits of ``O(n)^(N-1)``, if and only if the skew part of

.. math:: D_p W_p(t)^T - W_{p+1}(t)^T D_{p+1}

vanishes. Its derivative by t is symmetric: the skew part is the same all along the line, and at
t = 0 it is that of ``W^1_p (W^0_p)^T + (W^1_{p+1})^T W^0_{p+1}``. The line is horizontal if and
only if its end points are aligned, see `dln_manifolds.geometry.alignment`.

A line with both properties is a geodesic and lies over one of the end-to-end matrices. For N = 2
and equal polar factors, and for equal singular vectors, alignment gives such a line. Otherwise a
balanced line is a path and bounds the distance from above; an aligned one leaves the manifold.
"""

from dataclasses import dataclass

import numpy as np

from dln_manifolds.geometry.balancing import relative_imbalance
from dln_manifolds.geometry.chain import Chain, uniform
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.sectors import split
from dln_manifolds.numerics.arrays import Array

# Round-off of balanced layers, relative to their norm: D inherits it however short it is.
_ROUNDING = 1e-13
# An eigenvalue of W_0^{-1} W_1 whose imaginary part is below this share of it may be real: double
# eigenvalues have lost half of the digits.
_REAL = 1e-7
# Relative singular value of what counts as of lower rank there.
_SINGULAR = 1e-6


@dataclass(frozen=True)
class StraightLine:
    """What is known of the straight lines between balanced points; each of shape ``(...)``.

    ``balanced`` and ``horizontal`` say whether the line is so everywhere, the former also whether
    its layers have the rank; ``balance_defect`` is the imbalance of its direction D relative to
    ``max |D_p D_p^T|``, ``vertical_defect`` the norm of the vertical part of D relative to ``|D|``,
    the sine of an angle. ``singular_time`` is the first t in (0, 1) at which a layer is singular,
    or of a lower rank, infinite if there is none, and ``length = |D|`` bounds the distances from
    above if the line is balanced and meets no such layer.
    """

    balanced: Array
    horizontal: Array
    balance_defect: Array
    vertical_defect: Array
    singular_time: Array
    length: Array

    @property
    def is_geodesic(self) -> Array:
        """Whether the line is a geodesic over a geodesic of end-to-end matrices."""
        return np.asarray(self.balanced & self.horizontal & np.isinf(self.singular_time))


def straight_line(
    start: Array,
    end: Array,
    chain: Chain | None = None,
    rank: int | None = None,
    *,
    tolerance: float = 1e-10,
) -> StraightLine:
    """Examine the straight lines between balanced points, ``(..., N, n, n)`` up to broadcasting.

    Or between layers of other widths and lower rank, as the chain says. They are not aligned here.
    Defects up to the tolerance count as none; to it comes the round-off of the end points, which
    weighs more the closer they are.
    """
    start, end = np.broadcast_arrays(start, end)
    chain = uniform(start) if chain is None else chain
    rank = min(chain.widths) if rank is None else rank
    axes = tuple(range(-len(chain.array_shape), 0))
    direction, frame = end - start, Frame.of_layers(start, chain, rank)
    vertical = split(frame, direction).vertical
    length, size, vertical_defect = (
        np.sqrt(np.sum(x**2, axis=axes)) for x in (direction, start, vertical)
    )
    divisor = np.where(length == 0, 1.0, length)
    vertical_defect /= divisor
    balance_defect = relative_imbalance(direction, chain)
    allowed = tolerance + _ROUNDING * size / divisor
    balanced, horizontal = balance_defect <= allowed, vertical_defect <= allowed
    # (1 - t) + t w = 0 for an eigenvalue w < 0 of A^{-1} B, of the layers or of their r x r cores
    values = np.linalg.eigvals(frame.enter(end) / frame.roots[..., None, :, None])
    meets = (values.real < 0) & (np.abs(values.imag) <= _REAL * np.abs(values.real))
    times = np.where(meets, 1 / (1 - np.where(meets, values.real, 0.0)), np.inf)
    ends = chain.parts(start), chain.parts(end)
    for run, first, last in zip(chain.runs, *ends, strict=True):
        if (run.rows, run.columns) != (rank, rank):
            # Layers have the rank if they do half-way, and lose it where they do, not their cores.
            found = times[..., run.layers, :]
            t = np.where(np.isinf(found), 0.5, found)
            t = np.concatenate([np.full_like(t[..., :1], 0.5), t], axis=-1)[..., None, None]
            line = (1 - t) * first[..., None, :, :] + t * last[..., None, :, :]
            sizes = np.linalg.svd(line, compute_uv=False)
            lost = sizes[..., 1:, rank - 1] <= _SINGULAR * frame.roots[..., None, :1]
            times[..., run.layers, :] = np.where(lost, found, np.inf)
            if rank < sizes.shape[-1]:
                surplus = sizes[..., 0, rank].max(axis=-1)
                balanced = balanced & (surplus <= allowed * size)
    time = np.asarray(times.min(axis=(-2, -1)))
    return StraightLine(balanced, horizontal, balance_defect, vertical_defect, time, length)
