"""Bases that are turned to face each other."""

import numpy as np
import pytest
from spectral_reference import check

from dln_manifolds.geometry.facing import (
    common_bases,
    facing,
    is_steep,
    signed_polar,
    skew_logarithm,
)
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.polar_flow import Layout
from dln_manifolds.numerics.matrices import rotation, rotations, transpose

SIZES = [(1, 1), (2, 1), (5, 2), (3, 2), (4, 4), (9, 3)]


def bases(m, r, count=3, seed=0, spread=10.0):
    rng = np.random.default_rng([m, r, seed])
    first, last = rng.standard_normal((2, count, m, r))
    return np.linalg.qr(np.stack([first, first + spread * last]))[0]


@pytest.mark.parametrize(("m", "r"), SIZES)
@pytest.mark.parametrize("same", [False, True])
def test_common_bases_hold_both(m, r, same):
    first, last = bases(m, r)
    last = first @ rotations(np.random.default_rng(0).standard_normal((3, r, r))) if same else last
    basis = common_bases(first, last)
    k = min(m, 2 * r)
    assert basis.shape == (3, m, k)
    np.testing.assert_array_equal(basis[..., :r], first)
    check(np.abs(transpose(basis) @ basis - np.eye(k)), 1e-14)
    check(np.abs(basis @ (transpose(basis) @ last) - last), 1e-14)


@pytest.mark.parametrize(("m", "n", "r"), [(5, 4, 2), (4, 4, 1), (6, 3, 3), (3, 6, 3), (3, 3, 2)])
def test_facing_turns_one_into_the_other(m, n, r):
    ends = [
        transpose(common_bases(first, last)) @ last
        for first, last in (bases(m, r, spread=0.5), bases(n, r, seed=1, spread=0.5))
    ]
    sign = None
    for end in ends:
        if end.shape[-2] == r:
            sign = np.linalg.slogdet(end)[0]
    turn = signed_polar(transpose(ends[0][:, :r] + ends[1][:, :r]), sign)
    frame = facing(*ends, turn)
    found = []
    for end, omega, turned in zip(ends, frame[:2], frame[2:], strict=True):
        np.testing.assert_array_equal(omega, -transpose(omega))
        check(np.abs(rotation(omega) - turned), 1e-14)
        found.append(transpose(end) @ turned[..., :r])
        # the principal logarithm is known to 1e-6
        check(np.abs(end @ found[-1] - turned[..., :r]), 1e-5)
        assert np.abs(omega[..., r:, r:]).max(initial=0) < 1e-3
    check(np.abs(found[0] - found[1]), 1e-5)
    shared = frame.left[..., :r, :r] + frame.right[..., :r, :r]
    check(np.abs(shared), 1e-3)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_skew_logarithm(n):
    turn = rotations(np.random.default_rng(n).standard_normal((5, n, n)))
    check(np.abs(rotation(skew_logarithm(turn)) - turn), 1e-5)


@pytest.mark.parametrize(
    ("n", "ratio", "searched"),
    [
        (3, 9e-4, True),
        (3, 1.1e-3, False),
        (32, 9e-4, False),
        (32, 2.6e-4, False),
        (32, 2.4e-4, True),
    ],
)
def test_wide_matrices_are_nearly_singular_at_smaller_ratios(n, ratio, searched):
    """The bound of the product of both ratios: 1e-6, and 1e-6 (8 / 32)^2 for 32 rows."""
    point, half_turn = np.eye(n), np.eye(n)
    point[-1, -1] = ratio
    half_turn[0, 0] = half_turn[1, 1] = -1
    ends = [Frame.of_point(x[None], 4.0) for x in (point, point @ half_turn)]
    np.testing.assert_array_equal(is_steep(*ends, Layout((n, n), n, 4.0)), searched)
    ends[1] = ends[0]
    np.testing.assert_array_equal(is_steep(*ends, Layout((n, n), n, 4.0)), False)
