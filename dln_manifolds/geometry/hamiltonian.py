r"""The geodesic flow of the root chart as a Hamiltonian system, and its Lagrangian to second order.

``H(T, P) = (1/2) <P, A_T P>`` with the cometric ``A_T``. In the singular frame, with the momentum
``P`` and the velocity ``G = dH/dP``, put ``KL = G P^T - P G^T`` and ``KR = P^T G - G^T P``. Then

.. math::
    (dH/dT)_{ij} = \frac{(KR - KL)_{ij}}{2 (l_j - l_i)} - \frac{(KR + KL)_{ij}}{2 (l_i + l_j)},
    \qquad
    (dH/dT)_{ii} = -\frac{1}{4 l_i} \sum_j \frac{d \log \kappa_{ij}}{du}
                   (P_{ij} G_{ji} + P_{ji} G_{ij}).

``KR - KL`` vanishes where singular values meet, and the quotient has a limit that is not zero.
Pairs that are close are summed with divided differences of the cometric instead, in which nothing
cancels. Equivalent to Hamilton's equations in X of Chen, arXiv 2510.07324.
"""

from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np

from dln_manifolds.geometry import coefficients
from dln_manifolds.geometry.metric import lowered, raised
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import diagonal, side_by_side, times, transpose

# Singular values of X whose ratio is below exp(c) take the divided-difference sum, with c = _CLOSE
# for up to _FEW of them and _CLOSE _FEW / n for more. The quotient loses a factor 1/c in accuracy
# just above the bound, in one of n^2 entries: 1 / (c n) of the norm.
_CLOSE, _FEW = 0.04, 8
# Gap to which roots are spread for second derivatives.
_SPREAD = 1e-4
# Least root, relative to the largest, that is told from zero.
_SMALLEST = 1e-280
_TINY = float(np.finfo(np.float64).tiny)


class NodalState(NamedTuple):
    """A point (T, P) of phase space in its singular frame, with everything the solvers read off it.

    ``u`` belongs to the pairs that `index_pairs` lists; ``cosh`` and ``sinh`` of ``log(kappa)`` and
    ``slope = d log(kappa)/du`` are matrices, as are ``over_difference = 1 / (2 (l_j - l_i))`` and
    ``over_sum = 1 / (2 (l_i + l_j))``, zero on the diagonal. ``gradient = dH/dT``.
    """

    left: Array
    roots: Array
    right_t: Array
    u: Array
    cosh: Array
    sinh: Array
    slope: Array
    over_difference: Array
    over_sum: Array
    velocity: Array
    momentum: Array
    gradient: Array

    def mapped(self, function: Callable[[Array], Array]) -> "NodalState":
        """Return the state with a function applied to all its arrays."""
        return NodalState(*map(function, self))

    def leave(self, matrix: Array) -> Array:
        """Return a matrix of the frame to the chart: ``U Z V^T``."""
        return np.ascontiguousarray(times(times(self.left, matrix), self.right_t))

    def enter(self, matrix: Array) -> Array:
        """Express a matrix of the chart in the frame: ``U^T Z V``."""
        inside = times(transpose(self.left), side_by_side(matrix))
        return times(inside, transpose(self.right_t))

    def raise_(self, momentum: Array) -> Array:
        """Apply the cometric to a momentum of the chart."""
        return self.leave(raised(self.cosh, self.sinh, self.enter(momentum)))

    @property
    def energy(self) -> Array:
        """``H = <P, G> / 2``, shape ``(...)``."""
        return 0.5 * np.sum(self.velocity * self.momentum, axis=(-2, -1))


def cometric_differences(
    roots: Array, u: Array, where: tuple[Array, ...], depth: float
) -> tuple[Array, Array]:
    """Divided differences of the cometric ``P -> c * P + e * P^T`` in the frame, any gap.

    ``(f_jk - f_ik) / (l_j - l_i)`` of pairs (i, j) that ``where`` lists, shape ``(n_pairs, n)``.
    """
    n = roots.shape[-1]
    *batch, pair = where
    i, j = (indices[pair] for indices in coefficients.index_pairs(n)[:2])
    u = coefficients.symmetric_matrix(u, n)
    u_i, u_j = u[(*batch, i)], u[(*batch, j)]
    outer, inner = np.maximum(u_i, u_j), np.minimum(u_i, u_j)
    slope_c, slope_e = coefficients.cometric_slopes(outer, inner, outer - inner, depth)
    # Divided difference of |u_ik| in l_i: the same for all k outside the pair, up to its sign.
    l_i, l_j = roots[(*batch, i)][:, None], roots[(*batch, j)][:, None]
    equal = l_i == l_j
    distance = np.where(equal, 1.0, l_j - l_i)
    outside = np.where(equal, 0.5 / l_i, 0.5 * np.log1p((l_j - l_i) / l_i) / distance)
    between = np.where(equal, 0.0, (u_j - u_i) / distance)
    k = np.arange(n)
    rate = np.where(k <= i[:, None], -outside, np.where(k >= j[:, None], outside, between))
    return rate * slope_c, rate * slope_e


