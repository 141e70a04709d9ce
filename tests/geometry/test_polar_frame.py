"""Between matrices and the polar chart, and the cone law there: inverses, pairings, differences."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dln_manifolds import DLNObservableManifold
from dln_manifolds.geodesics import ObservableSystem, Points, solve_exp, solve_log
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import apply_metric, inner_product
from dln_manifolds.geometry.polar_flow import Layout
from dln_manifolds.geometry.polar_frame import PolarFrame, gauged
from dln_manifolds.geometry.rank import weingarten

CASES = [
    ((3, 3), 3, 1.5),
    ((3, 3), 3, 4),
    ((3, 3), 3, 1e6),
    ((3, 3), 3, np.inf),
    ((4, 3), 3, 2),
    ((4, 5), 2, 30),
    ((5, 2), 1, 3),
]


@pytest.fixture(params=CASES, ids=str)
def case(request):
    """A layout, matrices, and a source of numbers."""
    shape, rank, depth = request.param
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(4, shape[0], rank)), rng.normal(size=(4, rank, shape[1]))
    return Layout(shape, rank, depth), factors[0] @ factors[1], rng


def frames(layout, points):
    """The frame of points of size one, in a gauge of its own, and mu."""
    made, scale = PolarFrame.of_matrices(Frame.of_point(points, layout.depth, layout.rank), layout)
    gauge = np.linalg.qr(np.random.default_rng(1).normal(size=(4, layout.rank, layout.rank)))[0]
    core, left, right = layout.split(made.position)
    turned = layout.stacked(gauge.swapaxes(1, 2) @ core @ gauge, left @ gauge, right @ gauge)
    return made, PolarFrame.of_positions(turned, layout), scale


def tangent(layout, points, rng):
    frame = Frame.of_point(points, layout.depth, layout.rank)
    return frame.assemble(frame.blocks(rng.normal(size=points.shape)))


def test_points_come_back(case):
    layout, points, _ = case
    for frame in frames(layout, points)[:2]:
        assert_allclose(frame.points(frames(layout, points)[2]), points, rtol=0, atol=1e-13 * 30)
        if layout.depth < np.inf:
            assert_allclose((frame.roots**2).mean(axis=1), 1, rtol=1e-14)
        else:
            assert_allclose(frame.stretch.mean(axis=1), 0, atol=1e-14)


def test_velocities_and_covectors(case):
    layout, points, rng = case
    _, frame, scale = frames(layout, points)
    unit = points / np.exp(scale)[:, None, None]
    z, p = tangent(layout, points, rng), tangent(layout, points, rng)
    body, covector = frame.body(z), frame.covector(p)
    assert_allclose(frame.velocity(body), z, atol=1e-12 * np.abs(z).max())
    assert_allclose(frame.gradient(covector), p, atol=1e-12 * np.abs(p).max())
    # <P, X'> in both charts, and the metric N g_N
    assert_allclose((body * covector).sum((1, 2)), (z * p).sum((1, 2)), rtol=1e-11, atol=1e-11)
    factor = layout.depth if layout.depth < np.inf else 1.0
    wanted = factor * inner_product(Frame.of_point(unit, layout.depth, layout.rank), z, z)
    assert_allclose((body * frame.lowered(body)).sum((1, 2)), wanted, rtol=1e-10)
    assert_allclose(frame.raised(frame.lowered(body)), body, atol=1e-12 * np.abs(body).max())


def test_basis_of_covectors(case):
    layout, points, _ = case
    _, frame, _ = frames(layout, points)
    basis = frame.covector_basis()
    dim = (sum(layout.shape) - layout.rank) * layout.rank
    assert basis.shape == (4, dim, layout.rows, layout.rank)
    flat = basis.reshape(4, dim, -1)
    assert_allclose(
        flat @ flat.swapaxes(1, 2), np.broadcast_to(np.eye(dim), (4, dim, dim)), atol=1e-13
    )


def test_momenta_of_nearby_points_in_both_charts(case):
    """``pulled``: the change of the momentum that matrices see, by differences."""
    layout, points, rng = case
    made, _, scale = frames(layout, points)
    unit = points / np.exp(scale)[:, None, None]
    velocity = tangent(layout, points, rng)
    state = np.stack([made.position, made.lowered(made.body(velocity))], axis=1)
    field, change = 0.1 * rng.normal(size=(2, 4, layout.rows, layout.rank))
    field[:, : layout.rank] += field[:, : layout.rank].swapaxes(1, 2).copy()
    if layout.full:
        change[:, layout.rank :] = 0
    # variations that keep frames orthonormal and momenta beside them
    _, *moved = layout.split(field)
    frames_now = layout.split(state[:, 0])[1:]
    skew = rng.normal(size=(2, 4, layout.rank, layout.rank))
    for e, de, turn in zip(frames_now, moved, skew, strict=True):
        de -= e @ (e.swapaxes(1, 2) @ de)
        if layout.full or e.shape[1] == layout.rank:
            de[...] = 0
        de += e @ (turn - turn.swapaxes(1, 2))
    body, fixed = gauged(layout, state, field[:, None], change[:, None])
    got = made.gradient(made.pulled(state[:, 1], body[:, 0], fixed[:, 0]))

    def momentum(t):
        """P and X after a step along the variation."""
        moved = np.stack([state[:, 0] + t * field, state[:, 1] + t * change], axis=1)
        position, momentum = layout.project(moved[:, :, None])[:, :, 0].swapaxes(0, 1)
        frame = PolarFrame.of_positions(position, layout)
        return frame.gradient(momentum), frame.points(np.zeros(4))

    h = 1e-4
    ends = [momentum(sign * h) for sign in (1, -1)]
    slope = [(a - b) / (2 * h) for a, b in zip(*ends, strict=True)]
    frame = Frame.of_point(unit, layout.depth, layout.rank)
    by_point = frame.assemble(frame.blocks(slope[0]))
    assert_allclose(got, by_point, atol=1e-5 * np.abs(by_point).max())
    assert_allclose(made.velocity(body[:, 0]), slope[1], atol=1e-5 * np.abs(slope[1]).max())


def test_weingarten_map_is_the_adjoint_of_the_second_fundamental_form(case):
    layout, points, rng = case
    frame = Frame.of_point(points, layout.depth, layout.rank)
    z, other, normal = (rng.normal(size=points.shape) for _ in range(3))
    z, other = (frame.assemble(frame.blocks(v)) for v in (z, other))
    inverse = np.linalg.pinv(points, rcond=1e-10)
    inside = frame.assemble(frame.blocks(normal))
    bent = z @ inverse @ other + other @ inverse @ z
    wanted = np.einsum("bij,bij->b", normal - inside, bent)
    got = np.einsum("bij,bij->b", weingarten(frame, z, normal), other)
    assert_allclose(got, wanted, atol=1e-9 * np.abs(bent).max())


@pytest.mark.parametrize(("shape", "rank", "depth"), CASES)
@pytest.mark.parametrize("ratio", [1.0, 30.0, 1e-4])
def test_cone_law_is_that_of_the_flow(shape, rank, depth, ratio):
    """Geodesics between points of different sizes: their initial rates alone lead there."""
    layout, rng = Layout(shape, rank, depth), np.random.default_rng(3)
    system = ObservableSystem(depth, shape, rank)
    points = rng.normal(size=(2, shape[0], rank)) @ rng.normal(size=(2, rank, shape[1]))
    if layout.full and np.linalg.det(points).prod() < 0:
        points[1, 0] *= -1
    first, last = (Points(x[None], Frame.of_point(x[None], depth, rank)) for x in points)
    last = Points(ratio * last.value, last.frame.scaled(np.array([ratio])))
    solution = solve_log(system, first, last, tolerance=1e-13)
    followed = solve_exp(system, first, solution.initial_velocity, tolerance=1e-13)
    assert_allclose(followed.end_point, last.value, atol=1e-9 * np.abs(last.value).max())
    assert_allclose(followed.length, solution.length, rtol=1e-11)
    times = np.array([0.2, 0.7])
    assert_allclose(solution(times), followed(times), atol=1e-9 * np.abs(points).max())


def test_momentum_of_the_metric(case):
    layout, points, rng = case
    made, _, scale = frames(layout, points)
    frame = Frame.of_point(points / np.exp(scale)[:, None, None], layout.depth, layout.rank)
    z = tangent(layout, points, rng)
    factor = layout.depth if layout.depth < np.inf else 1.0
    wanted = factor * apply_metric(frame, z)
    got = made.gradient(made.lowered(made.body(z)))
    assert_allclose(got, wanted, atol=1e-10 * np.abs(wanted).max())


@pytest.mark.parametrize("depth", [1.5, 4, 1e6, np.inf])
@pytest.mark.parametrize("power", [-900, 0, 900])
def test_distances_of_close_points_of_any_size(depth, power):
    # d(cX, cY) = c^(1/N) d(X, Y). The logarithms of sizes have an absolute error of 1e-13.
    rng = np.random.default_rng(0)
    X = np.eye(3) + 0.3 * rng.normal(size=(3, 3))
    Y = X + 1e-8 * rng.normal(size=(3, 3))
    metric = DLNObservableManifold(3, depth).metric
    found = metric.dist(np.ldexp(X, power), np.ldexp(Y, power))
    growth = 2.0 ** (power / depth)
    # Rounding of the entries of X beside 1e-8.
    assert_allclose(found, growth * metric.dist(X, Y), rtol=1e-7)
