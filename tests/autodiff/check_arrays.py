"""Methods of spaces and metrics take the arrays of the backend and give them back."""

import geomstats.backend as gs
import numpy as np
import pytest

from dln_manifolds import BalancedManifold, DLNObservableManifold, InvalidPointError

ON_TORCH = gs.__name__.endswith("pytorch")
SPACES = [
    DLNObservableManifold(2, 2.5),
    BalancedManifold(2, 3),
    BalancedManifold(widths=(3, 2, 3), rank=1),
]


def points(space):
    """Three points, three tangent vectors and another three points."""
    point = space.random_point(3)
    vector = 0.2 * space.random_tangent_vec(point)
    return point, vector, space.metric.exp(vector, point)


def results(space):
    """Results of the methods that both spaces have."""
    point, vector, other = points(space)
    metric = space.metric
    yield "point", point
    yield "vector", vector
    yield "belongs", space.belongs(point)
    yield "is_tangent", space.is_tangent(vector, point)
    yield "to_tangent", space.to_tangent(vector, point)
    yield "projection", space.projection(point)
    yield "projection of a vector", space.projection(point, vector)
    yield "regularize", space.regularize(point)
    yield "inner_product", metric.inner_product(vector, vector, point)
    yield "squared_norm", metric.squared_norm(vector, point)
    yield "norm", metric.norm(vector, base_point=point)
    yield "normalize", metric.normalize(vector, point)
    yield "exp", other
    yield "log", metric.log(other, point)
    yield "dist", metric.dist(point, other)
    yield "squared_dist", metric.squared_dist(point, other)
    yield "dist_broadcast", metric.dist_broadcast(point[:2], other)
    yield "dist_pairwise", metric.dist_pairwise(point)
    yield "closest_neighbor_index", metric.closest_neighbor_index(point[0], other)
    times = gs.linspace(0.0, 1.0, 2)
    yield "geodesic between points", metric.geodesic(point, end_point=other)(times)
    yield "geodesic", metric.geodesic(point, initial_tangent_vec=vector)(0.5)
    yield "parallel_transport", metric.parallel_transport(vector, point, direction=vector)
    yield "jacobi_field", metric.jacobi_field(vector, vector, point, t=times)
    yield "exp_adjoint", metric.exp_adjoint(vector, vector, point)
    yield "exp_inverse", metric.exp_inverse(vector, vector, point)
    yield "conjugate_time", metric.conjugate_time(vector, point)
    yield "injectivity_radius", metric.injectivity_radius(point)
    yield "random_unit_tangent_vec", metric.random_unit_tangent_vec(point[0], 2)
    yield "normal_basis", metric.normal_basis(vector, point)
    yield "connection", metric.connection(vector, vector, point)
    yield "curvature", metric.curvature(vector, vector, vector, point)
    yield "directional_curvature", metric.directional_curvature(vector, vector, point)
    yield "sectional_curvature", metric.sectional_curvature(vector, vector, point)
    yield "scalar_curvature", metric.scalar_curvature(point)
    yield "ricci_tensor", metric.ricci_tensor(point)
    yield "riemann_tensor", metric.riemann_tensor(point)
    yield "entropy", space.entropy(point)
    yield "volume_density", space.volume_density(point)
    yield "entropy_gradient", space.entropy_gradient(point)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_arrays_of_the_backend(space, array_type, record):
    dtypes = {gs.zeros(1).dtype, gs.array([True]).dtype, gs.array([1]).dtype}
    gs.random.seed(0)
    for name, value in results(space):
        assert isinstance(value, array_type | np.generic if not ON_TORCH else array_type), name
        assert value.dtype in dtypes, name
        if name == "point":
            break
    # Backends draw different numbers: what is compared starts from the same points.
    numbers = np.random.default_rng(0).normal(size=(2, 3, *space.shape))
    point = space.projection(gs.array(numbers[0]))
    vector = 0.2 * space.to_tangent(gs.array(numbers[1]), point)
    record("exp", space.metric.exp(vector, point))
    record("entropy", space.entropy(point))


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_every_result_is_an_array_of_the_backend(space, array_type):
    for name, value in results(space):
        assert isinstance(value, array_type) or (not ON_TORCH and np.isscalar(value)), name


