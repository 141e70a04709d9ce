"""Reference values: defining formulas at many digits, with the limits at equal values written out.

Every function takes singular values as mpmath numbers; doubles become such numbers exactly. The
quotients are literal. One difference of neighbouring doubles loses 16 digits and the formulas hold
at most two, so 120 digits leave far more than the 50 asked for.
"""

import functools

import mpmath as mp
import numpy as np

DEPTHS = (1, 1.5, 2, 3, 10, 100)
EPS = np.finfo(float).eps
# Relative error allowed to functions of given singular values.
BOUND = 1e-13
_DIGITS = 120


def digits(function):
    """Evaluate a function with the working precision of this module."""

    @functools.wraps(function)
    def wrapped(*args):
        with mp.workdps(_DIGITS):
            return function(*args)

    return wrapped


def exact(values):
    """Return an array of doubles as an array of mpmath numbers, without rounding."""
    values = np.asarray(values, dtype=float)
    with mp.workdps(_DIGITS):
        flat = [mp.mpf(float(value)) for value in values.ravel()]
    return np.array([*flat, None], dtype=object)[:-1].reshape(values.shape)


def table(function, *arrays, depth):
    """Apply a function of mpmath numbers and a depth to arrays of doubles, by broadcasting."""
    with mp.workdps(_DIGITS):
        last = mp.mpf(depth)
        arrays = np.broadcast_arrays(*(exact(array) for array in arrays))
        flat = [function(*args, last) for args in zip(*(x.ravel() for x in arrays), strict=True)]
    return np.array([*flat, None], dtype=object)[:-1].reshape(arrays[0].shape)


@digits
def relative_errors(got, wanted, scale=None):
    """Return ``|got - wanted| / scale`` as doubles; where the scale is 0 only 0 has error 0."""
    got = np.asarray(got, dtype=float)
    scale = wanted if scale is None else scale
    errors = []
    for x, y, z in zip(got.ravel(), np.ravel(wanted), np.ravel(scale), strict=True):
        if not np.isfinite(x):
            errors.append(np.inf)
        elif z == 0:
            errors.append(0.0 if x == y else np.inf)
        else:
            errors.append(float(abs(mp.mpf(float(x)) - y) / abs(z)))
    return np.reshape(errors, got.shape)


def check(error, bound, describe=lambda index: f"index {index}"):
    """Fail unless all errors are within the bound, naming the worst and its case."""
    error = np.asarray(error, dtype=float)
    bound = np.broadcast_to(bound, error.shape)
    assert error.size > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(error == 0, 0.0, error / bound)
    share = np.where(np.isnan(share), np.inf, share)
    index = np.unravel_index(np.argmax(share), error.shape)
    assert share[index] <= 1, (
        f"error {error[index]:.2e}, bound {bound[index]:.2e}, at {describe(index)}"
    )


def check_table(got, wanted, bound, scale=None, cases=None):
    """Compare doubles with mpmath numbers, relative to the number or to a scale."""
    assert np.shape(got) == np.shape(wanted)

    def describe(index):
        case = "" if cases is None else f" for {cases[index]}"
        return f"{index}: got {got[index]!r}, wanted {mp.nstr(wanted[index], 17)}{case}"

    check(relative_errors(got, wanted, scale), bound, describe)


# Functions of given singular values


def root(s, depth):
    """Root singular value."""
    return s ** (1 / depth)


def half_log_ratio(s_i, s_j, depth):
    """``u_ij``."""
    return mp.log(s_i / s_j) / (2 * depth)


def a(s_i, s_j, depth):
    """Eigenvalue of the cometric."""
    if s_i == s_j:
        return depth * s_i ** (2 - 2 / depth)
    return (s_i**2 - s_j**2) / (root(s_i, depth) ** 2 - root(s_j, depth) ** 2)


def log_a(s_i, s_j, depth):
    """Its logarithm."""
    return mp.log(a(s_i, s_j, depth))


def log_a_terms(s_i, s_j, depth):
    """Sum of the absolute values of the terms of ``log a``: two of scale, one of the ratio."""
    power = 1 - 1 / depth
    scales = power * mp.log(s_i), power * mp.log(s_j)
    return abs(scales[0]) + abs(scales[1]) + abs(log_a(s_i, s_j, depth) - sum(scales))


def log_a_derivative(s_i, s_j, depth):
    """``d log a_ij / d log s_i``, by differentiating the quotient."""
    if s_i == s_j:
        return 1 - 1 / depth
    x_i, x_j = root(s_i, depth) ** 2, root(s_j, depth) ** 2
    return 2 * s_i**2 / (s_i**2 - s_j**2) - (2 / depth) * x_i / (x_i - x_j)


def kappa_of(u, depth):
    """``kappa`` as a function of u."""
    return depth if u == 0 else mp.tanh(depth * u) / mp.tanh(u)


def kappa(s_i, s_j, depth):
    """Eigenvalue of the metric in the root chart."""
    return kappa_of(half_log_ratio(s_i, s_j, depth), depth)


