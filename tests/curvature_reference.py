"""Curvature and connection by differences of the metric matrix, in 100 digits.

In coordinates of the matrices of one shape and rank, ``X = [[A, B], [C, C A^-1 B]]`` with A of that
rank. For the coordinate fields ``e_a``

    <R(e_i, e_j) e_k, e_l> = (g_ik,jl + g_jl,ik - g_il,jk - g_jk,il) / 2
                             + <Gamma_ik, Gamma_jl> - <Gamma_jk, Gamma_il>,

commas for derivatives: of ``nabla_i nabla_j e_k - nabla_j nabla_i e_k``, geomstats' sign.
"""

import itertools
import math

import mpmath as mp
import numpy as np

DIGITS = 100
STEP = mp.mpf(10) ** -22


def weight(s_i, s_j, depth):
    """Eigenvalue of the cometric; of ``N g_N`` at infinite depth."""
    if math.isinf(depth):
        return s_i**2 if s_i == s_j else (s_i**2 - s_j**2) / (2 * mp.log(s_i / s_j))
    depth = mp.mpf(depth)
    if s_i == s_j:
        return depth * s_i ** (2 - 2 / depth)
    return (s_i**2 - s_j**2) / (s_i ** (2 / depth) - s_j ** (2 / depth))


def decomposition(x, rank):
    """Return thin singular bases and values of an array; values that are nearly equal are equal."""
    left, s, right_t = (np.array(part.tolist(), dtype=object) for part in mp.svd_r(mp.matrix(x)))
    s = s.ravel()[:rank]
    for i in range(1, rank):
        if s[i - 1] - s[i] < mp.mpf(10) ** -60 * s[0]:
            s[i] = s[i - 1]
    return left[:, :rank], s, right_t[:rank]


def metric(x, vectors, rank, depth):
    """Return the matrix of inner products of tangent vectors at X."""
    left, s, right_t = decomposition(x, rank)
    rows = []
    for z in vectors:
        core = left.T.dot(z).dot(right_t.T)
        parts = [core[i, j] / mp.sqrt(weight(s[i], s[j], depth)) for i, j in np.ndindex(rank, rank)]
        if rank < max(x.shape):
            side = [v ** (1 - (0 if math.isinf(depth) else 1 / mp.mpf(depth))) for v in s]
            parts += list(((z.dot(right_t.T) - left.dot(core)) / side).ravel())
            parts += list(((z.T.dot(left) - right_t.T.dot(core.T)) / side).ravel())
        rows.append(parts)
    rows = np.array(rows, dtype=object)
    return rows.dot(rows.T)


class Chart:
    """Coordinates near a matrix of doubles, whose leading block is invertible."""

    def __init__(self, x, rank, depth):
        self.shape, self.rank, self.depth = x.shape, rank, depth
        self.places = [(i, j) for i, j in np.ndindex(*x.shape) if i < rank or j < rank]
        self.origin = np.array([mp.mpf(float(x[place])) for place in self.places])

    def blocks(self, coordinates):
        x = np.full(self.shape, mp.mpf(0), dtype=object)
        for place, value in zip(self.places, coordinates, strict=True):
            x[place] = value
        r = self.rank
        return x, x[:r, :r], x[:r, r:], x[r:, :r]

    def point(self, coordinates):
        x, a, b, c = self.blocks(coordinates)
        x[self.rank :, self.rank :] = c.dot(self.solved(a, b))
        return x

    @staticmethod
    def solved(a, b):
        inverse = np.array((mp.matrix(a) ** -1).tolist(), dtype=object)
        return inverse.dot(b)

    def fields(self, coordinates):
        """Return the coordinate fields as matrices."""
        _, a, b, c = self.blocks(coordinates)
        right, left = self.solved(a, b), self.solved(a.T, c.T).T
        r, found = self.rank, []
        for k in range(len(self.places)):
            unit = [mp.mpf(k == m) for m in range(len(self.places))]
            z, da, db, dc = self.blocks(unit)
            z[r:, r:] = dc.dot(right) - left.dot(da).dot(right) + left.dot(db)
            found.append(z)
        return found

    def metric(self, coordinates):
        point = self.point(coordinates)
        return metric(point, self.fields(coordinates), self.rank, self.depth)

    def jets(self, directions, mixed=True):
        """Return the metric matrix with first and second differences along directions.

        The second ones in the same direction alone, where mixed ones are not asked for.
        """

        def at(*moves):
            return self.metric(self.origin + STEP * sum(moves))

        count, zero = len(directions), 0 * self.origin
        value = at(zero)
        first, second = [], [[None] * count for _ in range(count)]
        for i, v in enumerate(directions):
            up, down = at(v), at(-v)
            first.append((up - down) / (2 * STEP))
            second[i][i] = (up - 2 * value + down) / STEP**2
        for i, j in itertools.combinations(range(count if mixed else 0), 2):
            v, w = directions[i], directions[j]
            twist = at(v, w) - at(v, -w) - at(-v, w) + at(-v, -w)
            second[i][j] = second[j][i] = twist / (4 * STEP**2)
        return value, first, second


