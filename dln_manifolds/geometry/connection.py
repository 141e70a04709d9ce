r"""The connection of the root chart and the linearized geodesic flow, exact at equal roots.

In the singular frame the cometric weighs the symmetric part of P by ``alpha = 1 / kappa`` and the
antisymmetric part by ``beta = kappa``, functions of two roots: a double operator function. Its
derivative along a v with symmetric part S and antisymmetric part K has their divided differences
``d alpha_ik,j = (alpha_kj - alpha_ij) / (l_k - l_i)``:

.. math::
    DA[v] P = E + E^T + O - O^T + \sigma G + G \sigma - A (\sigma P + P \sigma), \qquad
    \sigma_{ij} = \frac{K_{ij}}{l_i + l_j}, \quad G = A P,

    E_{ij} = \sum_k S_{ik} \, d\alpha_{ik,j} \frac{P_{kj} + P_{jk}}{2}, \qquad
    O_{ij} = \sum_k S_{ik} \, d\beta_{ik,j} \frac{P_{kj} - P_{jk}}{2},

and the gradient ``F = dH/dT`` of ``H = <P, G> / 2`` is half the adjoint, applied to P. H does not
change when T and P turn together, hence ``T F^T + P G^T`` and ``T^T F + P^T G`` are symmetric:
differentiated, two linear equations for every pair of entries of dF, with one division by
``l_j - l_i``. (Ours.)
"""

from collections.abc import Iterable
from typing import NamedTuple, Self

import numpy as np

from dln_manifolds.geometry import coefficients
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.hamiltonian import (
    NodalState,
    arranged,
    cometric_differences,
    nodal_state,
    pair_matrices,
)
from dln_manifolds.geometry.metric import CometricDerivative, lowered, raised
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import diagonal, transpose

# Gaps ``2 N u`` of pairs: below _CLOSE their divided differences come from a closed form; below
# _CROWDED the division of dF loses more than two digits.
_CLOSE, _CROWDED = 0.1, 0.007
# Neighbours with gaps below _SPREAD are moved around a circle, _RADIUS from first to last. What is
# computed is analytic up to gaps of pi: the mean over _PHASES points is exact to (0.3 / pi)^16.
_SPREAD, _RADIUS, _PHASES = 0.3, 0.3, 16
# Complex numbers of an array that stay in the cache.
_BLOCK = 20_000


class CometricSlopes(NamedTuple):
    """The cometric in the frame and its divided differences, roots real or complex.

    As in `NodalState`, with twice its ``over_difference`` and ``over_sum``. ``d_alpha`` and
    ``d_beta`` are indexed [i, k, j] and hold derivatives at i = k.
    """

    roots: Array
    cosh: Array
    sinh: Array
    slope: Array
    over_difference: Array
    over_sum: Array
    d_alpha: Array
    d_beta: Array

    @classmethod
    def of_matrices(cls, roots: Array, matrices: Iterable[Array]) -> Self:
        """Take roots with their `pair_matrices`, differences as quotients."""
        cosh, sinh, slope, over_difference, over_sum = matrices
        weights = np.stack([cosh - sinh, cosh + sinh])
        table = weights[..., None, :, :] - weights[..., :, None, :]
        table *= 2 * over_difference[..., None]
        same = np.arange(roots.shape[-1])
        pace = slope * (0.5 / roots)[..., None]
        table[..., same, same, :] = np.stack([-pace, pace]) * weights
        return cls(roots, cosh, sinh, slope, 2 * over_difference, 2 * over_sum, *table)

    @classmethod
    def of_roots(cls, roots: Array, u: Array, matrices: Iterable[Array], depth: float) -> Self:
        """Take real roots, differences of close pairs in closed form."""
        slopes = cls.of_matrices(roots, matrices)
        *batch, pair = where = np.nonzero(u < _CLOSE / (2 * depth))
        if pair.size:
            first, second, _, _ = coefficients.index_pairs(roots.shape[-1])
            i, j = first[pair], second[pair]
            d_c, d_e = cometric_differences(roots, u, where, depth)
            for table, value in (slopes.d_alpha, d_c + d_e), (slopes.d_beta, d_c - d_e):
                table[(*batch, i, j)] = table[(*batch, j, i)] = value
        return slopes

    def raise_(self, momenta: Array) -> Array:
        """Apply the cometric to several momenta at each point."""
        return raised(self.cosh[..., None, :, :], self.sinh[..., None, :, :], momenta)

    def split(self, directions: Array) -> tuple[Array, Array]:
        """Return S and sigma of several directions at each point."""
        turned = transpose(directions)
        twist = 0.5 * (directions - turned) * self.over_sum[..., None, :, :]
        return 0.5 * (directions + turned), twist