def _close_pairs(
    gradient: Array,
    roots: Array,
    u: Array,
    momentum: Array,
    added: Array,
    depth: float,
    close: float,
) -> None:
    """Overwrite the off-diagonal gradient of pairs whose u is below ``close``, in place."""
    first, second, _, _ = coefficients.index_pairs(roots.shape[-1])
    # One point may serve many momenta.
    u = np.broadcast_to(u, (*momentum.shape[:-2], first.size))
    roots = np.broadcast_to(roots, momentum.shape[:-1])
    *batch, pair = where = np.nonzero(u < close)
    slope_c, slope_e = cometric_differences(roots, u, where, depth)
    i, j = (*batch, first[pair]), (*batch, second[pair])
    rows_i, rows_j = momentum[i], momentum[j]
    cols_i, cols_j = (transpose(momentum)[index] for index in (i, j))
    terms = slope_c * (cols_i * cols_j + rows_i * rows_j)
    terms += slope_e * (cols_i * rows_j + rows_i * cols_j)
    total = np.sum(terms, axis=-1)
    shared = added[(*i, j[-1])] / (2 * (roots[i] + roots[j]))
    gradient[(*i, j[-1])] = 0.5 * total - shared
    gradient[(*j, i[-1])] = 0.5 * total + shared


def pair_matrices(roots: Array, depth: float) -> tuple[Array, Array]:
    """Return u of the pairs and the five matrices from ``cosh`` to ``over_sum`` of `NodalState`."""
    index = coefficients.index_pairs(roots.shape[-1])
    smaller = roots.take(index.second, axis=-1)
    excess = (roots.take(index.first, axis=-1) - smaller) / smaller
    excess = np.maximum(excess, coefficients.NO_EXCESS)
    u, weight, slope = coefficients.pair_coefficients(excess, depth)
    return u, arranged(roots.shape[-1], smaller, excess, weight, slope, depth)


def arranged(
    n: int, smaller: Array, excess: Array, weight: Array, slope: Array, depth: float
) -> Array:
    """Arrange as those five matrices: of all pairs l_j, ``l_i / l_j - 1``, kappa and its slope."""
    index, inverse = coefficients.index_pairs(n), 1 / weight
    packed = np.empty((5, *weight.shape[:-1], weight.shape[-1] + 1), weight.dtype)
    pairs = packed[..., :-1]
    pairs[0] = weight + inverse
    pairs[1] = weight - inverse
    pairs[2] = 2 * slope
    pairs[3] = -1 / (excess * smaller)
    pairs[4] = 1 / ((excess + 2) * smaller)
    packed[0, ..., -1] = depth + 1 / depth
    packed[1, ..., -1] = depth - 1 / depth
    packed[2:, ..., -1] = 0.0
    packed *= 0.5
    matrices = side_by_side(packed.take(index.place, axis=-1))
    matrices[2:4] *= index.sign
    return matrices


def nodal_state(
    root: Array, depth: float, *, momentum: Array | None = None, velocity: Array | None = None
) -> NodalState:
    """Evaluate the Hamiltonian system at points T, ``(..., n, n)``, and momenta or velocities."""
    left, roots, right_t = np.linalg.svd(root)
    left, right_t, roots = side_by_side(left), side_by_side(right_t), side_by_side(roots, 1)
    # A root that vanishes to the last bit still has a well-defined limit.
    roots = np.maximum(roots, _SMALLEST * roots[..., :1] + _TINY)
    u, matrices = pair_matrices(roots, depth)
    cosh, sinh, slope, over_difference, over_sum = matrices
    if velocity is None:
        assert momentum is not None
        p = times(times(transpose(left), side_by_side(momentum)), transpose(right_t))
        g = raised(cosh, sinh, p)
    else:
        g = times(times(transpose(left), side_by_side(velocity)), transpose(right_t))
        p = lowered(cosh, sinh, g)
    p_t = transpose(p)
    outer_left, outer_right = times(g, p_t), times(p_t, g)
    k_left, k_right = outer_left - transpose(outer_left), outer_right - transpose(outer_right)
    added = k_right + k_left
    gradient = (k_right - k_left) * over_difference
    gradient -= added * over_sum
    mixed = p * transpose(g)
    mixed = slope * (mixed + transpose(mixed))
    diagonal(gradient)[...] = mixed.sum(axis=-1) / (-4 * roots)
    close = _CLOSE * min(1.0, _FEW / roots.shape[-1]) / (2 * depth)
    if (u < close).any():
        _close_pairs(gradient, roots, u, p, added, depth, close)
    return NodalState(
        left, roots, right_t, u, cosh, sinh, slope, over_difference, over_sum, g, p, gradient
    )


