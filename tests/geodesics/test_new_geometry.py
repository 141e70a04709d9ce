"""A geometry of 120 lines gets everything from the solvers: the sphere, against closed forms."""

from pathlib import Path

import numpy as np
import pytest
from sphere import Sphere, dot, tangent

from dln_manifolds.geodesics import (
    Points,
    exp_pullback,
    log_pullback,
    parallel_transport,
    solve_exp,
    solve_log,
    squared_length_gradients,
)

TOLERANCE, COUNT, DIMENSION = 1e-13, 12, 4
EVERYONE = np.arange(COUNT)


@pytest.fixture
def points():
    rng = np.random.default_rng(0)
    start, end = rng.normal(size=(2, COUNT, DIMENSION))
    start, end = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (start, end))
    return start, end, tangent(start, rng.normal(size=start.shape)), rng


def exp(x, v):
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    return np.cos(length) * x + np.sin(length) / length * v


def log(x, y):
    normal = tangent(x, y)
    size = np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.arctan2(size, dot(x, y)) * normal / size


def solve(x, *, velocity=None, end=None):
    system, start = Sphere(), Points(x, None)
    if end is None:
        return solve_exp(system, start, velocity, tolerance=TOLERANCE)
    return solve_log(system, start, Points(end, None), tolerance=TOLERANCE)


def differences(function, value, direction, step=1e-3):
    """Central differences of order 8 along a direction."""
    weights = np.array([4 / 5, -1 / 5, 4 / 105, -1 / 280])
    return (
        sum(
            w * (function(value + k * step * direction) - function(value - k * step * direction))
            for k, w in enumerate(weights, 1)
        )
        / step
    )


def test_it_takes_120_lines():
    source = Path(__file__).with_name("sphere.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) < 120


def test_exp_and_curve(points):
    x, _, v, _ = points
    solution = solve(x, velocity=v)
    assert solution.success.all()
    np.testing.assert_allclose(solution.end_point, exp(x, v), rtol=0, atol=1e-11)
    np.testing.assert_allclose(solution.length, np.linalg.norm(v, axis=1), rtol=1e-13)
    times = np.array([-0.5, 0.0, 0.3, 1.0, 1.7])
    curve = np.stack([exp(x, t * v) if t else x for t in times], axis=1)
    np.testing.assert_allclose(solution(times), curve, rtol=0, atol=1e-11)


def test_log(points):
    x, y, _, _ = points
    solution = solve(x, end=y)
    assert solution.success.all(), solution.message
    np.testing.assert_allclose(solution.initial_velocity, log(x, y), rtol=0, atol=1e-10)
    np.testing.assert_allclose(solution.length, np.linalg.norm(log(x, y), axis=1), rtol=1e-11)
    assert (solution.lower_bound <= solution.length).all()
    np.testing.assert_allclose(solution([0.5])[:, 0], exp(x, 0.5 * log(x, y)), rtol=0, atol=1e-10)
    assert (solve(x, end=x).length == 0).all()


@pytest.mark.parametrize("k", [1, 2, 3])
def test_transport(k, points):
    x, _, v, rng = points
    vectors = tangent(x[:, None], rng.normal(size=(COUNT, k, DIMENSION)))
    moved, solution = parallel_transport(Sphere(), Points(x, None), v, vectors, tolerance=TOLERANCE)
    assert solution.success.all()
    length = np.linalg.norm(v, axis=1)[:, None, None]
    unit = v[:, None] / length
    # Only the part along the geodesic turns.
    turned = (np.cos(length) - 1) * unit - np.sin(length) * x[:, None]
    np.testing.assert_allclose(moved, vectors + dot(vectors, unit) * turned, rtol=0, atol=1e-11)


def test_derivatives_of_exp(points):
    """Against differences of the closed form, along curves with the velocity projected."""
    x, _, v, rng = points
    c = rng.normal(size=x.shape)
    by_point, by_vector = exp_pullback(solve(x, velocity=v), EVERYONE, c)
    dx, dv = (tangent(x, rng.normal(size=x.shape)) for _ in range(2))

    def moved(h):
        there = (x + h * dx) / np.linalg.norm(x + h * dx, axis=1, keepdims=True)
        return exp(there, tangent(there, v))

    along = differences(moved, 0.0, 1.0)
    np.testing.assert_allclose(dot(by_point, dx), dot(c, along), rtol=0, atol=1e-10)
    along = differences(lambda h: exp(x, v + h * dv), 0.0, 1.0)
    np.testing.assert_allclose(dot(by_vector, dv), dot(c, along), rtol=0, atol=1e-10)


def test_derivatives_of_log_and_distance(points):
    x, y, _, rng = points
    c = rng.normal(size=x.shape)
    solution = solve(x, end=y)
    by_point, by_end = log_pullback(solution, EVERYONE, c)
    first, last = squared_length_gradients(solution, EVERYONE)
    np.testing.assert_allclose(first, -2 * log(x, y), rtol=0, atol=1e-10)
    np.testing.assert_allclose(last, -2 * log(y, x), rtol=0, atol=1e-10)
    for gradient, place in ((by_point, 0), (by_end, 1)):
        direction = tangent((x, y)[place], rng.normal(size=x.shape))

        def moved(h, place=place, direction=direction):
            ends = [x, y]
            ends[place] = ends[place] + h * direction
            return log(*(e / np.linalg.norm(e, axis=1, keepdims=True) for e in ends))

        along = differences(moved, 0.0, 1.0)
        np.testing.assert_allclose(dot(gradient, direction), dot(c, along), rtol=0, atol=1e-9)
