"""The public names of the observable space and its metric, and the conventions of both hosts."""

import inspect

import numpy as np
import pymanopt.manifolds
import pytest
from geomstats.geometry.manifold import Manifold as GeomstatsManifold
from geomstats.geometry.product_manifold import ProductManifold
from geomstats.geometry.riemannian_metric import RiemannianMetric
from numpy.testing import assert_allclose, assert_array_equal
from pymanopt.manifolds.manifold import Manifold as PymanoptManifold

from dln_manifolds import DLNObservableManifold, DLNObservableMetric

# Names and positional arguments, base point first on the space and last on the metric.
SPACE = {
    "belongs": ["point"],
    "is_tangent": ["vector", "base_point"],
    "to_tangent": ["vector", "base_point"],
    "random_point": ["n_samples", "bound"],
    "random_tangent_vec": ["base_point", "n_samples"],
    "regularize": ["point"],
    "new": ["equip"],
    "projection": ["point", "vector"],
    "entropy": ["point"],
    "volume_density": ["point"],
    "entropy_gradient": ["point"],
    "inner_product": ["point", "tangent_vector_a", "tangent_vector_b"],
    "norm": ["point", "tangent_vector"],
    "dist": ["point_a", "point_b"],
    "exp": ["point", "tangent_vector"],
    "log": ["point_a", "point_b"],
    "retraction": ["point", "tangent_vector"],
    "transport": ["point_a", "point_b", "tangent_vector_a"],
    "pair_mean": ["point_a", "point_b"],
    "to_tangent_space": ["point", "vector"],
    "random_tangent_vector": ["point"],
    "zero_vector": ["point"],
    "euclidean_to_riemannian_gradient": ["point", "euclidean_gradient"],
    "euclidean_to_riemannian_hessian": [
        "point",
        "euclidean_gradient",
        "euclidean_hessian",
        "tangent_vector",
    ],
    "weingarten": ["point", "tangent_vector", "normal_vector"],
}
METRIC = {
    "inner_product": ["tangent_vec_a", "tangent_vec_b", "base_point"],
    "inner_coproduct": ["cotangent_vec_a", "cotangent_vec_b", "base_point"],
    "squared_norm": ["vector", "base_point"],
    "norm": ["vector", "base_point"],
    "normalize": ["vector", "base_point"],
    "exp": ["tangent_vec", "base_point"],
    "log": ["point", "base_point"],
    "dist": ["point_a", "point_b"],
    "squared_dist": ["point_a", "point_b"],
    "dist_broadcast": ["point_a", "point_b"],
    "dist_pairwise": ["points"],
    "diameter": ["points"],
    "closest_neighbor_index": ["point", "neighbors"],
    "geodesic": ["initial_point", "end_point", "initial_tangent_vec"],
    "parallel_transport": ["tangent_vec", "base_point", "direction", "end_point"],
    "metric_matrix": ["base_point"],
    "cometric_matrix": ["base_point"],
    "injectivity_radius": ["base_point"],
    "normal_basis": ["basis", "base_point"],
    "random_unit_tangent_vec": ["base_point", "n_vectors"],
    "log_volume_density": ["base_point"],
    "volume_density": ["base_point"],
    "solve_exp": ["tangent_vec", "base_point"],
    "solve_log": ["point", "base_point"],
    "bounds": ["point", "base_point"],
}


@pytest.fixture
def space():
    return DLNObservableManifold(n=3, depth=4)


@pytest.mark.parametrize("name", SPACE)
def test_space_has_the_name_with_its_arguments(space, name):
    arguments = list(inspect.signature(getattr(space, name)).parameters)
    assert arguments[: len(SPACE[name])] == SPACE[name]


@pytest.mark.parametrize("name", METRIC)
def test_metric_has_the_name_with_its_arguments(space, name):
    arguments = list(inspect.signature(getattr(space.metric, name)).parameters)
    assert arguments[: len(METRIC[name])] == METRIC[name]


@pytest.mark.parametrize("name", [*SPACE, "typical_dist", "dim"])
def test_space_documents_its_name(name):
    assert getattr(DLNObservableManifold, name).__doc__