class SecondVariation:
    """Linearized momentum and force of nodes, any batch shape: second derivatives of ``g(v, v)/2``.

    A direction d of T turns the frame by ``Omega_L = A d - (A d)^T``, ``Omega_R = B d - (B d)^T``,
    entry by entry with ``A, B = 1 / (2 (l_j - l_i)) +- 1 / (2 (l_i + l_j))``, and moves the roots
    by ``d_ii``.
    """

    def __init__(self, nodal: NodalState, depth: float) -> None:
        crowded = np.asarray((2 * depth * nodal.u < _SPREAD).any(axis=-1))
        if crowded.any():
            # Too close for quotients of differences. Newton's method, which this serves, has the
            # same limit with singular values that are spread.
            ramp = np.exp(2 * _SPREAD / depth * np.arange(nodal.roots.shape[-1])[::-1])
            roots = nodal.roots * np.where(crowded[..., None], ramp, 1.0)
            root = (nodal.left * roots[..., None, :]) @ nodal.right_t
            nodal = nodal_state(root, depth, velocity=nodal.leave(nodal.velocity))
        g, p, per_root = nodal.velocity, nodal.momentum, 0.5 / nodal.roots
        g_t, p_t = transpose(g), transpose(p)
        apart, along = nodal.over_difference, nodal.over_sum
        self._turn_left, self._turn_right = apart + along, apart - along
        # Small products cost by the call, so factors are stacked; contiguous ones are faster.
        self._left, self._left_t = nodal.left, _arranged(transpose(nodal.left))
        self._right_t, self._right = nodal.right_t, _arranged(transpose(nodal.right_t))
        self._beside = np.concatenate([g, p, nodal.gradient], axis=-1)
        self._below = np.concatenate([g, p, nodal.gradient], axis=-2)
        self._g_over_p = np.concatenate([g, p], axis=-2)
        self._pt_over_gt = np.concatenate([p_t, g_t], axis=-2)
        self._p, self._g_t = p, _arranged(g_t)
        self._cosine, self._sine, self._per_root = nodal.cosh, nodal.sinh, per_root
        outer_left, outer_right = times(g, p_t), times(p_t, g)
        k_left, k_right = outer_left - transpose(outer_left), outer_right - transpose(outer_right)
        apart, along = 2 * apart, 2 * along
        self._quotient = (k_right - k_left) * apart * (0.5 * apart)
        self._shared = (k_right + k_left) * along * (0.5 * along)
        bend = coefficients.log_kappa_second_derivative(nodal.u, depth)
        mixed = p * g_t
        mixed += transpose(mixed)
        self._bend_mixed = coefficients.symmetric_matrix(bend, g.shape[-1]) * mixed
        self._slope, self._steep = nodal.slope, nodal.slope * p_t
        self._diagonal = 2 * diagonal(nodal.gradient)

    def mapped(self, function: Callable[[Array], Array]) -> Self:
        """Return the linearization with a function applied to all its arrays."""
        part = object.__new__(type(self))
        for name, value in vars(self).items():
            setattr(part, name, function(value))
        return part

    def apply(self, root_dir: Array, velocity_dir: Array) -> tuple[Array, Array]:
        """Differentiate ``(dL/dv, dL/dT)``, momentum and force, along a direction of (T, v)."""
        n = root_dir.shape[-1]
        d = times(times(self._left_t, side_by_side(root_dir)), self._right)
        dg = times(times(self._left_t, side_by_side(velocity_dir)), self._right)
        omega_l, omega_r = self._turn_left * d, self._turn_right * d
        turned_l = times(omega_l - transpose(omega_l), self._beside)
        turned_r = times(self._below, omega_r - transpose(omega_r))
        moved = diagonal(d)
        rate = moved * self._per_root
        du = rate[..., :, None] - rate[..., None, :]
        dg -= turned_l[..., :n]
        dg += turned_r[..., :n, :]
        dg_t = _arranged(transpose(dg))
        dp = self._cosine * dg
        dp += self._sine * dg_t
        dp += du * self._steep
        # KL = G P^T - P G^T and KR = P^T G - G^T P, differentiated
        left = times(np.concatenate([dg, -dp], axis=-1), self._pt_over_gt)
        right = times(np.concatenate([transpose(dp), -dg_t], axis=-1), self._g_over_p)
        force = (left - transpose(left)) * self._turn_left
        force -= (right - transpose(right)) * self._turn_right
        force += (moved[..., None, :] - moved[..., :, None]) * self._quotient
        force -= (moved[..., None, :] + moved[..., :, None]) * self._shared
        mixed = dp * self._g_t
        mixed += self._p * dg_t
        mixed = (mixed + transpose(mixed)) * self._slope
        mixed += du * self._bend_mixed
        along = 0.5 * mixed.sum(axis=-1)
        along += moved * self._diagonal
        diagonal(force)[...] = along * self._per_root
        dp += turned_l[..., n : 2 * n]
        dp -= turned_r[..., n : 2 * n, :]
        force -= turned_l[..., 2 * n :]
        force += turned_r[..., 2 * n :, :]
        momentum, force = (times(times(self._left, x), self._right_t) for x in (dp, force))
        return np.ascontiguousarray(momentum), np.ascontiguousarray(force)


def _arranged(x: Array) -> Array:
    """Return a copy of a transposed array, in the order in which products are fast."""
    return x if x.strides[-1] > x.strides[0] else np.ascontiguousarray(x)