def differences(x, rank, depth, directions=None, curvature=True):
    """Return tangent vectors and, of these, the inner products, ``Gamma`` and the curvature.

    Of the coordinate fields, or of some constant combinations of them, given as rows. ``Gamma`` of
    pairs in coordinates.
    """
    with mp.workdps(DIGITS):
        chart = Chart(x, rank, depth)
        size = len(chart.places)
        units = np.array([[mp.mpf(i == j) for j in range(size)] for i in range(size)])
        rows = units if directions is None else np.array(directions, dtype=object) * mp.mpf(1)
        value, first, second = chart.jets(rows, curvature)
        along = first if directions is None else chart_slopes(chart, units)
        # Christoffel symbols with a lower index: of pairs of directions, in coordinates.
        slopes = np.array(first, dtype=object)
        one = np.einsum("iab,ja->ijb", slopes, rows)
        last = np.einsum("eab,ia,jb->ije", np.array(along, dtype=object), rows, rows)
        lowered = (one + one.transpose(1, 0, 2) - last) / 2
        inverse = np.array((mp.matrix(value) ** -1).tolist(), dtype=object)
        gamma = lowered.dot(inverse)
        total = curvature_of_jets(second, rows, gamma, lowered) if curvature else np.zeros(0)
        fields = np.array([np.array(z) for z in chart.fields(chart.origin)])
        vectors = np.einsum("ia,amn->imn", rows, fields)
        return (
            vectors.astype(float),
            np.einsum("ab,ia,jb->ij", value, rows, rows).astype(float),
            gamma.astype(float),
            total.astype(float),
        )


def curvature_of_jets(second, rows, gamma, lowered):
    """Return the curvature from second differences of the metric and Christoffel symbols."""
    inner = np.einsum("ijab,ka,lb->ijkl", np.array(second, dtype=object), rows, rows)
    pairs = np.einsum("ija,kla->ijkl", gamma, lowered)
    terms = {"jkil": -1, "iljk": -1, "ikjl": 1, "jlik": 1}
    total = sum(sign * np.einsum(f"{t}->ijkl", inner) for t, sign in terms.items()) / 2
    return total + np.einsum("ikjl->ijkl", pairs) - np.einsum("jkil->ijkl", pairs)


def chart_slopes(chart, units):
    """Return first differences along all coordinates."""
    ends = [[chart.metric(chart.origin + step * v) for step in (STEP, -STEP)] for v in units]
    return [(up - down) / (2 * STEP) for up, down in ends]


def field_derivatives(x, rank):
    """Return ``D e_b[e_a]`` of the coordinate fields, as matrices."""
    with mp.workdps(DIGITS):
        chart = Chart(x, rank, 1)
        size = len(chart.places)
        units = np.array([[mp.mpf(i == j) for j in range(size)] for i in range(size)])
        found = []
        for v in units:
            up, down = (np.array(chart.fields(chart.origin + sign * STEP * v)) for sign in (1, -1))
            found.append((up - down) / (2 * STEP))
        return np.array(found).astype(float)