class RaisedMomentum:
    """A momentum P and ``G = A P`` in the frame; several directions for each point."""

    def __init__(self, slopes: CometricSlopes, momentum: Array) -> None:
        p, p_t = momentum, transpose(momentum)
        self.slopes, self.p = slopes, p
        self.g = g = raised(slopes.cosh, slopes.sinh, p)
        even, odd = 0.5 * (p + p_t), 0.5 * (p - p_t)
        self._parts = np.concatenate([even, odd], axis=-1)
        weighed = slopes.d_alpha * even[..., None, :, :], slopes.d_beta * odd[..., None, :, :]
        self._weighed = np.concatenate(weighed, axis=-1)
        self._beside = np.concatenate([g, p], axis=-1)[..., None, :, :]
        self._below = np.concatenate([g, p], axis=-2)[..., None, :, :]

    def turned(self, left: Array, right: Array) -> tuple[Array, Array]:
        """Return ``L G + G R`` and ``L P + P R``."""
        n = self.p.shape[-1]
        before, after = left @ self._beside, self._below @ right
        return before[..., :n] + after[..., :n, :], before[..., n:] + after[..., n:, :]

    def stretched(self, symmetric: Array) -> Array:
        """Return ``DA[S] P``."""
        n = self.p.shape[-1]
        both = (symmetric.swapaxes(-2, -3) @ self._weighed).swapaxes(-2, -3)
        even, odd = both[..., :n], both[..., n:]
        return even + transpose(even) + (odd - transpose(odd))

    def along(self, direction: Array) -> Array:
        """Return ``DA[v] P``."""
        symmetric, twist = self.slopes.split(direction)
        g, p = self.turned(twist, twist)
        return self.stretched(symmetric) + g - self.slopes.raise_(p)

    def gradient(self, other: Self) -> Array:
        """Return ``d<P, A Q>/dT`` of two momenta."""
        p_t, q_t = transpose(self.p), transpose(other.p)
        pull = 2 * (self._weighed @ other._parts[..., None])[..., 0]
        total = self.g @ q_t + other.g @ p_t + q_t @ self.g + p_t @ other.g
        twisted = (total - transpose(total)) * self.slopes.over_sum
        return 0.5 * (pull + transpose(pull) - twisted)


def root_connection(frame: Frame, velocity: Array, xi: Array) -> Array:
    """Return the covector ``<Gamma(., xi), velocity>`` of the root chart, at frames of roots."""
    # (-g (D_xi A) p - d<p, A q> + g (D_v A) q) / 2 with the momenta p of v and q of xi
    roots, depth = frame.roots, frame.depth
    slopes = CometricSlopes.of_roots(roots, *pair_matrices(roots, depth), depth)
    scale = slopes.cosh, slopes.sinh
    v, x = frame.enter(velocity), frame.enter(xi)
    p, q = (RaisedMomentum(slopes, lowered(*scale, vector)) for vector in (v, x))
    turn = q.along(v[..., None, :, :]) - p.along(x[..., None, :, :])
    return frame.leave(0.5 * (lowered(*scale, turn[..., 0, :, :]) - p.gradient(q)))


def point_connection(frame: Frame, vector: Array, xi: Array) -> Array:
    """Return the covector ``<Gamma(., xi), vector>`` of the chart of X."""
    derivative = CometricDerivative(frame)
    v, x = frame.enter(vector), frame.enter(xi)
    p, q = v / frame.a, x / frame.a
    turn = derivative.along_in_frame(v, q) - derivative.along_in_frame(x, p)
    return frame.leave(0.5 * (turn / frame.a - derivative.gradient_in_frame(p, q)))


def linearized_rates(
    root: Array, momentum: Array, root_dir: Array, momentum_dir: Array, depth: float
) -> tuple[NodalState, Array, Array]:
    """Return the system at (T, P) and derivatives ``(n_batch, k, n, n)`` of ``(dH/dP, -dH/dT)``."""
    nodal = nodal_state(root, depth, momentum=momentum)
    left, right_t = nodal.left[:, None], nodal.right_t[:, None]
    inside = transpose(left) @ root_dir @ transpose(right_t)
    inside_dir = transpose(left) @ momentum_dir @ transpose(right_t)
    crowded = (2 * depth * nodal.u < _CROWDED).any(axis=-1)
    if not crowded.any():
        root_rate, gradient_rate = _linearized(nodal, inside, inside_dir, depth)
    else:
        root_rate, gradient_rate = np.empty_like(inside), np.empty_like(inside)
        for pick, method in ((~crowded, _linearized), (crowded, _around_circle)):
            if pick.any():
                part = NodalState(*(value[pick] for value in nodal))
                rates = method(part, inside[pick], inside_dir[pick], depth)
                root_rate[pick], gradient_rate[pick] = rates
    return nodal, left @ root_rate @ right_t, -(left @ gradient_rate @ right_t)