def log_kappa_derivative_of(u, depth):
    """``d log kappa / du``."""
    return mp.mpf(0) if u == 0 else 2 * depth / mp.sinh(2 * depth * u) - 2 / mp.sinh(2 * u)


def log_kappa_derivative(s_i, s_j, depth):
    """``d log kappa / du`` at a pair of singular values."""
    return log_kappa_derivative_of(half_log_ratio(s_i, s_j, depth), depth)


def _csch_coth(x):
    return mp.cosh(x) / mp.sinh(x) ** 2


def log_kappa_second_derivative(s_i, s_j, depth):
    """``d^2 log kappa / du^2``."""
    u = half_log_ratio(s_i, s_j, depth)
    if u == 0:
        return -2 * (depth**2 - 1) / 3
    return 4 * _csch_coth(2 * u) - 4 * depth**2 * _csch_coth(2 * depth * u)


def log_kappa_second_derivative_terms(s_i, s_j, depth):
    """Sum of the absolute values of its two terms, each without its pole ``1 / u^2``."""
    if depth == 1:
        return mp.mpf(0)
    if s_i == s_j:
        return 2 * (depth**2 + 1) / 3
    u = half_log_ratio(s_i, s_j, depth)
    shallow = 4 * _csch_coth(2 * u) - 1 / u**2
    deep = 4 * depth**2 * _csch_coth(2 * depth * u) - 1 / u**2
    return abs(shallow) + abs(deep)


def _cometric_parts(u, depth):
    value = kappa_of(u, depth)
    return (1 / value + value) / 2, (1 / value - value) / 2


def _cometric_part_slopes(outer, inner, depth):
    if outer != inner:
        ends = zip(_cometric_parts(outer, depth), _cometric_parts(inner, depth), strict=True)
        return [(x - y) / (outer - inner) for x, y in ends]
    value = kappa_of(outer, depth)
    rate = value * log_kappa_derivative_of(outer, depth)
    return [(1 - 1 / value**2) * rate / 2, (-1 - 1 / value**2) * rate / 2]


def slope_c(s_i, s_j, s_k, depth):
    """Divided difference of ``c(|u|) = (1/kappa + kappa)/2`` between the pairs ik and jk."""
    u = [abs(half_log_ratio(s, s_k, depth)) for s in (s_i, s_j)]
    return _cometric_part_slopes(*u, depth)[0]


def slope_e(s_i, s_j, s_k, depth):
    """Divided difference of ``e(|u|) = (1/kappa - kappa)/2`` between the pairs ik and jk."""
    u = [abs(half_log_ratio(s, s_k, depth)) for s in (s_i, s_j)]
    return _cometric_part_slopes(*u, depth)[1]


def _second_difference(value, first, second, x, y, z):
    """Second divided difference of a function, given with two derivatives; x >= y >= z."""
    if x == z:
        return second(x) / 2
    if x == y:
        return (first(x) - (value(y) - value(z)) / (y - z)) / (x - z)
    if y == z:
        return ((value(x) - value(y)) / (x - y) - first(z)) / (x - z)
    return ((value(x) - value(y)) / (x - y) - (value(y) - value(z)) / (y - z)) / (x - z)


def a_second_difference(s_i, s_j, s_k, depth):
    """Second divided difference of ``x^N`` at squared roots, ``s_i >= s_j >= s_k``."""
    return _second_difference(
        lambda x: x**depth,
        lambda x: depth * x ** (depth - 1),
        lambda x: depth * (depth - 1) * x ** (depth - 2),
        *(root(s, depth) ** 2 for s in (s_i, s_j, s_k)),
    )


def a_second_difference_scale(s_i, s_j, s_k, depth):
    """Its size; at N = 1, where it vanishes, that of its derivative by N."""
    if depth != 1:
        return a_second_difference(s_i, s_j, s_k, depth)
    return _second_difference(
        lambda x: x * mp.log(x),
        lambda x: mp.log(x) + 1,
        lambda x: 1 / x,
        *(s**2 for s in (s_i, s_j, s_k)),
    )


@digits
def log_volume_orthogonal_group(n):
    """Volume of O(n): two components, each fibred by spheres of radius sqrt 2 (Frobenius)."""
    total = mp.log(2)
    for k in range(1, n):
        sphere = 2 * mp.pi ** (mp.mpf(k + 1) / 2) / mp.gamma(mp.mpf(k + 1) / 2)
        total += mp.log(sphere * mp.sqrt(2) ** k)
    return total


def _over_pairs(function, s, depth):
    n = len(s)
    return [function(s[i], s[j], depth) for i in range(n) for j in range(i + 1, n)]


def entropy(s, depth):
    """Logarithm of the volume of the fibre."""
    group = (depth - 1) * log_volume_orthogonal_group(len(s))
    return group + sum(_over_pairs(log_a, s, depth)) / 2


def entropy_terms(s, depth):
    """Sum of the absolute values of the terms of the entropy."""
    group = (depth - 1) * abs(log_volume_orthogonal_group(len(s)))
    return group + sum(_over_pairs(log_a_terms, s, depth)) / 2


