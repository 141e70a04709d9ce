"""Coefficients of the metric as functions of given singular values, against mpmath."""

import itertools

import numpy as np
import pytest
import spectral_reference as ref
from spectral_matrices import singular_value_triples
from spectral_reference import BOUND, DEPTHS, EPS, check, check_table, table

from dln_manifolds.geometry import coefficients as co
from dln_manifolds.geometry.frame import Frame

S = singular_value_triples()
# Each unordered pair once, and one diagonal entry; exact symmetry is a test of its own.
ROW, COLUMN = np.array([0, 0, 1, 1]), np.array([1, 2, 2, 1])
PAIRS = S[:, ROW], S[:, COLUMN]
PAIR_CASES = np.stack(PAIRS, axis=-1)


def frame_of(values, depth):
    """A frame with given singular values and no rotation."""
    identity = np.broadcast_to(np.eye(values.shape[-1]), (*values.shape, values.shape[-1]))
    return Frame(identity, values, identity, depth, 1.0)


def u_of(depth):
    return frame_of(S, depth).half_log_ratio


def pairs(matrix):
    return matrix[:, ROW, COLUMN]


def test_the_cases_cover_what_is_asked_for():
    top, middle, low = S.T
    close = (top - middle) / middle
    assert close[close > 0].min() < 2.3e-16
    assert (top == low).any()
    assert (top / low).max() >= 1e12
    assert S.min() <= 1e-100
    assert S.max() >= 1e100
    assert ((top > middle) & (top * low == middle**2)).any()


@pytest.mark.parametrize("depth", DEPTHS)
def test_half_log_ratio(depth):
    wanted = table(ref.half_log_ratio, *PAIRS, depth=depth)
    check_table(pairs(u_of(depth)), wanted, BOUND, cases=PAIR_CASES)


@pytest.mark.parametrize("depth", DEPTHS)
def test_a(depth):
    check_table(pairs(co.a(S, depth)), table(ref.a, *PAIRS, depth=depth), BOUND, cases=PAIR_CASES)


@pytest.mark.parametrize("depth", DEPTHS)
def test_log_a(depth):
    # log a passes through zero: relative to the sum of the absolute values of its terms
    wanted, scale = (table(f, *PAIRS, depth=depth) for f in (ref.log_a, ref.log_a_terms))
    check_table(pairs(co.log_a(S, depth)), wanted, BOUND, scale, PAIR_CASES)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("order", [1, -1], ids=["larger first", "smaller first"])
def test_log_a_derivative(depth, order):
    got = co.log_a_derivative(2 * depth * u_of(depth), depth)
    got = pairs(got if order == 1 else np.swapaxes(got, -1, -2))
    wanted = table(ref.log_a_derivative, *PAIRS[::order], depth=depth)
    check_table(got, wanted, BOUND, cases=PAIR_CASES)


@pytest.mark.parametrize("depth", DEPTHS)
def test_kappa(depth):
    wanted = table(ref.kappa, *PAIRS, depth=depth)
    check_table(pairs(co.kappa(u_of(depth), depth)), wanted, BOUND, cases=PAIR_CASES)


@pytest.mark.parametrize("depth", DEPTHS)
def test_log_kappa_derivative(depth):
    u = u_of(depth)
    excess = np.where(u == 0, 1e-20, np.expm1(2 * np.abs(u)))
    half_log, kappa, slope = co.pair_coefficients(excess, depth)
    check(np.abs(half_log - np.abs(u)), BOUND * np.abs(u) + 1e-20)
    check(np.abs(kappa / co.kappa(u, depth) - 1), BOUND)
    got = pairs(np.sign(u) * slope)
    wanted = table(ref.log_kappa_derivative, *PAIRS, depth=depth)
    check_table(got, wanted, BOUND, cases=PAIR_CASES)


@pytest.mark.parametrize("depth", DEPTHS)
def test_log_kappa_second_derivative(depth):
    # It changes sign: relative to the sum of the absolute values of its terms, from which the
    # common pole at u = 0 is taken out. Plainly relative where all terms have one sign.
    got = pairs(co.log_kappa_second_derivative(u_of(depth), depth))
    wanted, scale = (
        table(f, *PAIRS, depth=depth)
        for f in (ref.log_kappa_second_derivative, ref.log_kappa_second_derivative_terms)
    )
    scale = np.where(np.abs(u_of(depth))[:, ROW, COLUMN] * 2 * depth < 1, wanted, scale)
    check_table(got, wanted, BOUND, scale, PAIR_CASES)


