"""Jacobi fields and the differential of exp: against differences, and by what they must obey."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dln_manifolds import BalancedManifold, DLNObservableManifold
from dln_manifolds.errors import (
    ConjugatePointsError,
    IncompleteGeodesicError,
    InvalidPointError,
)
from dln_manifolds.geodesics import Points, exp_adjoints

SPACES = {
    "N = 2": DLNObservableManifold(n=3, depth=2),
    "N = 8": DLNObservableManifold(n=2, depth=8),
    "N = 1.5": DLNObservableManifold(n=3, depth=1.5),
    "N = 2.5": DLNObservableManifold(n=3, depth=2.5),
    "infinite depth": DLNObservableManifold(n=3, depth=np.inf),
    "rank 2": DLNObservableManifold(shape=(4, 3), rank=2, depth=3),
    "flat": DLNObservableManifold(n=2, depth=1),
    "layers": BalancedManifold(n=2, depth=3),
    "layers of rank 2": BalancedManifold(widths=(3, 2, 4), rank=2),
}
# Central differences of order 8.
WEIGHTS = np.array([4 / 5, -1 / 5, 4 / 105, -1 / 280])


def differences(function, step=1e-2):
    return (
        sum(w * (function(k * step) - function(-k * step)) for k, w in enumerate(WEIGHTS, 1)) / step
    )


def problem(space, equal=False, count=3, seed=0):
    """Return a point, a velocity of a third of its size, and unit vectors there."""
    rng = np.random.default_rng(seed)
    if equal:
        point = 1.3 * np.eye(*space.stratum.shape)
        point[space.rank :] = 0
        point = space.factor(point) if isinstance(space, BalancedManifold) else point
    else:
        point = space.projection(rng.normal(size=space.shape))
    vectors = space.to_tangent(rng.normal(size=(count + 1, *space.shape)), point)
    vectors = space.metric.normalize(vectors, point)
    size = 1.0 if space.depth == np.inf else space.metric.norm(point, point) * space.depth
    if isinstance(space, BalancedManifold):
        size = np.linalg.norm(point)
    return point, 0.3 * size * vectors[0], vectors[1:]


@pytest.fixture(params=SPACES)
def space(request):
    return SPACES[request.param]


@pytest.mark.parametrize("equal", [False, True])
def test_adjoints_by_point_and_by_vector(space, equal):
    """``<J(1), u> = <J(0), A u> + <J'(0), B u>`` for any Jacobi field J."""
    metric, (x, z, w) = space.metric, problem(space, equal)
    y = metric.exp(z, x)
    u = space.to_tangent(np.random.default_rng(1).normal(size=(2, *space.shape)), y)
    start = Points(x[None], space.stratum.frame(x[None]))
    by_point, by_vector, solution = exp_adjoints(
        metric.system, start, z[None], u[None], tolerance=1e-13
    )
    assert solution.success.all()
    field = metric.jacobi_field(w[1], z, x, initial_value=w[0])
    expected = metric.inner_product(field, u, y)
    found = metric.inner_product(by_point[0], w[0], x) + metric.inner_product(by_vector[0], w[1], x)
    assert_allclose(found, expected, rtol=1e-10, atol=1e-11)
    assert_allclose(by_vector[0], metric.exp_adjoint(u, z, x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("equal", [False, True])
def test_differential_of_exp(space, equal):
    """Also where singular values coincide, against differences."""
    metric, (x, z, w) = space.metric, problem(space, equal)
    found = metric.jacobi_field(w, z, x)
    expected = differences(lambda h: metric.exp(z + h * w, x))
    assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_any_start(space):
    """Geodesics from points along another one, with velocities that turn against parallel ones."""
    metric, (x, z, (a, b, _)) = space.metric, problem(space)

    def moved(h):
        velocity = metric.parallel_transport(z + h * b, x, direction=h * a)
        return np.stack([metric.exp(t * velocity, metric.exp(h * a, x)) for t in (0.4, 1.0)])

    expected = differences(moved)
    found = metric.jacobi_field(b, z, x, a, t=[0.4, 0, 1])
    assert_allclose(found[[0, 2]], expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    assert_allclose(found[1], a, rtol=0, atol=1e-13)


@pytest.mark.parametrize("equal", [False, True])
def test_gauss_lemma(space, equal):
    metric, (x, z, w) = space.metric, problem(space, equal)
    fields, end = metric.jacobi_field(np.stack([z, *w]), z, x), metric.exp(z, x)
    before = metric.inner_product(z, w, x)
    after = metric.inner_product(fields[0], fields[1:], end)
    assert_allclose(after, before, rtol=0, atol=1e-11 * metric.norm(z, x))
    assert_allclose(metric.norm(fields[0], end), metric.norm(z, x), rtol=1e-11)


@pytest.mark.parametrize("equal", [False, True])
def test_adjoint_and_inverse(space, equal):
    metric, (x, z, w) = type(space.metric)(space, tolerance=1e-14), problem(space, equal)
    fields, end = metric.jacobi_field(w, z, x), metric.exp(z, x)
    u = metric.normalize(space.to_tangent(np.cos(np.arange(3 * z.size)).reshape(w.shape), end), end)
    there = metric.inner_product(fields[:, None], u, end)
    back = metric.inner_product(w[:, None], metric.exp_adjoint(u, z, x), x)
    assert_allclose(back, there, rtol=0, atol=1e-13 * metric.norm(fields, end).max())
    assert_allclose(metric.exp_inverse(fields, z, x), w, rtol=0, atol=1e-11 * np.abs(w).max())


def test_inverse_is_the_differential_of_log():
    space = DLNObservableManifold(n=3, depth=3)
    x, z, _ = problem(space)
    end, u = space.metric.exp(z, x), np.arange(9.0).reshape(3, 3) / 9
    expected = differences(lambda h: space.metric.log(end + h * u, x))
    assert_allclose(space.metric.exp_inverse(u, z, x), expected, rtol=0, atol=1e-9)


def test_no_inverse_at_a_conjugate_point():
    space = DLNObservableManifold(shape=(4, 4), rank=1, depth=3)
    x = np.outer([1.0, 0, 0, 0], [1.0, 0, 0, 0])
    z = np.outer([0, 1.0, 0, 0], [1.0, 0, 0, 0]) - 3 * x
    time = space.metric.conjugate_time(z, x)
    assert np.isfinite(time)
    with pytest.raises(ConjugatePointsError):
        space.metric.exp_inverse(x, time * z, x)
    solved = space.metric.solve_exp(time * z, x)
    assert solved.conjugate_time is None
    with pytest.raises(ValueError, match="conjugate_points=True"):
        solved.is_locally_minimizing  # noqa: B018


def test_logs_with_conjugate_points():
    space = DLNObservableManifold(n=3, depth=4)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 4, 3, 3))
    x, y = (a * np.sign(np.linalg.det(a))[:, None, None] for a in (x, y))
    solution = space.metric.solve_log(y, x, conjugate_points=True)
    assert solution.conjugate_time.shape == (4,)
    assert solution.is_locally_minimizing.all()
    assert solution.success.all()
    whole = space.metric.conjugate_time(solution.initial_velocity, x)
    assert (whole > 1).all()


def test_a_log_beyond_a_conjugate_point(monkeypatch):
    """If log returned one, which no pair seen makes it do."""
    space = DLNObservableManifold(n=2, depth=8)
    x, z = np.random.default_rng(3).normal(size=(2, 20, 2, 2))[:, 10]
    longer = space.metric.solve_exp(1.1 * space.metric.conjugate_time(z, x) * z, x)
    assert longer.success
    monkeypatch.setattr(type(space.metric), "_join", lambda *_, **__: longer)
    solution = space.metric.solve_log(longer.end_point, x, conjugate_points=True)
    assert_allclose(solution.conjugate_time, 1 / 1.1, rtol=1e-11)
    assert not solution.is_locally_minimizing


# --- many at once


def test_directions_of_one_geodesic_and_of_several():
    space = SPACES["N = 2.5"]
    rng = np.random.default_rng(0)
    x = np.linalg.qr(rng.normal(size=(2, 3, 3)))[0] + 0.1 * rng.normal(size=(2, 3, 3))
    z, w = 0.2 * rng.normal(size=(2, 3, 3)), rng.normal(size=(5, 2, 3, 3))
    metric, times = space.metric, [0.5, 1.0]
    whole = metric.jacobi_field(w, z, x, initial_value=w[::-1], t=times)
    assert whole.shape == (5, 2, 2, 3, 3)
    calls = [metric.exp_adjoint, metric.exp_inverse]
    together = [call(w, z, x) for call in calls]
    for i in range(2):
        one = metric.jacobi_field(w[:, i], z[i], x[i], initial_value=w[::-1, i], t=times)
        assert_allclose(whole[:, i], one, rtol=0, atol=1e-11)
        for call, found in zip(calls, together, strict=True):
            assert_allclose(found[:, i], call(w[:, i], z[i], x[i]), rtol=0, atol=1e-10)
            assert_allclose(found[0, i], call(w[0, i], z[i], x[i]), rtol=0, atol=1e-10)
    assert metric.jacobi_field(w[0, 0], z, x).shape == (2, 3, 3)
    assert metric.jacobi_field(w[:, :, None], z[:, None], x[0]).shape == (5, 2, 1, 3, 3)
    assert metric.conjugate_time(z, x).shape == (2,)
    assert metric.conjugate_time(z[0], x[0]).shape == ()
    assert metric.jacobi_field(w[:0], z, x).shape == (0, 2, 3, 3)
    assert metric.conjugate_time(z[:0], x[:0]).shape == (0,)


def test_single_precision():
    x, z, w = (np.asarray(a, np.float32) for a in problem(SPACES["N = 8"]))
    metric = SPACES["N = 8"].metric
    for found in (
        metric.jacobi_field(w, z, x),
        metric.exp_adjoint(w, z, x),
        metric.exp_inverse(w, z, x),
        metric.conjugate_time(z, x),
    ):
        assert found.dtype == np.float32


def test_the_last_time_counts():
    space = SPACES["N = 2.5"]
    x, z, w = problem(space)
    assert_allclose(space.metric.jacobi_field(w, z, x, w[::-1], t=0), w[::-1], rtol=0, atol=1e-13)
    both = space.metric.jacobi_field(w, 2 * z, x, t=[0.5]), space.metric.jacobi_field(w, z, x)
    assert_allclose(2 * both[0][:, 0], both[1], rtol=0, atol=1e-12 * np.abs(both[1]).max())


def test_geodesics_that_end():
    space = DLNObservableManifold(n=2, depth=3)
    x, z = np.diag([2.0, 1.0]), np.diag([0.0, -6.0])
    w = np.eye(2)
    times = [0.1, 0.3]
    assert np.isfinite(space.metric.jacobi_field(w, z, x, t=times)).all()
    with pytest.raises(IncompleteGeodesicError) as caught:
        space.metric.jacobi_field(w, z, x, t=[0.1, 2.0])
    assert_allclose(caught.value.time, 0.5, rtol=1e-8)
    lenient = DLNObservableManifold(n=2, depth=3)
    lenient.metric.on_failure = "nan"
    both = np.stack([z, -z])
    for call in (
        lenient.metric.jacobi_field,
        lenient.metric.exp_adjoint,
        lenient.metric.exp_inverse,
    ):
        found = call(w, both, x)
        assert np.isnan(found[0]).all()
        assert np.isfinite(found[1]).all()
    assert space.metric.conjugate_time(z, x) == np.inf


# --- what is refused


@pytest.mark.parametrize("t", [-1.0, np.nan, np.inf, [], [[0.5]]])
def test_bad_times(t):
    x = np.eye(2)
    with pytest.raises(ValueError, match="t must be"):
        SPACES["N = 8"].metric.jacobi_field(x, x, x, t=t)


@pytest.mark.parametrize(
    ("t_max", "error"),
    [(0, ValueError), (-1.0, ValueError), (np.nan, ValueError), ("1", TypeError)],
)
def test_bad_horizons(t_max, error):
    with pytest.raises(error, match="t_max must be"):
        SPACES["N = 8"].metric.conjugate_time(np.eye(2), np.eye(2), t_max=t_max)


def test_bad_vectors():
    metric, x = SPACES["N = 8"].metric, np.eye(2)
    calls = (metric.jacobi_field, metric.exp_adjoint, metric.exp_inverse)
    for call in calls:
        for bad in (np.eye(3), np.full((2, 2), np.nan), None):
            with pytest.raises(InvalidPointError):
                call(bad, x, x)
            with pytest.raises(InvalidPointError):
                call(x, bad, x)
        with pytest.raises(InvalidPointError, match="broadcast"):
            call(np.ones((3, 2, 2)), np.ones((2, 2, 2)), x)
    for bad in (np.eye(3), np.full((2, 2), np.nan), None):
        with pytest.raises(InvalidPointError):
            metric.conjugate_time(bad, x)
    low = SPACES["rank 2"]
    point = problem(low)[0]
    normal = np.ones((4, 3))
    with pytest.raises(InvalidPointError, match="not tangent"):
        low.metric.jacobi_field(normal, 0 * point, point)
    with pytest.raises(InvalidPointError, match="not tangent"):
        low.metric.conjugate_time(normal, point)


# --- transport along a solution


def test_a_solution_transports(space):
    """Of exp and of log, several vectors for each of a batch of geodesics."""
    metric, (x, z, w) = space.metric, problem(space)
    velocities = np.stack([z, -0.5 * z])
    solved = metric.solve_exp(velocities, x)
    expected = metric.parallel_transport(w[:, None], x, direction=velocities)
    assert_allclose(solved.transport(w[:, None]), expected, rtol=0, atol=1e-11)
    assert_allclose(solved.transport(w[0]), expected[0], rtol=0, atol=1e-11)
    back = metric.solve_log(x, solved.end_point)
    assert back.success.all()
    there = back.transport(expected)
    assert_allclose(there, w[:, None] + 0 * there, rtol=0, atol=1e-9)
    single = metric.solve_exp(z, x).transport(w)
    assert_allclose(single, expected[:, 0], rtol=0, atol=1e-11)


def test_a_solution_transports_nothing_else():
    space = DLNObservableManifold(n=2, depth=3)
    x, velocities = np.diag([2.0, 1.0]), np.stack([np.diag([0.0, -6.0]), np.eye(2)])
    solution = space.metric.solve_exp(velocities, x)
    moved = solution.transport(x)
    assert np.isnan(moved[0]).all()
    assert np.isfinite(moved[1]).all()
    for bad in (np.eye(3), 1.0, np.ones((3, 2, 2))):
        with pytest.raises(InvalidPointError, match="vector has shape"):
            solution.transport(bad)
