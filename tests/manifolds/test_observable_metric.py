"""Values of the metric and of the space's own functions against independent formulas."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dln_manifolds import DLNObservableManifold

DEPTHS = [1, 1.5, 2, 3, 4, 10]
INTEGER_DEPTHS = [1, 2, 3, 4, 10]


def power(matrix, exponent):
    """Return a real power of a symmetric positive definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**exponent) @ vectors.T


def literal_cometric(X, P, depth):
    """Return ``sum_p (X X^T)^((N-p)/N) P (X^T X)^((p-1)/N)``, an integer depth N."""
    return sum(
        power(X @ X.T, (depth - p) / depth) @ P @ power(X.T @ X, (p - 1) / depth)
        for p in range(1, depth + 1)
    )


def literal_cometric_matrix(X, depth):
    """Return the same as a matrix on row-major entries."""
    return sum(
        np.kron(power(X @ X.T, (depth - p) / depth), power(X.T @ X, (p - 1) / depth))
        for p in range(1, depth + 1)
    )


def setting(n, depth, seed=0):
    """Return a space, a point with a condition number below 8, and two tangent vectors."""
    np.random.seed(seed)
    space = DLNObservableManifold(n, depth)
    X = space.random_point()
    return space, X, *space.random_tangent_vec(X, 2)


@pytest.mark.parametrize("depth", INTEGER_DEPTHS)
@pytest.mark.parametrize("n", [1, 2, 4])
def test_cometric_matrix_is_the_literal_sum(n, depth):
    space, X, _, _ = setting(n, depth)
    expected = literal_cometric_matrix(X, depth)
    error = np.abs(space.metric.cometric_matrix(X) - expected).max()
    assert error <= 1e-13 * np.abs(expected).max()


@pytest.mark.parametrize("depth", INTEGER_DEPTHS)
def test_inner_coproduct_is_the_literal_sum(depth):
    space, X, P, Q = setting(3, depth)
    expected = np.sum(P * literal_cometric(X, Q, depth))
    size = math.sqrt(
        np.sum(P * literal_cometric(X, P, depth)) * np.sum(Q * literal_cometric(X, Q, depth))
    )
    assert abs(space.metric.inner_coproduct(P, Q, X) - expected) <= 1e-13 * size


@pytest.mark.parametrize("depth", INTEGER_DEPTHS)
def test_inner_product_inverts_the_literal_sum(depth):
    space, X, Z, _ = setting(3, depth)
    P = np.arange(9.0).reshape(3, 3) - 3
    # g(A(P), Z) = tr(P^T Z)
    vector = literal_cometric(X, P, depth)
    size = np.linalg.norm(P) * np.linalg.norm(Z)
    assert abs(space.metric.inner_product(vector, Z, X) - np.sum(P * Z)) <= 1e-12 * size


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("n", [1, 2, 4])
def test_metric_matrix_gives_the_inner_product(n, depth):
    space, X, u, v = setting(n, depth)
    product = u.ravel() @ space.metric.metric_matrix(X) @ v.ravel()
    size = space.metric.norm(u, X) * space.metric.norm(v, X)
    assert abs(space.metric.inner_product(u, v, X) - product) <= 1e-13 * size


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("n", [1, 2, 4])
def test_metric_matrix_inverts_the_cometric_matrix(n, depth):
    space, X, _, _ = setting(n, depth)
    metric, cometric = space.metric.metric_matrix(X), space.metric.cometric_matrix(X)
    error = np.abs(metric @ cometric - np.eye(n * n)).max()
    assert error <= 1e-13 * np.linalg.cond(metric)


@pytest.mark.parametrize("name", ["metric_matrix", "cometric_matrix"])
def test_matrices_are_symmetric_positive_definite(name):
    space, X, _, _ = setting(4, 3)
    matrix = getattr(space.metric, name)(X)
    assert np.abs(matrix - matrix.T).max() <= 1e-14 * np.abs(matrix).max()
    assert np.linalg.eigvalsh(matrix)[0] > 0


@pytest.mark.parametrize("depth", DEPTHS)
def test_inner_product_is_that_of_the_horizontal_lift(depth):
    # At X = c I every a_ij is N c^(2 - 2/N).
    space = DLNObservableManifold(3, depth)
    u, v = np.arange(9.0).reshape(3, 3), np.ones((3, 3))
    expected = np.sum(u * v) / (depth * 2.0 ** (2 - 2 / depth))
    assert_allclose(space.metric.inner_product(u, v, 2 * np.eye(3)), expected, rtol=1e-14)


def test_inner_product_at_depth_one_is_that_of_frobenius():
    space, X, u, v = setting(3, 1)
    assert_allclose(space.metric.inner_product(u, v, X), np.sum(u * v), rtol=1e-13)


def test_inner_product_is_symmetric():
    space, X, u, v = setting(3, 4)
    assert_allclose(
        space.metric.inner_product(u, v, X), space.metric.inner_product(v, u, X), rtol=1e-14
    )


