r"""Functions of the singular values alone: Euclidean and Riemannian Hessian, Laplace-Beltrami.

Of a symmetric function f of the singular values, with ``g_i = df/d log s_i``, its derivatives
``g_ij``, ``x_i = l_i^2`` and ``delta = log(s_i / s_j)``, the Riemannian Hessian in the orthonormal
coordinates ``C_ij = Z~_ij / sqrt(a_ij)`` is (ours) ``A_ij C_ij + B_ij C_ji`` for i != j, with

.. math::
    A_{ij} = \frac{g_i - g_j}{x_i - x_j}, \qquad
    B_{ij} = \frac{N}{2 \sinh \delta} \left( \frac{g_i}{x_i} - \frac{g_j}{x_j} \right),

``sum_j (N g_ij / (l_i l_j)) C_jj - (g_i / x_i) C_ii`` on the diagonal, and ``g_j / x_j`` times
columns j beside the core. Its trace is the Laplace-Beltrami operator,

.. math::
    \Delta f = \sum_i \frac{N g_{ii} - g_i}{x_i} + 2 \sum_{i<j} \frac{g_i - g_j}{x_i - x_j}
               + (m + n - 2r) \sum_j \frac{g_j}{x_j},

1/N of the flat Laplacian of the root chart where r = min(m, n). At infinite depth both are those of
the metric ``N g_N``, of square matrices: their limits divided by N. All of this is exact at equal
singular values.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dln_manifolds.geometry.coefficients import unit_of
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.functions import damped_sinhc, sinhc
from dln_manifolds.numerics.matrices import diagonal, parity_combine, transpose
from dln_manifolds.numerics.polynomials import gauss

Function = Callable[[Array], Array]

# Rates at singular values closer than this, as logarithms, are not subtracted: their difference is
# the integral of a derivative along the way on which both change places.
_NEAR = 0.1
_NODES, _WEIGHTS = gauss(8)


class SpectralJet(NamedTuple):
    """Derivatives of a symmetric function by the logarithms of singular values.

    ``rates`` g_i, ``(..., r)``; ``seconds`` g_ij and ``quotients`` ``(g_i - g_j) / log(s_i / s_j)``
    with their limits, ``(..., r, r)``; those of i = j do not matter.
    """

    rates: Array
    seconds: Array
    quotients: Array


def jet_of(frame: Frame, gradient: Function, hessian: Function) -> SpectralJet:
    """Return the derivatives of a function whose derivatives by the singular values are given."""
    s, tau = frame.singular_values, frame.log_ratio
    first = gradient(s)
    seconds = s[..., :, None] * s[..., None, :] * hessian(s)
    rates = s * first
    diagonal(seconds)[...] += rates
    near = np.abs(tau) < _NEAR
    quotients = (rates[..., :, None] - rates[..., None, :]) / np.where(near, 1.0, tau)
    *member, i, j = np.nonzero(np.triu(near, 1))
    if len(i):
        # f is symmetric: g_j is g_i where s_i and s_j have changed places.
        values = np.broadcast_to(s[tuple(member)], (len(i), s.shape[-1]))
        values, each = np.repeat(values[:, None], len(_NODES), axis=1), np.arange(len(i))
        power = tau[(*member, i, j)][:, None] * _NODES
        ends = s[(*member, i)], s[(*member, j)]
        values[each, :, i] = ends[1][:, None] * np.exp(power)
        values[each, :, j] = ends[0][:, None] * np.exp(-power)
        at_i, at_j = values[each, :, i], values[each, :, j]
        bend = hessian(values)
        change = at_i**2 * bend[each, :, i, i] - at_i * at_j * bend[each, :, i, j]
        found = (change + at_i * gradient(values)[each, :, i]) @ _WEIGHTS
        quotients[(*member, i, j)] = quotients[(*member, j, i)] = found
    return SpectralJet(rates, seconds, quotients)


def differential(frame: Frame, jet: SpectralJet) -> Array:
    """Return the Euclidean gradient ``U diag(df/ds_i) V^T``."""
    return frame.compose(jet.rates / frame.singular_values)


class SpectralHessian:
    r"""Euclidean second derivative of a spectral function along tangent vectors, to apply often.

    With ``f_i = df/ds_i`` the derivative of ``U diag(f) V^T`` along Z is, in the frame,
    ``sum_j (df_i/ds_j) Z~_jj`` on the diagonal; beside it ``(f_i - f_j)/(s_i - s_j)`` times the
    symmetric part of Z~ plus ``(f_i + f_j)/(s_i + s_j)`` times the antisymmetric one. Columns of
    the blocks beside the core are multiplied by ``f_j / s_j``.
    """

    def __init__(self, frame: Frame, jet: SpectralJet) -> None:
        self.frame = frame
        s = frame.singular_values
        slopes = jet.rates / s
        row, column = s[..., :, None], s[..., None, :]
        self._diagonal = jet.seconds / (row * column)
        diagonal(self._diagonal)[...] -= slopes / s
        # By the larger s_i: ((g_i - g_j)/(s_i - s_j) - g_j/s_j) / s_i.
        quotient = jet.quotients / (np.sqrt(row) * np.sqrt(column) * sinhc(0.5 * frame.log_ratio))
        slope_of_smaller = np.where(row >= column, slopes[..., None, :], slopes[..., :, None])
        self._symmetric = (quotient - slope_of_smaller) / np.maximum(row, column)
        self._beside = (slopes / s)[..., None, :]
        self._antisymmetric = (slopes[..., :, None] + slopes[..., None, :]) / (row + column)

    def apply(self, vector: Array) -> Array:
        """Return the derivative of the Euclidean gradient along Z, shape ``(..., m, n)``."""
        inside = self.frame.blocks(vector)
        rank = self.frame.values.shape[-1]
        core = inside[..., :rank, :]
        image = parity_combine(self._symmetric, self._antisymmetric, core)
        diagonal(image)[...] = (self._diagonal @ diagonal(core)[..., None])[..., 0]
        if any(self.frame.sides):
            sides = self._beside * inside[..., rank:, :]
            image = np.concatenate([image, sides], axis=-2)
        return self.frame.assemble(image)


class _Multipliers(NamedTuple):
    """What the Riemannian Hessian does to orthonormal coordinates, see above."""

    same: Array
    other: Array
    diagonal: Array
    beside: Array


def _multipliers(frame: Frame, jet: SpectralJet) -> _Multipliers:
    unit, inverse = unit_of(frame.depth), 1 / frame.depth
    # Terms without a factor N: none in the limit.
    share = unit * inverse
    roots, x = frame.roots, np.abs(frame.log_ratio)
    product = roots[..., :, None] * roots[..., None, :]
    larger = np.maximum(roots[..., :, None], roots[..., None, :]) ** 2
    whole, part = damped_sinhc(x), damped_sinhc(x * inverse)
    quotient = unit * jet.quotients / (2 * larger)
    first = frame.log_ratio >= 0
    of_smaller = np.where(first, jet.rates[..., None, :], jet.rates[..., :, None])
    decay = np.exp((inverse - 1) * x)
    other = quotient * np.exp(-x) / whole - share * of_smaller * decay * part / (product * whole)
    slopes = share * jet.rates / roots**2
    inside = unit * jet.seconds / product
    diagonal(inside)[...] -= slopes
    same = quotient / part
    for matrix in (same, other):
        diagonal(matrix)[...] = 0.0
    return _Multipliers(same, other, inside, slopes)


def spectral_hessian(frame: Frame, jet: SpectralJet, vector: Array) -> Array:
    """Return the Riemannian Hessian ``nabla_Z grad f`` along tangent vectors, ``(..., m, n)``."""
    known, rank = _multipliers(frame, jet), frame.values.shape[-1]
    inside = frame.blocks(vector) / frame.root_weights
    core = inside[..., :rank, :]
    image = known.same * core + known.other * transpose(core)
    diagonal(image)[...] = (known.diagonal @ diagonal(core)[..., None])[..., 0]
    if any(frame.sides):
        sides = known.beside[..., None, :] * inside[..., rank:, :]
        image = np.concatenate([image, sides], axis=-2)
    return frame.assemble(image * frame.root_weights)


def spectral_laplacian(frame: Frame, jet: SpectralJet) -> Array:
    """Return the Laplace-Beltrami operator of a spectral function, shape ``(...)``."""
    known = _multipliers(frame, jet)
    total = diagonal(known.diagonal).sum(axis=-1) + known.same.sum(axis=(-2, -1))
    return total + frame.surplus * known.beside.sum(axis=-1)


def laplacian_of_point(frame: Frame) -> Array:
    r"""Return the Laplacian of the entries of X, ``U diag((N - 1) s^(1 - 2/N)) V^T`` (ours).

    At every shape and rank; of ``N g_N``, X itself at infinite depth. Twice the Ito drift of the
    Brownian motion of the metric.
    """
    unit = unit_of(frame.depth)
    return frame.compose((unit - unit / frame.depth) * frame.singular_values / frame.roots**2)
