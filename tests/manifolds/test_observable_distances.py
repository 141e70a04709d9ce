"""Distances, geodesics and what geomstats derives from them."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from dln_manifolds import DLNObservableManifold

DEPTHS = [1, 1.5, 2, 3, 8]
# What a solution says of each of its members.
SCALARS = [
    "length",
    "lower_bound",
    "residual",
    "n_iterations",
    "n_evaluations",
    "status",
    "crossing_time",
    "success",
]


@pytest.fixture(params=DEPTHS, ids="depth {}".format)
def space(request):
    return DLNObservableManifold(3, request.param)


@pytest.fixture
def deep():
    return DLNObservableManifold(3, 4)


def near(space, X, size=0.2):
    """Return a point at a distance of ``size`` times ``|W|`` from X."""
    roots = np.linalg.svd(X, compute_uv=False) ** (1 / space.depth)
    length = size * np.sqrt(space.depth * np.sum(roots**2))
    return space.metric.exp(length * space.metric.random_unit_tangent_vec(X), X)


def test_distance_is_symmetric(space):
    X = space.random_point()
    Y = near(space, X)
    assert_allclose(space.metric.dist(X, Y), space.metric.dist(Y, X), rtol=1e-11)


def test_distance_is_the_length_of_the_log(space):
    X = space.random_point()
    Y = near(space, X)
    expected = space.metric.norm(space.metric.log(Y, X), X)
    assert_allclose(space.metric.dist(X, Y), expected, rtol=1e-12)


def test_distance_is_the_length_of_the_vector_of_exp(space):
    X = space.random_point()
    v = 0.1 * space.random_tangent_vec(X)
    Y = space.metric.exp(v, X)
    assert_allclose(space.metric.dist(X, Y), space.metric.norm(v, X), rtol=1e-10)


def test_distance_of_a_point_from_itself_is_zero(space):
    X = space.random_point(4)
    assert_array_equal(space.metric.dist(X, X), 0)


def test_log_of_the_base_point_is_zero(space):
    X = space.random_point(4)
    assert_allclose(space.metric.log(X, X), 0, atol=1e-14)


def test_exp_of_zero_is_the_base_point(space):
    # up to the rounding of an N-th power
    X = space.random_point(4)
    error = np.abs(space.metric.exp(np.zeros((3, 3)), X) - X).max()
    assert error <= 8 * np.finfo(float).eps * space.depth * np.abs(X).max()


def test_log_inverts_exp(space):
    X = space.random_point()
    Y = near(space, X)
    v = space.metric.log(Y, X)
    again = space.metric.log(space.metric.exp(v, X), X)
    assert space.metric.norm(again - v, X) <= 1e-9 * space.metric.norm(v, X)


def test_exp_inverts_log(space):
    X = space.random_point()
    Y = near(space, X)
    end = space.metric.exp(space.metric.log(Y, X), X)
    assert np.linalg.norm(end - Y) <= 1e-10 * np.linalg.norm(Y)


def test_squared_distance_is_the_square(space):
    X = space.random_point()
    Y = near(space, X)
    assert_allclose(space.metric.squared_dist(X, Y), space.metric.dist(X, Y) ** 2, rtol=1e-14)


def test_squared_distance_of_close_points_keeps_its_digits(deep):
    X = deep.random_point()
    v = 1e-7 * deep.random_tangent_vec(X)
    expected = deep.metric.squared_norm(v, X)
    assert_allclose(deep.metric.squared_dist(deep.metric.exp(v, X), X), expected, rtol=1e-7)


def test_distance_of_multiples_is_that_along_a_ray(space):
    # W -> c W moves along a ray of the cone; X -> c^N X.
    X = space.random_point()
    c = 1.7
    roots = np.linalg.svd(X, compute_uv=False) ** (1 / space.depth)
    expected = (c - 1) * np.sqrt(space.depth * np.sum(roots**2))
    assert_allclose(space.metric.dist(X, c**space.depth * X), expected, rtol=1e-12)


@pytest.mark.parametrize("c", [0.4, 3.0])
def test_distances_obey_the_law_of_cosines_of_a_cone(space, c):
    # W -> c W takes X to c^N X, and geodesics between multiples lie in one flat plane.
    X = space.random_point()
    Y = near(space, X)
    a, b = (
        np.sqrt(space.depth * np.sum(np.linalg.svd(Z, compute_uv=False) ** (2 / space.depth)))
        for Z in (X, Y)
    )
    cosine = (a**2 + b**2 - space.metric.squared_dist(X, Y)) / (2 * a * b)
    expected = np.sqrt(a**2 + (c * b) ** 2 - 2 * a * c * b * cosine)
    assert_allclose(space.metric.dist(X, c**space.depth * Y), expected, rtol=1e-10)


def test_distance_is_invariant_under_rotations_and_transposition(space):
    X = space.random_point()
    Y = near(space, X)
    R, Q = (np.linalg.qr(np.random.normal(size=(3, 3)))[0] for _ in range(2))
    expected = space.metric.dist(X, Y)
    assert_allclose(space.metric.dist(R @ X @ Q, R @ Y @ Q), expected, rtol=1e-11)
    assert_allclose(space.metric.dist(X.T, Y.T), expected, rtol=1e-11)


def test_geodesics_are_carried_along_by_rotations(space):
    X = space.random_point()
    v = 0.2 * space.random_tangent_vec(X)
    R, Q = (np.linalg.qr(np.random.normal(size=(3, 3)))[0] for _ in range(2))
    end = space.metric.exp(R @ v @ Q, R @ X @ Q)
    assert_allclose(end, R @ space.metric.exp(v, X) @ Q, rtol=0, atol=1e-10 * np.abs(end).max())


def test_works_in_the_component_of_negative_determinants(deep):
    flip = np.diag([1.0, 1.0, -1.0])
    X, Y = deep.random_point(2)
    assert_allclose(deep.metric.dist(X @ flip, Y @ flip), deep.metric.dist(X, Y), rtol=1e-11)


def test_triangle_inequality(deep):
    a, b, c = deep.random_point(3 * 20).reshape(3, 20, 3, 3)
    dist = deep.metric.dist
    assert (dist(a, c) <= (dist(a, b) + dist(b, c)) * (1 + 1e-12)).all()


def test_geodesic_with_two_ends_starts_and_ends_there(space):
    X = space.random_point()
    Y = near(space, X)
    points = space.metric.geodesic(X, end_point=Y)(np.array([0.0, 1.0]))
    assert_allclose(points, np.stack([X, Y]), rtol=0, atol=1e-10 * np.linalg.norm(Y))


def test_geodesic_with_a_velocity_passes_through_exp(space):
    X = space.random_point()
    v = 0.2 * space.random_tangent_vec(X)
    times = np.array([0.0, 0.3, 1.0])
    points = space.metric.geodesic(X, initial_tangent_vec=v)(times)
    expected = np.stack([space.metric.exp(t * v, X) for t in times])
    assert_allclose(points, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("t", [-0.3, 1.4])
def test_geodesic_goes_on_past_its_ends(deep, t):
    X = deep.random_point()
    v = 0.2 * deep.random_tangent_vec(X)
    points = deep.metric.geodesic(X, initial_tangent_vec=v)(t)
    assert_allclose(points[0], deep.metric.exp(t * v, X), rtol=1e-9, atol=1e-10)


def test_geodesic_has_constant_speed(deep):
    X, Y = deep.random_point(2)
    points = deep.metric.geodesic(X, end_point=Y)(np.linspace(0, 1, 6))
    steps = deep.metric.dist(points[:-1], points[1:])
    assert_allclose(steps, deep.metric.dist(X, Y) / 5, rtol=1e-9)


def test_times_may_come_in_any_order(deep):
    X, Y = deep.random_point(2)
    path = deep.metric.geodesic(X, end_point=Y)
    assert_allclose(path([0.7, 0.2]), path([0.2, 0.7])[::-1], rtol=1e-12)


@pytest.mark.parametrize(
    ("t", "n_t"),
    [(0.5, 1), (np.array(0.5), 1), ([0.5], 1), (np.linspace(0, 1, 4), 4), (1, 1), ([], 0)],
    ids=["scalar", "0-d", "list", "array", "integer", "no times"],
)
@pytest.mark.parametrize("kind", ["end_point", "initial_tangent_vec"])
@pytest.mark.parametrize("batch", [(), (2,), (2, 1)], ids=str)
def test_geodesic_shape(deep, kind, t, n_t, batch):
    X = np.broadcast_to(deep.random_point(), (*batch, 3, 3))
    other = deep.random_point() if kind == "end_point" else 0.1 * deep.random_tangent_vec(X)
    points = deep.metric.geodesic(X, **{kind: other})(t)
    assert points.shape == (*batch, n_t, 3, 3)


@pytest.mark.parametrize("arguments", [{}, {"end_point": 1, "initial_tangent_vec": 1}])
def test_geodesic_needs_one_of_two_arguments(deep, arguments):
    X = deep.random_point()
    with pytest.raises(ValueError, match=r"end_point.*initial_tangent_vec"):
        deep.metric.geodesic(X, **{name: X for name in arguments})


def test_pair_mean_is_halfway(space):
    X = space.random_point()
    Y = near(space, X)
    middle = space.pair_mean(X, Y)
    half = space.dist(X, Y) / 2
    assert_allclose([space.dist(X, middle), space.dist(middle, Y)], half, rtol=1e-9)


def test_dist_pairwise_is_dist_of_every_pair(deep):
    points = deep.random_point(4)
    matrix = deep.metric.dist_pairwise(points)
    for i, j in itertools.product(range(4), repeat=2):
        expected = deep.metric.dist(points[i], points[j])
        assert_allclose(matrix[i, j], expected, rtol=1e-11, atol=1e-14)


def test_dist_broadcast_of_sets_of_different_sizes(deep):
    a, b = deep.random_point(2), deep.random_point(3)
    expected = [[deep.metric.dist(x, y) for y in b] for x in a]
    assert_allclose(deep.metric.dist_broadcast(a, b), expected, rtol=1e-11)


def test_diameter_is_the_largest_distance(deep):
    points = deep.random_point(4)
    assert_allclose(
        deep.metric.diameter(points), deep.metric.dist_pairwise(points).max(), rtol=1e-11
    )


def test_closest_neighbor_index(deep):
    neighbors = deep.random_point(5)
    point = deep.random_point()
    distances = [deep.metric.dist(point, neighbor) for neighbor in neighbors]
    assert deep.metric.closest_neighbor_index(point, neighbors) == np.argmin(distances)


def test_solution_of_log_says_how_well_it_was_solved(deep):
    X, Y = deep.random_point(2)
    solution = deep.metric.solve_log(Y, X)
    assert solution.success
    assert solution.residual <= 1e-11
    assert solution.lower_bound <= solution.length * (1 + 1e-12)
    assert_allclose(solution.length, deep.metric.dist(X, Y), rtol=1e-12)
    assert_array_equal(solution.initial_velocity, deep.metric.log(Y, X))
    assert solution.n_iterations >= 1
    assert solution.n_evaluations > solution.n_iterations


def test_solution_of_exp_says_how_well_it_was_solved(deep):
    X = deep.random_point()
    v = 0.3 * deep.random_tangent_vec(X)
    solution = deep.metric.solve_exp(v, X)
    assert solution.success
    assert solution.residual <= 1e-11
    assert solution.lower_bound <= solution.length * (1 + 1e-12)
    assert_allclose(solution.length, deep.metric.norm(v, X), rtol=1e-13)
    assert_array_equal(solution.end_point, deep.metric.exp(v, X))
    assert_array_equal(solution.initial_velocity, v)


@pytest.mark.parametrize("batch", [(), (2,), (2, 1)], ids=str)
@pytest.mark.parametrize("kind", ["exp", "log"])
def test_solution_has_the_batch_shape_of_the_inputs(deep, kind, batch):
    X = np.broadcast_to(deep.random_point(), (*batch, 3, 3))
    if kind == "exp":
        solution = deep.metric.solve_exp(0.1 * deep.random_tangent_vec(X), X)
    else:
        solution = deep.metric.solve_log(deep.random_point(), X)
    for name in SCALARS:
        assert np.shape(getattr(solution, name)) == batch, name
    for name in ("initial_velocity", "end_point"):
        assert getattr(solution, name).shape == (*batch, 3, 3), name
    assert isinstance(solution.message, str)


@pytest.mark.parametrize(("t", "shape"), [(0.5, ()), ([0.5], (1,)), ([0.1, 0.2, 0.3], (3,))])
def test_solution_called_at_a_scalar_time_has_no_time_axis(deep, t, shape):
    X, Y = deep.random_point(2)
    assert deep.metric.solve_log(Y, X)(t).shape == (*shape, 3, 3)


def test_tolerance_is_passed_to_the_integrator(deep):
    X = deep.random_point()
    v = 0.3 * deep.random_tangent_vec(X)
    loose = deep.new(equip=False)
    loose.equip_with_metric(tolerance=1e-5)
    fine, rough = deep.metric.solve_exp(v, X), loose.metric.solve_exp(v, X)
    assert rough.n_evaluations < fine.n_evaluations
    error = np.linalg.norm(rough.end_point - fine.end_point) / np.linalg.norm(fine.end_point)
    assert 1e-13 < error < 1e-3