def test_norms_are_those_of_the_inner_product():
    space, X, v, _ = setting(3, 4)
    squared = space.metric.inner_product(v, v.copy(), X)
    assert_allclose(space.metric.squared_norm(v, X), squared, rtol=1e-14)
    assert_allclose(space.metric.norm(v, X), math.sqrt(squared), rtol=1e-14)


def test_norm_is_invariant_under_rotations_of_both_sides():
    space, X, v, _ = setting(3, 4)
    R, Q = (np.linalg.qr(np.random.normal(size=(3, 3)))[0] for _ in range(2))
    assert_allclose(space.metric.norm(R @ v @ Q, R @ X @ Q), space.metric.norm(v, X), rtol=1e-13)


def test_norm_is_invariant_under_transposition():
    space, X, v, _ = setting(3, 4)
    assert_allclose(space.metric.norm(v.T, X.T), space.metric.norm(v, X), rtol=1e-13)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("scale", [1e-150, 1e-3, 1e5, 1e150])
def test_norm_scales_as_a_cone(depth, scale):
    # W -> c W takes X to c^N X and lengths to c times themselves.
    space, X, v, _ = setting(3, depth)
    expected = scale ** (1 / depth) * space.metric.norm(v, X)
    assert_allclose(space.metric.norm(scale * v, scale * X), expected, rtol=1e-12)


def test_normalize_gives_unit_vectors_of_the_same_direction():
    space, X, u, v = setting(3, 4)
    vectors = np.stack([u, 1e-8 * v])
    unit = space.metric.normalize(vectors, X)
    assert_allclose(space.metric.norm(unit, X), 1, rtol=1e-14)
    assert_allclose(unit * space.metric.norm(vectors, X)[:, None, None], vectors, rtol=1e-13)


def test_normal_basis_gives_unit_vectors_of_the_same_direction():
    space, X, _, _ = setting(3, 4)
    basis = np.eye(9).reshape(9, 3, 3)
    unit = space.metric.normal_basis(basis, X)
    assert_allclose(space.metric.norm(unit, X), 1, rtol=1e-14)
    assert_allclose(unit[basis == 0], 0, atol=0)


@pytest.mark.parametrize(("n_vectors", "shape"), [(1, (3, 3)), (5, (5, 3, 3))])
def test_random_unit_tangent_vectors_have_unit_length(n_vectors, shape):
    space, X, _, _ = setting(3, 4)
    vectors = space.metric.random_unit_tangent_vec(X, n_vectors)
    assert vectors.shape == shape
    assert_allclose(space.metric.norm(vectors, X), 1, rtol=1e-13)


def test_random_unit_tangent_vectors_take_the_batch_of_the_base_points():
    space = DLNObservableManifold(3, 4)
    X = space.random_point(4)
    vectors = space.metric.random_unit_tangent_vec(X)
    assert vectors.shape == (4, 3, 3)
    assert_allclose(space.metric.norm(vectors, X), 1, rtol=1e-13)


def test_random_unit_tangent_vectors_are_uniform_in_the_metric():
    # Their second moment is the cometric, divided by the dimension.
    space, X, _, _ = setting(2, 3)
    vectors = space.metric.random_unit_tangent_vec(X, 20_000).reshape(-1, 4)
    root = np.linalg.cholesky(space.metric.metric_matrix(X))
    moment = root.T @ (vectors.T @ vectors / 20_000) @ root
    assert_allclose(moment, np.eye(4) / 4, atol=0.01)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("n", [1, 2, 4])
def test_log_volume_density_is_half_the_log_determinant(n, depth):
    space, X, _, _ = setting(n, depth)
    expected = 0.5 * np.linalg.slogdet(space.metric.metric_matrix(X))[1]
    assert_allclose(space.metric.log_volume_density(X), expected, rtol=1e-12, atol=1e-13)


def test_volume_density_of_the_metric_is_the_exponential_of_its_log():
    space, X, _, _ = setting(3, 4)
    expected = math.exp(space.metric.log_volume_density(X))
    assert_allclose(space.metric.volume_density(X), expected, rtol=1e-14)


@pytest.mark.parametrize("seed", range(3))
def test_fibre_of_two_by_two_matrices_at_depth_two_is_two_circles(seed):
    # Total length 4 pi sqrt(2) sqrt(l_1^2 + l_2^2) with the singular values l^2.
    space, X, _, _ = setting(2, 2, seed)
    expected = 4 * math.pi * math.sqrt(2 * np.linalg.svd(X, compute_uv=False).sum())
    assert_allclose(space.volume_density(X), expected, rtol=1e-13)