@pytest.mark.parametrize("name", METRIC)
def test_metric_documents_its_name(name):
    assert getattr(DLNObservableMetric, name).__doc__


@pytest.mark.parametrize("owner", [DLNObservableManifold, DLNObservableMetric])
@pytest.mark.parametrize("name", ["exp", "log"])
def test_docstring_warns_of_the_order_of_arguments(owner, name):
    text = " ".join(getattr(owner, name).__doc__.split())
    assert "base point" in text or "base_point" in text
    assert "pymanopt" in text or "geomstats" in text or "comes first" in text


@pytest.mark.parametrize("host", [GeomstatsManifold, PymanoptManifold])
def test_space_is_a_manifold_of_the_host(space, host):
    assert isinstance(space, host)


def test_metric_is_a_riemannian_metric_of_geomstats(space):
    assert type(space.metric) is DLNObservableMetric
    assert isinstance(space.metric, RiemannianMetric)


def test_space_does_not_inherit_a_linear_or_general_linear_space(space):
    names = {base.__name__ for base in [*type(space).__mro__, *type(space.metric).__mro__]}
    assert not names & {"GeneralLinear", "Euclidean", "EuclideanMetric", "MatricesMetric"}


def test_exp_takes_its_arguments_in_the_order_of_each_host(space):
    X = space.random_point()
    v = 0.2 * space.random_tangent_vec(X)
    assert_array_equal(space.exp(X, v), space.metric.exp(v, X))


def test_log_takes_its_arguments_in_the_order_of_each_host(space):
    X, Y = space.random_point(2)
    assert_array_equal(space.log(X, Y), space.metric.log(Y, X))


def test_inner_product_takes_its_arguments_in_the_order_of_each_host(space):
    X = space.random_point()
    u, v = space.random_tangent_vec(X, 2)
    assert_allclose(space.inner_product(X, u, v), space.metric.inner_product(u, v, X), rtol=1e-14)


def test_norm_takes_its_arguments_in_the_order_of_each_host(space):
    X = space.random_point()
    v = space.random_tangent_vec(X)
    assert_allclose(space.norm(X, v), space.metric.norm(v, X), rtol=1e-14)


def test_dist_agrees_between_the_hosts(space):
    X, Y = space.random_point(2)
    assert space.dist(X, Y) == space.metric.dist(X, Y)


def test_dim_is_the_number_of_entries(space):
    assert space.dim == 9


def test_dim_can_be_set(space):
    # pymanopt's and geomstats' constructors both do.
    space.dim = 7
    assert space.dim == 7
    space.dim = 9


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shape", (3, 3)),
        ("point_ndim", 2),
        ("intrinsic", True),
        ("point_layout", 1),
        ("n", 3),
        ("depth", 4),
    ],
)
def test_attribute(space, name, value):
    assert getattr(space, name) == value


def test_repr_is_the_call_that_makes_the_space(space):
    copy = eval(repr(space), {"DLNObservableManifold": DLNObservableManifold})
    assert (copy.n, copy.depth) == (space.n, space.depth)


@pytest.mark.parametrize("depth", [1.2345678901234567, 1e6 + 1])
def test_repr_keeps_every_digit_of_the_depth(depth):
    space = DLNObservableManifold(n=2, depth=depth)
    copy = eval(repr(space), {"DLNObservableManifold": DLNObservableManifold})
    assert copy.depth == depth


def test_str_names_width_and_depth(space):
    assert "n=3" in str(space)
    assert "depth=4" in str(space)


def test_new_copies_width_and_depth(space):
    copy = space.new()
    assert type(copy) is type(space)
    assert copy is not space
    assert (copy.n, copy.depth) == (3, 4)
    assert isinstance(copy.metric, DLNObservableMetric)


def test_new_can_leave_the_metric_out(space):
    assert not hasattr(space.new(equip=False), "metric")


def test_space_can_be_made_without_a_metric():
    assert not hasattr(DLNObservableManifold(2, 3, equip=False), "metric")


