"""Parallel transport by other ways: through the layers, around a small square, and by ladders."""

import itertools
import math

import numpy as np
import pytest
from geomstats_cases import LONG, run_long_transport
from numpy.testing import assert_allclose
from scipy.integrate import solve_ivp

from dln_manifolds import BalancedManifold, DLNObservableManifold
from dln_manifolds.geometry.second_fundamental_form import (
    integrability,
    second_fundamental_form,
)


@pytest.mark.parametrize(
    ("widths", "rank"), [((3, 3, 3), 3), ((2, 2, 2, 2), 2), ((3, 2, 3), 2), ((2, 4, 3), 1)]
)
def test_horizontal_lifts_are_carried_along(widths, rank):
    """Upstairs ``y' = II(W', y) + A_W' y`` for the horizontal lift y, A O'Neill's tensor."""
    total = BalancedManifold(widths=widths, rank=rank)
    space = DLNObservableManifold(widths=widths, rank=rank)
    point = total.random_point()
    x = total.end_to_end(point)
    z, v = 0.3 * space.metric.random_unit_tangent_vec(x, 2)
    start = [point, *(total.horizontal_lift(u, point) for u in (z, v))]

    def rates(_, flat):
        w, velocity, y = flat.reshape(3, *point.shape)
        frame = total.stratum.frame(w)
        bent = [second_fundamental_form(frame, velocity, u) for u in (velocity, y)]
        return np.stack([velocity, bent[0], bent[1] + integrability(frame, velocity, y)]).ravel()

    found = solve_ivp(rates, (0, 1), np.ravel(start), method="DOP853", rtol=1e-12, atol=1e-13)
    end, _, y = found.y[:, -1].reshape(3, *point.shape)
    below = total.end_to_end(end)
    assert_allclose(below, space.metric.exp(z, x), rtol=0, atol=1e-10)
    assert_allclose(total.horizontal_projection(y, end), y, rtol=0, atol=1e-10)
    moved = space.metric.parallel_transport(v, x, direction=z)
    assert_allclose(total.push_forward(y, end), moved, rtol=0, atol=1e-10 * np.abs(moved).max())


def around(space, x, a, b, v, step):
    """Carry a vector around ``X, X + a, X + a + b, X + b``, times the step, on geodesics."""
    corners = [x, x + step * a, x + step * (a + b), x + step * b, x]
    for start, end in itertools.pairwise(corners):
        v = space.metric.parallel_transport(v, start, end_point=end)
    return v


@pytest.mark.parametrize("depth", [1.5, 3, math.inf])
def test_holonomy_of_a_small_square_is_the_curvature(depth):
    space = DLNObservableManifold(n=2, depth=depth)
    x = space.random_point()
    a, b, v = 0.5 * space.metric.random_unit_tangent_vec(x, 3)
    wanted = -space.metric.curvature(a, b, v, x)
    errors = []
    for step in (0.04, 0.02):
        # Of both senses of direction, the term of the third order cancels.
        moved = [around(space, x, sign * a, sign * b, v, step) for sign in (1, -1)]
        errors.append(space.metric.norm((np.mean(moved, axis=0) - v) / step**2 - wanted, x))
    assert errors[1] < 2e-3 * space.metric.norm(wanted, x)
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(
    ("scheme", "alpha", "order"), [("schild", 1, 1), ("schild", 2, 2), ("pole", 2, 2)]
)
def test_ladders_converge_at_their_order(scheme, alpha, order):
    space = DLNObservableManifold(n=3, depth=3)
    x = np.diag([2.0, 1.0, 0.5])
    d, v = space.metric.random_unit_tangent_vec(x, 2)
    exact = space.metric.parallel_transport(0.1 * v, x, direction=0.4 * d)
    rungs, errors = (4, 8, 16), []
    for count in rungs:
        ladder = space.metric.ladder_parallel_transport(
            0.1 * v, x, 0.4 * d, n_rungs=count, scheme=scheme, alpha=alpha
        )
        errors.append(space.metric.norm(ladder["transported_tangent_vec"] - exact, x))
    assert np.log2(errors[1] / errors[2]) == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize("how", ["ivp", "bvp"])
@pytest.mark.parametrize("kind", LONG)
def test_long_vectors_keep_their_lengths(kind, how):
    run_long_transport(kind, how)