def _linearized(nodal: NodalState, d: Array, q: Array, depth: float) -> tuple[Array, Array]:
    """Return derivatives of G and F at points without close roots, in the frame."""
    matrices = nodal.cosh, nodal.sinh, nodal.slope, nodal.over_difference, nodal.over_sum
    slopes = CometricSlopes.of_roots(nodal.roots, nodal.u, matrices, depth)
    bend = coefficients.log_kappa_second_derivative(nodal.u, depth)
    return _rates_in_frame(RaisedMomentum(slopes, nodal.momentum), bend, d, q)


def _around_circle(nodal: NodalState, d: Array, q: Array, depth: float) -> tuple[Array, Array]:
    """Do as `_linearized` where roots are close: the mean over complex roots around them."""
    n = nodal.roots.shape[-1]
    index = coefficients.index_pairs(n)
    neighbours = index.place[np.arange(n - 1), np.arange(1, n)]
    share = np.zeros_like(nodal.roots)
    np.cumsum(2 * depth * nodal.u[:, neighbours] < _SPREAD, axis=-1, out=share[:, 1:])
    share = (_RADIUS / depth) * (0.5 - share / share[:, -1:])
    # Complex conjugate points give conjugate values; none is real, as equal roots would meet there.
    angles = 2 * np.pi / _PHASES * (np.arange(_PHASES // 2) + 0.5)
    total = np.zeros((2, *d.shape))
    n_parts = min(angles.size, 1 + angles.size * (d.size + n * nodal.left.size) // _BLOCK)
    for part in np.array_split(np.exp(1j * angles), n_parts):
        logarithm = part[:, None] * share[:, None]
        u = nodal.u[:, None] + 0.5 * (logarithm[..., index.first] - logarithm[..., index.second])
        roots = nodal.roots[:, None] * np.exp(logarithm)
        weight, slope = np.tanh(depth * u) / np.tanh(u), coefficients.log_kappa_derivative(u, depth)
        smaller, excess = roots[..., index.second], np.expm1(2 * u)
        matrices = arranged(n, smaller, excess, weight, slope, depth)
        momenta = np.broadcast_to(nodal.momentum[:, None], (*roots.shape, n))
        momentum = RaisedMomentum(CometricSlopes.of_matrices(roots, matrices), momenta)
        bend = coefficients.log_kappa_second_derivative(u, depth)
        rates = _rates_in_frame(momentum, bend, d[:, None], q[:, None])
        total += [rate.real.sum(axis=1) for rate in rates]
    total /= angles.size
    return total[0], total[1]


def _rates_in_frame(
    momentum: RaisedMomentum, bend: Array, d: Array, q: Array
) -> tuple[Array, Array]:
    """Differentiate G and F along directions d of T and q of P; bend belongs to pairs."""
    slopes, p, g = momentum.slopes, momentum.p, momentum.g
    f = 0.5 * momentum.gradient(momentum)
    bend = coefficients.symmetric_matrix(bend, p.shape[-1]) * (p * transpose(g) + transpose(p) * g)
    fixed = slopes.roots, slopes.slope, slopes.over_difference, slopes.over_sum, bend, p, g, f
    roots, slope, over_difference, over_sum, bend, p, g, f = (
        value[..., None, :, :] if value.ndim > slopes.roots.ndim else value[..., None, :]
        for value in fixed
    )
    symmetric, twist = slopes.split(d)
    twisted_g, twisted_p = momentum.turned(twist, twist)
    dg = momentum.stretched(symmetric) + twisted_g + slopes.raise_(q - twisted_p)

    p_t, g_t, f_t, d_t = transpose(p), transpose(g), transpose(f), transpose(d)
    left = dg @ p_t - q @ g_t - d @ f_t
    right = p_t @ dg - g_t @ q + d_t @ f
    left, right = left - transpose(left), right - transpose(right)
    df = 0.5 * ((right - left) * over_difference - (right + left) * over_sum)
    # The diagonal as the frame sees it, which turns with T, and then back.
    turn = symmetric * over_difference
    turned_g, turned_p = momentum.turned(turn, -turn)
    change = (q - twisted_p - turned_p) * g_t + p * transpose(dg - twisted_g - turned_g)
    per_root = 0.5 / roots
    pace = diagonal(d) * per_root
    change = slope * (change + transpose(change)) + (pace[..., None] - pace[..., None, :]) * bend
    back = turn * (f_t + f) + twist * (f_t - f)
    diagonal(df)[...] = (back - 0.5 * per_root[..., None] * change).sum(axis=-1)
    diagonal(df)[...] -= 2 * pace * diagonal(f)
    return dg, df