def slope_cases(depth):
    """Two values of |u| and their gap for every pair ij and third index k of every triple."""
    u = u_of(depth)
    found = []
    for i, j, k in [(0, 1, 2), (1, 2, 0), (0, 2, 1), (0, 1, 0), (0, 1, 1), (0, 2, 2)]:
        ends = np.abs(u[:, i, k]), np.abs(u[:, j, k])
        outer, inner = np.maximum(*ends), np.minimum(*ends)
        # The gap is |u_ij| itself unless k lies between i and j.
        gap = outer - inner if i < k < j else np.abs(u[:, i, j])
        found.append((outer, inner, gap, S[:, [i, j, k]]))
    return [np.concatenate(part) for part in zip(*found, strict=True)]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("part", [0, 1], ids=["c", "e"])
def test_cometric_slopes(depth, part):
    *arguments, values = slope_cases(depth)
    got = co.cometric_slopes(*arguments, depth)[part]
    wanted = table((ref.slope_c, ref.slope_e)[part], *values.T, depth=depth)
    check_table(got, wanted, BOUND, cases=values)


TRIPLES = np.array(list(itertools.combinations_with_replacement(range(3), 3)))


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_second_difference(depth):
    # It vanishes at N = 1: there relative to its derivative by N
    got = co.a_second_difference(S, depth, TRIPLES).ravel()
    values = S[:, TRIPLES].reshape(-1, 3)
    wanted = table(ref.a_second_difference, *values.T, depth=depth)
    scale = table(ref.a_second_difference_scale, *values.T, depth=depth)
    check_table(got, wanted, BOUND, scale, values)


@pytest.mark.parametrize("depth", DEPTHS)
def test_pairs_are_exactly_symmetric(depth):
    tau, u = co.log_ratio(S), u_of(depth)
    assert np.array_equal(tau, -np.swapaxes(tau, -1, -2))
    even = {
        "a": co.a(S, depth),
        "log_a": co.log_a(S, depth),
        "kappa": co.kappa(u, depth),
        "log_kappa_second_derivative": co.log_kappa_second_derivative(u, depth),
    }
    for name, value in even.items():
        assert np.array_equal(value, np.swapaxes(value, -1, -2)), name


@pytest.mark.parametrize("depth", DEPTHS)
def test_kappa_lies_between_1_and_the_depth(depth):
    # up to the rounding of one quotient
    u = np.concatenate([[0.0], np.geomspace(1e-300, 1e300, 1201)])
    value = co.kappa(u, depth)
    check(value - depth, 4 * EPS * depth)
    check(1 - value, 4 * EPS)
    check(np.diff(value), 4 * EPS * depth)


@pytest.mark.parametrize("depth", [*DEPTHS, 1000])
def test_coefficients_are_finite_for_any_ratio(depth):
    s = np.array([1e150, 1.0, 1e-150])
    u = frame_of(s, depth).half_log_ratio
    values = {
        "log_ratio": co.log_ratio(np.array([1e300, 1.0, 1e-300])),
        "log_a": co.log_a(s, depth),
        "log_a_derivative": co.log_a_derivative(2 * depth * u, depth),
        "pair_coefficients": co.pair_coefficients(np.array([1e-20, 1.0, 1e290]), depth),
        "log_kappa_second_derivative": co.log_kappa_second_derivative(u, depth),
        "cometric_slopes": co.cometric_slopes(np.abs(u), 0 * u, np.abs(u), depth),
    }
    for name, value in values.items():
        assert np.isfinite(value).all(), name


@pytest.mark.parametrize("depth", [*DEPTHS, 1000, 1e6])
def test_second_differences_are_finite_at_any_depth(depth):
    s = np.array([1e6, 1.0 + EPS, 1.0, 1e-6])
    triples = np.array(list(itertools.combinations_with_replacement(range(4), 3)))
    assert np.isfinite(co.a_second_difference(s, depth, triples)).all()


def test_log_ratio_past_the_range_of_a_quotient():
    s = np.array([1e300, 1e-300, 5e-324])
    wanted = table(lambda x, y, _: ref.half_log_ratio(x, y, 0.5), s[:, None], s, depth=1)
    check_table(co.log_ratio(s), wanted, BOUND)