def test_observable_metric(array_type):
    space = SPACES[0]
    point, vector, _ = points(space)
    metric = space.metric
    for value in (
        metric.inner_coproduct(vector, vector, point),
        metric.metric_matrix(point),
        metric.cometric_matrix(point),
        metric.log_volume_density(point),
        metric.volume_density(point),
    ):
        assert isinstance(value, array_type)


@pytest.mark.parametrize("space", SPACES[1:], ids=str)
def test_layers(space, array_type):
    point, vector, other = points(space)
    matrix, along = space.end_to_end(point), space.push_forward(vector, point)
    bundle, shape = space.fiber_bundle, space.stratum.chain.group_shape
    group = np.resize(np.eye(2), shape)
    for value in (
        matrix,
        along,
        space.factor(matrix),
        space.horizontal_lift(along, point),
        space.horizontal_projection(vector, point),
        space.vertical_projection(vector, point),
        space.normal_projection(vector, point),
        space.mean_curvature(point),
        space.balance(point),
        *space.layers(point),
        space.point(list(space.layers(point))),
        space.entropy_hessian(vector, point),
        space.act(gs.array(group), point),
        *space.jacobi_basis(point[0]),
        bundle.riemannian_submersion(point),
        bundle.lift(matrix),
        bundle.tangent_riemannian_submersion(vector, point),
        bundle.horizontal_lift(along, fiber_point=point),
        bundle.align(other, point),
        bundle.integrability_tensor(vector, vector, point),
    ):
        assert isinstance(value, array_type)
    assert all(bundle.is_horizontal(space.horizontal_projection(vector, point), point))


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_results_follow_the_arguments(space):
    point, vector = (np.asarray(array) for array in points(space)[:2])
    assert isinstance(space.metric.exp(vector, point), np.ndarray)
    # pymanopt hands over NumPy arrays on every backend.
    assert isinstance(space.retraction(point[0], vector[0]), np.ndarray)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_failures_are_typed(space):
    assert not gs.any(space.belongs(gs.zeros((3, *space.shape))))
    assert not space.belongs(gs.zeros(2))
    with pytest.raises(InvalidPointError, match="base_point"):
        space.metric.exp(gs.zeros(space.shape), gs.zeros(space.shape))


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_ragged_lists_do_not_belong(space):
    point = points(space)[0]
    for ragged in ([point[0], gs.zeros(2)], [[gs.zeros(2)], gs.zeros(3)], [[1, 2], [3]]):
        assert not space.belongs(ragged)
        assert not space.flattened().belongs(ragged)
        with pytest.raises(InvalidPointError):
            space.metric.dist(point[0], ragged)


@pytest.mark.skipif(not ON_TORCH, reason="tensors only")
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_tensors_that_numpy_does_not_have(space):
    point = points(space)[0][0]
    tensor = point.reshape(2, -1).to_sparse()
    assert not space.belongs(tensor)
    assert not space.is_tangent(tensor, point)
    with pytest.raises(InvalidPointError, match=r"\.to_dense\(\)"):
        space.metric.dist(point, tensor)


@pytest.mark.skipif(not ON_TORCH, reason="tensors only")
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_tensors_keep_their_precision_and_may_come_in_lists(space):
    point, _, other = points(space)
    single = space.metric.dist(space.projection(point.float()), space.projection(other.float()))
    assert str(single.dtype) == "torch.float32"
    assert gs.allclose(single.double(), space.metric.dist(point, other), atol=1e-5)
    assert space.metric.dist([point[0], point[1]], [other[0], other[1]]).shape == (2,)
    assert space.entropy(point.requires_grad_()).requires_grad