def test_equip_with_metric_passes_the_options_on():
    space = DLNObservableManifold(2, 3, equip=False)
    space.equip_with_metric(tolerance=1e-8, on_failure="nan")
    assert (space.metric.tolerance, space.metric.on_failure) == (1e-8, "nan")


@pytest.mark.parametrize("depth", [1, 1.5, 2, np.int64(3), np.float32(2.5)])
def test_real_depths_are_accepted(depth):
    assert DLNObservableManifold(2, depth).depth == float(depth)


def test_width_may_be_a_numpy_integer():
    assert DLNObservableManifold(np.int64(2), 3).shape == (2, 2)


def test_projection_leaves_points_as_they_are(space):
    points = space.random_point(4)
    assert_array_equal(space.projection(points), points)


@pytest.mark.parametrize(
    "matrix",
    [np.zeros((3, 3)), np.ones((3, 3)), np.diag([1.0, 1.0, 0.0]), np.diag([1e200, 1.0, -1e-200])],
    ids=["zero", "rank one", "rank two", "graded"],
)
def test_projection_of_a_singular_matrix_belongs(space, matrix):
    assert space.belongs(space.projection(matrix))


@pytest.mark.parametrize(
    "matrix", [np.ones((3, 3)), np.diag([2.0, 1.0, 0.0])], ids=["rank one", "rank two"]
)
def test_projection_moves_a_singular_matrix_by_little(space, matrix):
    assert_allclose(space.projection(matrix), matrix, rtol=0, atol=1e-13)


def test_projection_with_two_arguments_is_onto_the_tangent_space(space):
    X = space.random_point()
    vector = np.arange(9.0).reshape(3, 3)
    assert_array_equal(space.projection(X, vector), vector)


def test_random_point_draws_positive_determinants(space):
    assert (np.linalg.det(space.random_point(50)) > 0).all()


def test_random_point_stays_within_the_bound(space):
    values = np.linalg.svd(space.random_point(50, bound=0.5), compute_uv=False)
    assert np.abs(np.log(values)).max() <= 0.5 + 1e-12
    assert np.abs(np.log(values)).max() > 0.4


@pytest.mark.parametrize(("n_samples", "shape"), [(1, (3, 3)), (2, (2, 3, 3)), (0, (0, 3, 3))])
def test_random_point_shape(space, n_samples, shape):
    assert space.random_point(n_samples).shape == shape


def test_random_point_can_be_repeated(space):
    np.random.seed(5)
    first = space.random_point(3)
    np.random.seed(5)
    assert_array_equal(space.random_point(3), first)


def test_random_tangent_vec_is_standard_normal_in_the_metric(space):
    X = space.random_point()
    vectors = space.random_tangent_vec(X, 4000)
    # E |Z|^2 = n^2 = 9, variance 2 * 9: four standard errors
    mean = np.mean(space.metric.squared_norm(vectors, X))
    assert abs(mean - 9) < 4 * np.sqrt(18 / 4000)


def test_works_in_a_product_manifold_of_geomstats():
    factors = [DLNObservableManifold(2, 3), DLNObservableManifold(3, 2)]
    product = ProductManifold(factors)
    a, b = product.random_point(2)
    log = product.metric.log(b, a)
    assert_allclose(product.metric.exp(log, a), b, atol=1e-9)
    parts = [
        space.metric.squared_dist(x, y)
        for space, x, y in zip(
            factors, product.project_from_product(a), product.project_from_product(b), strict=True
        )
    ]
    assert_allclose(product.metric.squared_dist(a, b), sum(parts), rtol=1e-11)


def test_works_in_a_product_of_pymanopt():
    factors = [DLNObservableManifold(2, 3), DLNObservableManifold(3, 2)]
    product = pymanopt.manifolds.Product(factors)
    point = product.random_point()
    vector = product.random_tangent_vector(point)
    squared = sum(space.norm(x, v) ** 2 for space, x, v in zip(factors, point, vector, strict=True))
    assert_allclose(product.norm(point, vector) ** 2, squared, rtol=1e-12)
    assert product.dim == 13