@pytest.mark.parametrize("depth", DEPTHS)
def test_entropy_at_multiples_of_the_identity(depth):
    # Every a_ij is N c^(2 - 2/N); the volume of O(3) is 2^(3/2) times 2 * 2 pi * 4 pi.
    space = DLNObservableManifold(3, depth)
    log_volume = math.log(2**1.5 * 2 * 2 * math.pi * 4 * math.pi)
    expected = (depth - 1) * log_volume + 1.5 * math.log(depth * 2.0 ** (2 - 2 / depth))
    assert_allclose(space.entropy(2 * np.eye(3)), expected, rtol=1e-14, atol=1e-14)


def test_volume_density_of_the_space_is_the_exponential_of_the_entropy():
    space, X, _, _ = setting(3, 4)
    assert_allclose(space.volume_density(X), math.exp(space.entropy(X)), rtol=1e-14)


def test_the_two_volume_densities_are_different_things():
    space, X, _, _ = setting(3, 4)
    product = space.volume_density(X) * space.metric.volume_density(X)
    # THEORY section 8: vol(O_X) sqrt(det g) = c^(N-1) prod a_ii^(-1/2) prod_{i<j} a_ij^(-1/2)
    values = np.linalg.svd(X, compute_uv=False)
    roots = values ** (1 / 4)
    a = np.array(
        [
            [
                (values[i] ** 2 - values[j] ** 2) / (roots[i] ** 2 - roots[j] ** 2)
                if i != j
                else 4 * values[i] ** 1.5
                for j in range(3)
            ]
            for i in range(3)
        ]
    )
    log_volume = math.log(2**1.5 * 2 * 2 * math.pi * 4 * math.pi)
    expected = 3 * log_volume - 0.5 * np.log(a[np.triu_indices(3)]).sum()
    assert_allclose(math.log(product), expected, rtol=1e-12)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("n", [1, 2, 4])
def test_entropy_gradient_gives_the_slope_of_the_entropy(n, depth):
    space, X, _, v = setting(n, depth)
    v = v / np.linalg.norm(v)
    h = 1e-3
    # central differences of order six
    slope = (
        45 * (space.entropy(X + h * v) - space.entropy(X - h * v))
        - 9 * (space.entropy(X + 2 * h * v) - space.entropy(X - 2 * h * v))
        + (space.entropy(X + 3 * h * v) - space.entropy(X - 3 * h * v))
    ) / (60 * h)
    gradient = space.entropy_gradient(X)
    assert_allclose(space.metric.inner_product(gradient, v, X), slope, rtol=1e-9, atol=1e-10)


def test_entropy_gradient_at_repeated_singular_values():
    space = DLNObservableManifold(3, 4)
    # dS/ds = (1 - 1/N) / s for each of three equal singular values, times a_ii = N s^(2 - 2/N)
    expected = 4 * 2**1.5 * 0.75 / 2 * np.eye(3)
    assert_allclose(space.entropy_gradient(2 * np.eye(3)), expected, rtol=1e-13, atol=1e-13)


def test_entropy_is_invariant_under_rotations_of_both_sides():
    space, X, _, _ = setting(3, 4)
    R, Q = (np.linalg.qr(np.random.normal(size=(3, 3)))[0] for _ in range(2))
    assert_allclose(space.entropy(R @ X @ Q), space.entropy(X), rtol=1e-13)


@pytest.mark.parametrize("depth", [1, 3])
def test_entropy_of_numbers(depth):
    # For n = 1 the fibre over a number is 2^(N-1) points.
    space = DLNObservableManifold(1, depth)
    assert_allclose(space.entropy(np.array([[5.0]])), (depth - 1) * math.log(2), atol=1e-15)


@pytest.mark.parametrize("depth", DEPTHS)
def test_injectivity_radius_is_the_distance_to_the_singular_matrices(depth):
    # The straight line of root singular values, nine tenths of the way to a singular matrix.
    space = DLNObservableManifold(3, depth)
    X, near = np.diag([3.0, 2.0, 0.5]), np.diag([3.0, 2.0, 0.5 * 0.1**depth])
    radius = space.metric.injectivity_radius(X)
    assert_allclose(space.metric.dist(X, near), 0.9 * radius, rtol=1e-11)


def test_injectivity_radius_is_where_a_geodesic_ends():
    space = DLNObservableManifold(3, 4)
    X = np.diag([3.0, 2.0, 0.5])
    radius = space.metric.injectivity_radius(X)
    outwards = space.metric.normalize(np.diag([0.0, 0.0, -1.0]), X)
    solution = space.metric.solve_exp(2 * radius * outwards, X)
    assert_allclose(solution.crossing_time, 0.5, rtol=1e-9)


@pytest.mark.parametrize("depth", DEPTHS)
def test_distance_of_the_identity_from_zero(depth):
    space = DLNObservableManifold(3, depth)
    near_zero = 0.01**depth * np.eye(3)
    exact = 0.99 * np.sqrt(3 * depth)
    assert_allclose(space.metric.dist(near_zero, np.eye(3)), exact, rtol=1e-11)