def log_riemannian_density(s, depth):
    """``(1/2) log det g``."""
    diagonal = sum(log_a(x, x, depth) for x in s)
    return -diagonal / 2 - sum(_over_pairs(log_a, s, depth))


def log_riemannian_density_terms(s, depth):
    """Sum of the absolute values of its terms."""
    diagonal = sum(log_a_terms(x, x, depth) for x in s)
    return diagonal / 2 + sum(_over_pairs(log_a_terms, s, depth))


def rows(function, values, depth):
    """Apply a function of a row of singular values to every row."""
    with mp.workdps(_DIGITS):
        last = mp.mpf(depth)
        flat = [function(list(row), last) for row in exact(values)]
    return np.array([*flat, None], dtype=object)[:-1]


# Matrices of mpmath numbers


def matrix(array):
    """Return a 2-d array of doubles as an mpmath matrix, without rounding."""
    return mp.matrix(exact(array).tolist())


def norm(value):
    """Frobenius norm."""
    return mp.sqrt(sum(abs(x) ** 2 for x in value))


@digits
def inner(x, y):
    """Frobenius inner product."""
    return sum(p * q for p, q in zip(x, y, strict=True))


@digits
def matrix_error(got, wanted):
    """Frobenius norm of the difference, relative to that of the reference."""
    return float(norm(matrix(got) - wanted) / norm(wanted))


def power_of_symmetric(value, power):
    """Real power of a symmetric positive definite matrix."""
    eigenvalues, vectors = mp.eigsy(value)
    return vectors * mp.diag([x**power for x in eigenvalues]) * vectors.T


def svd(value):
    """Return U, the list of singular values, and V^T; equal singular values exactly equal.

    Values that agree to half the working precision differ by rounding, for matrices of doubles and
    differences of them with steps of 1e-30.
    """
    left, values, right_t = mp.svd_r(value)
    values = list(values)
    for i in range(1, len(values)):
        if values[i - 1] - values[i] < mp.mpf(10) ** (-mp.mp.dps // 2) * values[0]:
            values[i] = values[i - 1]
    return left, values, right_t


def in_frame(function, x, z, depth):
    """Weigh the entries of ``U^T Z V`` by a function of the pair of singular values of X."""
    left, s, right_t = svd(x)
    inner = left.T * z * right_t.T
    for i in range(x.rows):
        for j in range(x.rows):
            inner[i, j] *= function(s[i], s[j], depth)
    return left * inner * right_t


def cometric(x, covector, depth):
    """``A_X(P)`` at real depths, from the singular value decomposition."""
    return in_frame(a, x, covector, depth)


def metric(x, tangent_vec, depth):
    """``A_X^{-1}(Z)`` at real depths, from the singular value decomposition."""
    return in_frame(lambda s_i, s_j, depth: 1 / a(s_i, s_j, depth), x, tangent_vec, depth)


def root_quadratic(t, z, depth, sign):
    """``sum S^2 kappa^sign + K^2 kappa^-sign``: 1 for g_T of a velocity, -1 for the cometric."""
    left, roots, right_t = svd(t)
    inner = left.T * z * right_t.T
    total = mp.mpf(0)
    for i in range(t.rows):
        for j in range(t.rows):
            even, odd = (inner[i, j] + inner[j, i]) / 2, (inner[i, j] - inner[j, i]) / 2
            weight = kappa_of(mp.log(roots[i] / roots[j]) / 2, depth) ** sign
            total += even**2 * weight + odd**2 / weight
    return total


STEP = mp.mpf("1e-30")


def derivative(function, matrix, direction):
    """Directional derivative, by a forward difference: about 30 digits."""
    step = STEP * norm(matrix)
    return (function(matrix + step * direction) - function(matrix)) / step


def gradient(function, matrix):
    """Euclidean gradient of a function of a square matrix, by forward differences."""
    n, step = matrix.rows, STEP * norm(matrix)
    value, found = function(matrix), mp.zeros(n)
    for i in range(n):
        for j in range(n):
            moved = matrix.copy()
            moved[i, j] += step
            found[i, j] = (function(moved) - value) / step
    return found


def literal_cometric(x, depth):
    """Matrix of ``A_X = sum_p (XX^T)^((N-p)/N) P (X^TX)^((p-1)/N)``, row-major, integer N."""
    n = x.rows
    roots = [power_of_symmetric(y, 1 / mp.mpf(depth)) for y in (x * x.T, x.T * x)]
    total = mp.zeros(n * n)
    for p in range(1, depth + 1):
        left, right = roots[0] ** (depth - p), roots[1] ** (p - 1)
        for i in range(n):
            for j in range(n):
                for k in range(n):
                    for m in range(n):
                        total[i * n + j, k * n + m] += left[i, k] * right[m, j]
    return total


def vector(value):
    """Row-major vector of a matrix."""
    return mp.matrix([value[i, j] for i in range(value.rows) for j in range(value.cols)])


def unvector(value, n):
    """Square matrix of a row-major vector."""
    return mp.matrix([[value[i * n + j] for j in range(n)] for i in range(n)])
