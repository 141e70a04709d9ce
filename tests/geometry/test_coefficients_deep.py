"""Coefficients of the metric beside the core, at great and at infinite depth, against mpmath."""

import itertools
import math

import mpmath as mp
import numpy as np
import pytest
import spectral_reference as ref
from spectral_matrices import singular_value_triples
from spectral_reference import BOUND, DEPTHS, check_table, table

from dln_manifolds.geometry import coefficients as co

S = singular_value_triples()
S = S[(S[:, 0] < 1e40) & (S[:, 2] > 1e-40)]
ROW, COLUMN = np.array([0, 0, 1, 1]), np.array([1, 2, 2, 1])
PAIRS = S[:, ROW], S[:, COLUMN]
CASES = np.stack(PAIRS, axis=-1)
TRIPLES = np.array(list(itertools.combinations_with_replacement(range(3), 3)))


def pairs(matrix):
    return matrix[:, ROW, COLUMN]


def limit_of_a(x, y, _):
    return x * x if x == y else (x * x - y * y) / (2 * mp.log(x / y))


def limit_of_derivative(x, y, _):
    tau = mp.log(x / y)
    return mp.mpf(1) if tau == 0 else 1 + mp.coth(tau) - 1 / tau


def limit_of_second_derivative(x, y, _):
    tau = mp.log(x / y)
    return mp.mpf(1) / 3 if tau == 0 else 1 / tau**2 - 1 / mp.sinh(tau) ** 2


def limit_of_second_difference(x, y, z, _):
    return ref._second_difference(mp.exp, mp.exp, mp.exp, *(2 * mp.log(s) for s in (x, y, z)))


def side_difference(x, y, depth):
    x, y = (ref.root(s, depth) ** 2 for s in (x, y))
    if x == y:
        return (depth - 1) * x ** (depth - 2)
    return (x ** (depth - 1) - y ** (depth - 1)) / (x - y)


def test_limits_of_infinite_depth():
    tau, inf = co.log_ratio(S), math.inf
    check_table(pairs(co.a(S, inf)), table(limit_of_a, *PAIRS, depth=1), BOUND, cases=CASES)
    wanted = table(lambda *x: mp.log(limit_of_a(*x)), *PAIRS, depth=1)
    scale = table(lambda x, y, _: 1 + abs(mp.log(x)) + abs(mp.log(y)), *PAIRS, depth=1)
    check_table(pairs(co.log_a(S, inf)), wanted, BOUND, scale, CASES)
    for sign in (1, -1):
        wanted = table(limit_of_derivative, *PAIRS[::sign], depth=1)
        got = pairs(co.log_a_derivative(sign * tau, inf))
        check_table(got, wanted, BOUND, cases=CASES)
    wanted = table(limit_of_second_derivative, *PAIRS, depth=1)
    check_table(pairs(co.log_a_second_derivative(tau, inf)), wanted, BOUND, cases=CASES)


def test_limit_of_second_differences():
    values = S[:, TRIPLES].reshape(-1, 3)
    wanted = table(limit_of_second_difference, *values.T, depth=1)
    got = co.a_second_difference(S, math.inf, TRIPLES).ravel()
    check_table(got, wanted, BOUND, cases=values)


@pytest.mark.parametrize("depth", [1e4, 1e6])
def test_great_depths(depth):
    check_table(pairs(co.a(S, depth)), table(ref.a, *PAIRS, depth=depth), BOUND, cases=CASES)
    wanted, scale = (table(f, *PAIRS, depth=depth) for f in (ref.log_a, ref.log_a_terms))
    check_table(pairs(co.log_a(S, depth)), wanted, BOUND, scale, CASES)
    tau = co.log_ratio(S)
    for sign in (1, -1):
        wanted = table(ref.log_a_derivative, *PAIRS[::sign], depth=depth)
        got = pairs(co.log_a_derivative(sign * tau, depth))
        check_table(got, wanted, BOUND, cases=CASES)
    values = S[:, TRIPLES].reshape(-1, 3)
    wanted = table(ref.a_second_difference, *values.T, depth=depth)
    got = co.a_second_difference(S, depth, TRIPLES).ravel()
    check_table(got, wanted, BOUND, cases=values)


@pytest.mark.parametrize("depth", [*DEPTHS, 1.01, 1e4, 1e6])
def test_differences_beside_the_core(depth):
    got = pairs(co.a_side_difference(S, depth))
    wanted = table(side_difference, *PAIRS, depth=depth)
    check_table(got, wanted, BOUND, cases=CASES)
    sides = co.a_side(S, depth)
    check_table(sides, table(lambda s, n: s ** (2 - 2 / n), S, depth=depth), BOUND)
